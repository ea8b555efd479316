"""What the charts and tables of a model's pages are drawn from, against the records, the ledger and the rows."""

import json
import re
import shutil
from itertools import pairwise

import numpy as np
import pytest

from tasks.contracts import Stage
from tasks.contracts.words import change_text
from tasks.reports.pages import publish
from tasks.reports.pages.publish import refresh_pages
from tasks.resources import open_resources
from tasks.steps.drift_verdict import drift_at
from tasks.steps.order import steps_of
from tests.flows.conftest import SHIFTED, STEADY


@pytest.fixture(scope="module")
def res(processed):
    resources = open_resources("tiny")
    shutil.rmtree(resources.settings.pages / "tiny" / "drift", ignore_errors=True)
    refresh_pages(resources)
    return resources


def data(res, name: str):
    return json.loads((res.settings.pages / "tiny" / f"{name}.json").read_text())


def html(res, name: str) -> str:
    return (res.settings.pages / f"{name}.html").read_text()


def test_performance_is_that_of_the_records_with_intervals_and_champions(res):
    shown = data(res, "performance")
    assert [p["key"] for p in shown["partitions"]] == res.lake.keys(Stage.PREDICTIONS)
    for part in shown["partitions"]:
        record = res.lake.record(Stage.PERFORMANCE, part["key"])
        if record is None:
            assert part["metrics"] == {}
            continue
        assert part["metrics"] == pytest.approx(record.data["metrics"], abs=1e-6)
        assert part["skill"] == pytest.approx(record.data["skill"], abs=1e-6)
        if bounds := part["skill_interval"]:
            assert bounds[0] < part["skill"] < bounds[1]
        assert part["prior_loss"] * (1 - part["skill"]) == pytest.approx(part["metrics"][shown["loss"]], abs=1e-5)
    bands = shown["champions"]
    assert (bands[0]["from"], bands[-1]["to"]) == (0, len(shown["partitions"]) - 1)
    assert all(b["from"] == a["to"] + 1 for a, b in pairwise(bands))
    assert bands[0]["gate"].startswith("passed ")


def test_the_calibration_counts_every_matured_row(res):
    for part in data(res, "calibration")["partitions"]:
        record = res.lake.record(Stage.PERFORMANCE, part["key"])
        rows, predicted, observed = np.array(part["bins"]).sum(axis=0)
        assert rows == record.data["mature"]
        assert predicted / rows == pytest.approx(record.data["metrics"]["mean_prediction"], abs=1e-4)
        assert observed / rows == pytest.approx(record.data["metrics"]["base_rate"], abs=1e-4)


def test_each_cell_of_the_grid_is_the_record_of_a_step_and_names_its_run(res):
    shown = data(res, "steps")
    assert shown["partitions"] == res.lake.keys(Stage.RAW)
    for key, cells in zip(shown["partitions"], shown["cells"], strict=True):
        for step, cell in zip(steps_of(res.config), cells, strict=True):
            record = res.lake.record(step.stage, key)
            assert (cell is None) == (record is None), (key, step.verb)
            if record:
                assert cell[0] == "done"
                assert cell[2] == round(record.run.seconds, 1)
                assert shown["runs"][cell[3]] == record.run.flow_run if record.run.flow_run else cell[3] == -1


def test_every_check_of_every_partition_is_shown(res):
    shown = data(res, "checks")
    for key, cells in zip(shown["partitions"], shown["cells"], strict=True):
        findings = res.lake.record(Stage.VALID, key).data["findings"]
        assert len(cells) == len(findings) == len(shown["rules"])
        assert [cell == 0 for cell in cells] == [f["passed"] for f in findings]
    assert len({rule["name"] for rule in shown["rules"]}) == len(shown["rules"])


def test_the_heat_map_marks_exactly_the_columns_that_drifted(res):
    shown = data(res, "drift")
    names = [column["name"] for column in shown["columns"]]
    for key, cells in zip(shown["partitions"], shown["cells"], strict=True):
        verdict = drift_at(res.ref(key), res)
        marked = {name for name, cell in zip(names, cells, strict=True) if cell and cell[1] == 1}
        assert marked == {c["column"] for c in verdict["columns"] if c["drifted"]}, key
    assert "weight" in {
        name
        for name, cell in zip(names, shown["cells"][shown["partitions"].index(SHIFTED)], strict=True)
        if cell[1] == 1
    }
    assert "verdicts" not in shown


def test_a_partitions_distributions_are_those_of_its_rows(res):
    own = data(res, f"drift/{SHIFTED}")
    cities = own["distributions"]["city"]
    rows = res.lake.read(Stage.VALID, SHIFTED)["city"]
    expected = rows.value_counts() / len(rows)
    assert dict(zip(cities["labels"], cities["now"], strict=True)) == pytest.approx(
        dict(expected) | {"missing": rows.isna().mean()}, abs=1e-4
    )
    weight = own["distributions"]["weight"]
    assert "training window" in weight["reference"]
    assert np.argmax(weight["now"]) > np.argmax(weight["then"]), "the shifted day's parcels are heavier"
    assert {signal[0] for signal in own["signals"]} >= {"weight", "city", "distance"}


