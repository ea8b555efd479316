"""The committed electricity data: the contents of the file, and how its times are derived."""

import io
import zipfile

import pandas as pd
import pytest

from configs.settings import ROOT
from data.electricity import rebuild


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return pd.read_parquet(ROOT / "data" / "electricity" / "electricity.parquet")


def test_every_half_hour_is_there_once_and_matches_its_period(rows):
    assert len(rows) == 45_312
    assert rows["half_hour"].is_unique
    local = rows["at"].dt.tz_convert("Australia/Brisbane")
    assert (local.iloc[0], local.iloc[-1]) == (
        pd.Timestamp("1996-05-07", tz="Australia/Brisbane"),
        pd.Timestamp("1998-12-06 23:30", tz="Australia/Brisbane"),
    )
    assert set(rows["at"].diff().dropna()) == {pd.Timedelta(30, "min")}
    position = local.dt.hour * 2 + local.dt.minute // 30
    assert (rows["period"] - position / 47).abs().max() < 1e-5


def test_it_is_elec2_as_published(rows):
    """Harries 1999: 58 % of the labels are DOWN. The no-change classifier's accuracy is .853 in Zliobaite 2013."""
    assert (rows["up"] == 0).mean() == pytest.approx(0.5755, abs=1e-4)
    assert (rows["up"] == rows["up"].shift()).mean() == pytest.approx(0.853, abs=1e-3)
    before = rows[rows["at"] < pd.Timestamp("1997-05-01", tz="Australia/Brisbane")]
    assert before[["vic_price", "vic_demand", "transfer"]].nunique().tolist() == [1, 1, 1], "Victoria joins in May 1997"


def test_rows_that_are_not_consecutive_half_hours_are_refused():
    csv = b"feat_1,feat_2,feat_3,feat_4,feat_5,feat_6,target\n0.0,0,0,0,0,0,1\n0.042553,0,0,0,0,0,1\n"
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("skmultiflow/data/datasets/elec.csv", csv)
    with pytest.raises(rebuild.WrongOrder, match=r"row 1 is at 0\.042553 of its day, expected 0\.021277"):
        rebuild.build_tables(wheel.getvalue())
