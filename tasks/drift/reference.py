"""What a champion learned from, as a sample that later partitions are compared with."""

from typing import TYPE_CHECKING

from tasks.contracts import Promotion, Stage
from tasks.features import predict
from tasks.lake import replacing
from tasks.resources import Resources

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
    """Evenly spaced rows of the window, oldest first, so that every day has its share."""
    import pandas as pd

    config = res.config
    version = res.registry.version(champion.version)
    keys = [k for k in res.lake.keys(Stage.VALID) if version.window_start <= res.ref(k).start < version.window_end]
    records = [r for k in keys if (r := res.lake.record(Stage.VALID, k)) and r.status == "done"]
    step = max(1, sum(r.rows for r in records) // config.monitoring.sample_rows)
    rows = pd.concat([res.lake.read(Stage.VALID, r.partition).iloc[::step] for r in records], ignore_index=True)
    scored = predict(res.registry.load(champion.version), rows, config.features)
    return rows[list(config.features.all)].assign(prediction=scored)
