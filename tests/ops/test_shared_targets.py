"""`make lint` refuses targets of `publish` that two models cannot share."""

import shutil

import pytest
import yaml

from ops.check import same_names, shared_targets

TABLE = {"connection": "warehouse", "table": "ml.outputs"}


def publish(tiny, name: str, **sinks) -> None:
    """Make a model with these sinks, a copy of the tiny one."""
    folder = tiny / "configs" / name
    if name != "tiny":
        shutil.copytree(tiny / "configs" / "tiny", folder)
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"name": name, "publish": sinks}))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (TABLE, TABLE, ""),
        (TABLE, TABLE | {"output": "quarantine"}, "choose another table"),
        ({"path": "x/{partition}.parquet"}, {"path": "x/{partition}.parquet"}, "add {model} to its path"),
        ({"path": "x/{model}/{partition}.parquet"}, {"path": "x/{model}/{partition}.parquet"}, ""),
        ({"delta": "x"}, {"delta": "y"}, ""),
    ],
)
def test_two_models_share_only_a_table_of_the_same_output(tiny, first, second, message):
    publish(tiny, "tiny", one=first)
    publish(tiny, "other", two=second)
    problems = list(shared_targets(["tiny", "other"]))
    assert len(problems) == bool(message)
    if message:
        assert "configs/other/model.yaml: publish.two: " in problems[0]
        assert "is also that of tiny: publish.one" in problems[0]
        assert message in problems[0]


def test_names_that_are_one_in_prefect_are_refused():
    (problem,) = same_names(["s-a_b", "s_a-b", "store-a", "store-b"])
    assert problem.startswith("the models s-a_b and s_a-b differ in - and _ only")
