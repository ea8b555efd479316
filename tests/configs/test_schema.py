"""The reserved column names are exactly those that the code adds to rows, and a recorded config can be read again."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from configs.load import load_model
from configs.schema import RESERVED_COLUMNS, ModelConfig
from tasks.contracts import Promotion, Recipe, Stage
from tasks.resources import Variant, open_resources
from tasks.steps.collect import COLLECT
from tasks.steps.ingest import INGEST
from tasks.steps.score import score_batch
from tasks.steps.step import advance
from tasks.steps.validate import VALIDATE
from tasks.storage.answer_log import segment_schema
from tasks.training.splits import fit
from tests.conftest import day_file, parcels

DAY = "2024-03-05"


def test_every_column_that_is_written_beside_those_of_the_model_is_reserved(tiny):
    frame = parcels(4)
    frame.loc[0, "weight"] = np.inf
    frame.to_parquet(day_file(tiny, 4), index=False)
    res = open_resources("tiny")
    ref, config = res.ref(DAY), res.config
    for step in (INGEST, VALIDATE, COLLECT):
        advance(step, ref, res)
    rows = parcels(3).dropna(subset="late")
    variant: Any = SimpleNamespace(config=config, variant=Variant({}, "1"))
    model = fit(Recipe("one", "logistic_regression", {}), rows, res)
    row = Promotion("tiny", 1, "promote", "1", None, ref.as_of, ref.start, "a person", "a reason")
    valid = pa.Table.from_pandas(res.lake.read(Stage.VALID, DAY))
    written = {
        "predictions": score_batch(valid, model, row, ref, variant).column_names,
        "labels": list(res.lake.read(Stage.LABELS, DAY)),
        "quarantined rows": list(pd.read_parquet(res.lake.path(Stage.QUARANTINE, DAY))),
        "served rows": segment_schema(config).names,
    }
    own = {*config.columns, config.target.column}
    added = {name: {column for column in columns if column not in own} for name, columns in written.items()}
    added["served rows"] -= added["predictions"]
    assert added == {name: {*columns} for name, columns in RESERVED_COLUMNS.items()}


@pytest.mark.parametrize("model", ["flights", "electricity", "electricity_settled"])
def test_the_config_that_is_recorded_with_a_version_can_be_read_again(model):
    """`config.json` of a version has every key, those with their default too. `reproduce` and the gate read it."""
    config = load_model(model).config
    recorded = json.loads(json.dumps(config.model_dump(mode="json")))
    assert ModelConfig.model_validate(recorded) == config
