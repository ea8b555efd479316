"""The vendor calls of a `process` run of a month, one after another, each as simple as possible.

DuckDB copies the query to parquet, Great Expectations counts and then lists, scikit-learn and XGBoost predict, Evidently makes the
page and adds it to its workspace, matplotlib draws two charts, jinja2 renders a page, and Prefect runs a flow with as many tasks
and artifacts.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from configs.load import load_model
from configs.schema import ModelConfig
from tasks.storage.partitions import partition

if TYPE_CHECKING:
    import pandas as pd


def month(key: str) -> None:
    import duckdb
    import pandas as pd

    model = load_model("flights")
    config, ref = model.config, partition(load_model("flights").config, key)
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.parquet"
        with duckdb.connect(config={"threads": 2}) as con:
            con.execute("SET TimeZone = 'UTC'")
            for name, table in config.source.views.items():
                path = table.path.replace("%Y-%m", "2013-0[34]") if table.every else table.path
                con.execute(f"CREATE VIEW {name} AS FROM read_parquet('{path}')")
            query = model.source_sql.strip().rstrip(";")
            con.execute(f"COPY ({query}) TO '{raw}' (FORMAT parquet)", {"start": ref.start, "end": ref.end})
        rows = pd.read_parquet(raw)
        validate_rows(rows, config)
        rows.to_parquet(Path(folder) / "valid.parquet")
        predict_rows(rows, config).to_parquet(Path(folder) / "predictions.parquet")
        write_report(rows, config, Path(folder))
        render_pages(Path(folder))
    run_empty_tasks()


def validate_rows(rows: "pd.DataFrame", config: ModelConfig) -> None:
    from tasks.validation.expectations import _batch, _checks, _quarantines, _run, structural_expectations

    checks = list(_checks((*structural_expectations(config), *config.expectations)))
    batch = _batch(rows)
    results = _run(batch, rows, checks, "BASIC")
    pairs = zip(checks, results, strict=True)
    failed = [one for one, result in pairs if _quarantines(one, result)]
    if failed:
        _run(batch, rows, failed, "COMPLETE")


def predict_rows(rows: "pd.DataFrame", config: ModelConfig) -> "pd.DataFrame":
    from skops.io import load

    from tasks.models.estimators import TRUSTED_TYPES
    from tasks.models.features import inputs_of

    (file, *_) = sorted(Path(".evergreen/models").rglob("model.skops"))
    model = load(file, trusted=list(TRUSTED_TYPES))
    predictions = model.predict_proba(inputs_of(rows, config.features))[:, 1]
    return rows[[config.key, config.time]].assign(prediction=predictions)


def write_report(rows: "pd.DataFrame", config: ModelConfig, folder: Path) -> None:
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift
    from evidently.ui.workspace import Workspace

    features = config.features
    past = pd.concat([pd.read_parquet(f"data/lake/flights/valid/2013-0{m}.parquet") for m in (1, 2, 3)])
    definition = DataDefinition(
        numerical_columns=list(features.numeric), categorical_columns=list(features.categorical)
    )
    names = list(features.all)
    sides = [f[names].sample(10_000, random_state=0).reset_index(drop=True) for f in (rows, past)]
    frames = [f.astype(dict.fromkeys(features.categorical, object)) for f in sides]
    metrics = [
        ValueDrift(column=n, method="jensenshannon" if n in features.categorical else "wasserstein", threshold=0.1)
        for n in names
    ]
    report = Report(metrics, include_tests=True)
    snapshot = report.run(*(Dataset.from_pandas(f, data_definition=definition) for f in frames))
    snapshot.save_html(str(folder / "page.html"))
    workspace = Workspace.create(str(folder / "workspace"))
    workspace.add_run(workspace.create_project("flights").id, snapshot)


def render_pages(folder: Path) -> None:
    """Render as many pages as a model has."""
    from jinja2 import Environment, FileSystemLoader

    env = Environment(loader=FileSystemLoader("tasks/reports/pages"), autoescape=True)
    for _ in range(8):
        (folder / "page.html").write_text(env.get_template("base.html.j2").render())


def run_empty_tasks() -> None:
    from prefect import flow, task
    from prefect.artifacts import create_markdown_artifact, create_table_artifact

    @task
    def nothing() -> None: ...

    @flow
    def tasks() -> None:
        for _ in range(6):
            nothing()
        create_table_artifact([{"a": 1}], key="benchmark-table")
        create_table_artifact([{"a": 1}], key="benchmark-drift")
        create_markdown_artifact("nothing", key="benchmark-page")

    tasks()
