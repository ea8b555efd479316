"""What a champion learned from, as a sample that later partitions are compared with."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from tasks.contracts import Promotion, Stage
from tasks.features import predict
from tasks.lake import replacing
from tasks.resources import Resources
from tasks.targets import prediction_columns

if TYPE_CHECKING:
    import pandas as pd


def reference(champion: Promotion, res: Resources) -> "pd.DataFrame":
    """Features and predictions of a deterministic sample of the champion's training rows.

    Kept in the lake by the version and its digest; made again when it is not there. The
    predictions are those of rows it was fitted on, so they are a little surer than new ones.

    Raises:
        MissingPartition: a partition of the training window is gone.
    """
    import pandas as pd

    path = res.lake.root / "reference" / f"{champion.version}-{champion.evidence.get('digest', '')[:12]}.parquet"
    if not path.is_file():
        frame = _sample(champion, res)
        with replacing(path) as draft:
            frame.to_parquet(draft, compression="zstd", index=False)
    return pd.read_parquet(path)


def _sample(champion: Promotion, res: Resources) -> "pd.DataFrame":
    """The sample, with the champion's predictions."""
    config = res.config
    version = res.registry.recall(champion.version)
    keys = [k for k in res.lake.keys(Stage.VALID) if version.window_start <= res.ref(k).start < version.window_end]
    records = [r for k in keys if (r := res.lake.record(Stage.VALID, k)) and r.status == "done"]
    frames = [res.lake.read(Stage.VALID, r.partition) for r in records]
    rows = learned_sample(frames, config.time, version.window_end, config.monitoring.sample_rows)
    scored = predict(res.load(champion.version), rows, config)
    said = prediction_columns(scored, config.target)["prediction"]
    return rows[list(config.features.all)].assign(prediction=said)


def learned_sample(frames: Sequence["pd.DataFrame"], time: str, end: datetime, most: int) -> "pd.DataFrame":
    """Evenly spaced rows from before `end`, in the order given, so that every day has its share; about `most` rows."""
    import pandas as pd

    learned = [f[f[time] < end] for f in frames]
    step = max(1, sum(map(len, learned)) // most)
    return pd.concat([f.iloc[::step] for f in learned], ignore_index=True)