def test_a_partitions_file_is_written_again_if_its_distributions_changed_and_not_else(res, monkeypatch):
    path = res.settings.pages / "tiny" / "drift" / f"{SHIFTED}.json"
    before, stamp = path.stat().st_mtime_ns, data(res, f"drift/{SHIFTED}")["stamp"]
    (res.settings.pages / "tiny.json").unlink()
    assert refresh_pages(open_resources("tiny")) is not None
    assert path.stat().st_mtime_ns == before
    monkeypatch.setattr(publish.drift_map, "distributions_digest", lambda *_: "of a backfill of watch")
    (res.settings.pages / "tiny.json").unlink()
    refresh_pages(open_resources("tiny"))
    assert data(res, f"drift/{SHIFTED}")["stamp"] != stamp


def test_files_of_partitions_that_are_not_shown_any_more_are_deleted(res):
    old = res.settings.pages / "tiny" / "drift" / "2001-01-01.json"
    old.write_text("{}")
    (res.settings.pages / "tiny.json").unlink()
    refresh_pages(open_resources("tiny"))
    assert not old.exists()
    assert (old.parent / f"{SHIFTED}.json").exists()


def test_every_entry_of_the_chain_is_in_the_ledger_page_and_the_export_has_its_evidence(res):
    chain, rows, full = res.ledger.chain(), data(res, "ledger")["rows"], data(res, "ledger-full")
    assert [row[0] for row in rows] == [entry.number for entry in reversed(chain)]
    assert [row[-1] for row in rows] == [entry.hash[:12] for entry in reversed(chain)]
    assert [entry["hash"] for entry in full] == [entry.hash for entry in reversed(chain)]
    staged = next(e["content"] for e in full if e["kind"] == "promotion" and e["content"]["action"] == "stage")
    assert staged["evidence"]["verdicts"]
    by = {row[6] for row in rows}
    assert by == {"automation"}, by
    assert {row[3] for row in rows} >= {"stage change", "signal"}
    page = html(res, "tiny-ledger")
    assert "make audit MODEL=tiny" in page
    assert rows[0][5] in page, "the newest entries are in the page itself"


def test_versions_are_compared_by_the_numbers_of_the_gate(res):
    shown = data(res, "versions")
    champion = res.ledger.champion()
    own = next(v for v in shown["versions"] if v["version"] == champion.version)
    assert own["stage"] == "champion"
    evidence = (
        champion.evidence
        if champion.evidence.get("verdicts")
        else next(
            r.evidence for r in res.ledger.promotions() if r.version == champion.version and r.evidence.get("verdicts")
        )
    )
    assert own["gate"].keys() == {v["rule"] for v in evidence["verdicts"]}
    card = evidence["scorecards"][evidence["judged"]]
    assert own["metrics"]["log_loss"].startswith(f"{card['metrics']['log_loss']:.4f} [")
    assert own["scored"] == res.lake.keys(Stage.PREDICTIONS)
    facts = json.loads((res.settings.pages / own["file"]).read_text())
    assert facts["digest"] == champion.evidence["digest"]
    assert "name: tiny" in facts["config"]
    assert [part for part, _, _ in facts["learned"]] == sorted(part for part, _, _ in facts["learned"])


def test_a_card_shows_the_stage_of_today(res):
    champion = res.ledger.champion()
    assert f'<p id="stage">Stage today: champion. Newest event: {change_text(champion)}: {champion.reason}</p>' in html(
        res, f"tiny-v{champion.version}"
    )
    path = res.settings.pages / f"tiny-v{champion.version}.html"
    versions = res.settings.pages / "tiny" / "versions.json"
    versions.write_text(versions.read_text().replace('"stage":"champion"', '"stage":"challenger"'))
    path.write_text(re.sub("Stage today: [^<]*", "Stage today: challenger", path.read_text()))
    (res.settings.pages / "tiny.json").unlink()
    refresh_pages(open_resources("tiny"))
    assert "Stage today: champion. " in path.read_text()


def test_the_documentation_of_the_champion_has_the_headings_of_annex_iv(res):
    champion = res.ledger.champion()
    page = html(res, f"tiny-v{champion.version}-documentation")
    assert [int(n) for n in re.findall(r"<h2>(\d)\. ", page)] == list(range(1, 10))
    assert "To be completed by the provider." in page
    for text in (res.config.description.strip(), champion.evidence["digest"], f"{STEADY}", "became champion as of"):
        assert text in page, text
    assert "<script" not in page


@pytest.mark.parametrize("name", ["", "-partitions", "-drift", "-decisions", "-versions", "-ledger", "-data"])
def test_a_page_loads_only_files_beside_it(res, name):
    page = html(res, f"tiny{name}")
    loaded = re.findall(r'(?:src|data-src)="([^"]+)"|<link[^>]* href="([^"]+)"', page)
    for address in (a or b for a, b in loaded):
        assert address == "data:," or (res.settings.pages / address.partition("?")[0]).is_file(), address
    assert "default-src 'none'; script-src 'self'" in page
    assert "unsafe" not in page
    assert not re.search(r"<script(?![^>]* src=)|\son\w+=|style=", page), "nothing that the policy would block"
