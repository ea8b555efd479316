"""Texts that people read: hostile ones are shown as they are everywhere, and those that are read later are still true.

One story: a person requests a retraining, the challenger waits for an approval, gets it, and is rolled back from. Names, reasons and the
categories of one day contain scripts, links, tables and escapes.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prefect.client.orchestration import get_client
from rich.console import Console
from rich.markdown import Markdown

from flows.assess import assess
from flows.audit import audit
from flows.process import process
from flows.promote import promote
from flows.retrain import retrain
from flows.rollback import rollback
from ops.status import print_or_error
from ops.status_servers import Deployments
from ops.tables import decision_table, gate_table, year_table
from tasks.contracts import Stage
from tasks.contracts.escape import one_line
from tasks.reports.summary import summarise
from tasks.resources import LiveResources, open_resources
from tests.conftest import day_file, set_up_copy
from tests.flows.test_stages import configure, day, trained  # noqa: F401  (a fixture)
from tests.hostile import HOSTILE, Elements, without_layout

pytestmark = pytest.mark.slow

BY, REASON = " ".join(HOSTILE[:4]), " ".join(HOSTILE[4:])
HOSTILE_DAY = 24
ALLOWED = {
    "strong_open",
    "strong_close",
    "code_inline",
    "link_open",
    "link_close",
    "image",
    "softbreak",
    "text",
    "text_special",
}
"""Markdown within a line that our artifacts contain. Links and images are checked by their addresses."""


@dataclass(frozen=True)
class Story:
    """The texts at three moments of the story, and the artifacts of all its runs."""

    res: LiveResources
    waiting: str
    waiting_page: str
    promoted: str
    artifacts: list[dict]


def shown(res: LiveResources) -> str:
    """Return what `make status` and the demo's tables show on a wide terminal, without colours."""
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100_000, highlight=False, emoji=False)
    print_or_error(res.config.name, Deployments(), [], console)
    changes, rows = res.ledger.promotions(), summarise(res)
    decisions = {d.fact_id: d for d in res.ledger.decisions()}
    console.print(year_table(rows), decision_table(rows, decisions, changes), gate_table(changes))
    return re.sub(r"\x1b\[[\d;]*m", "", output.getvalue())


def artifacts_since(known: set[str]) -> list[dict]:
    with get_client(sync_client=True) as client:
        body = {"sort": "CREATED_DESC", "limit": 200}
        return [a for a in client.request("POST", "/artifacts/filter", json=body).json() if a["id"] not in known]


@pytest.fixture(scope="module")
def story(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:  # noqa: F811
    folder = tmp_path_factory.mktemp("texts")
    with pytest.MonkeyPatch.context() as patch:
        set_up_copy(trained, folder, patch)
        known = {a["id"] for a in artifacts_since(set())}
        path = day_file(folder, HOSTILE_DAY - 1)
        rows = pd.read_parquet(path)
        rows.assign(city=np.resize(np.array(HOSTILE, object), len(rows))).to_parquet(path, index=False)
        process(model="tiny", partition=day(HOSTILE_DAY))
        assess(model="tiny", partition=day(HOSTILE_DAY))
        configure(folder, approval=True)
        retrain(model="tiny", by=BY, reason=REASON)
        res = open_resources("tiny")
        waiting, page = shown(res), (res.settings.pages / "tiny.html").read_text()
        promote(model="tiny", by=BY, reason=REASON)
        promoted = shown(res)
        rollback(model="tiny", by=BY, reason=REASON)
        audit(model="tiny")
        yield Story(open_resources("tiny"), waiting, page, promoted, artifacts_since(known))


def test_a_staged_version_is_shown_with_what_it_waits_for_and_later_with_what_became_of_it(story: Story) -> None:
    request = next(r for r in story.res.ledger.promotions() if r.action == "request")
    decision = f"retrained: v{request.version}, waits for approval since {request.as_of:%Y-%m-%d}"
    assert decision in story.waiting
    assert "in shadow" not in story.waiting
    challenger = (
        f"challenger: version {request.version}, staged as of {request.as_of:%Y-%m-%d}: waits for a person's approval"
    )
    assert challenger in story.waiting
    assert decision in story.waiting_page
    sentence = (
        f"Version {request.version} is challenger since {request.as_of:%Y-%m-%d}: waits for a person&#39;s approval."
    )
    assert sentence in story.waiting_page
    (row,) = [r for r in story.res.ledger.promotions() if r.action == "promote" and r.version == request.version]
    assert f"retrained: v{row.version}, became champion as of {row.as_of:%Y-%m-%d}" in story.promoted


def test_after_a_rollback_one_version_has_the_stage_champion_in_mlflow(story: Story) -> None:
    res = story.res
    versions = res.registry.client.search_model_versions("name='tiny'")
    stages = {str(v.version): v.tags["evergreen.stage"] for v in versions}
    first, second, last = (row.version for row in res.ledger.champions())
    assert last == first
    assert {v: s for v, s in stages.items() if s == "champion"} == {first: "champion"}
    assert stages[second] == "retired"
    runs = [res.registry.client.get_run(v.run_id).data.tags["evergreen.stage"] for v in versions]
    assert runs.count("champion") == 1


def test_each_version_has_its_own_card_whose_text_stays_true(story: Story) -> None:
    """The judged version and its refit: number, digest and window are those of the card's version."""
    res = story.res
    for row in res.ledger.champions()[:2]:
        refit = res.registry.version(row.version)
        assert refit.judged_as
        for version in (refit, res.registry.version(refit.judged_as)):
            text = Elements((res.settings.pages / f"tiny-v{version.version}.html").read_text()).text
            assert f"tiny,version{version.version}" in text
            assert version.digest in text
            assert without_layout(f"{version.rows:,} labelled rows from {version.window_start:%Y-%m-%d}") in text
            assert "ischampion" not in text
        description = res.registry.client.get_run(refit.run_id).data.tags["mlflow.note.content"]
        assert " is champion" not in description


def test_the_terminal_shows_names_and_reasons_as_they_are(story: Story) -> None:
    text = without_layout(story.promoted)
    assert without_layout(one_line(REASON)) in text
    assert without_layout(f"requested by {one_line(BY)}") in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", story.promoted)


def test_no_page_has_an_element_an_attribute_or_an_address_of_the_data(story: Story) -> None:
    pages = sorted(story.res.settings.pages.glob("*.html"))
    assert {p.name for p in pages} >= {"index.html", "tiny.html", "tiny-data.html"}
    for path in pages:
        page = Elements(path.read_text())
        assert not {"script", "svg", "iframe", "object"} & set(page.tags), path
        assert not [name for name in page.attributes if name.startswith("on")], path
        assert not [a for a in page.addresses if "attacker" in a or a.startswith("javascript")], path
        assert all(address.startswith("data:") for address in re.findall(r"<img[^>]* src=\"([^\"]*)", path.read_text()))
    assert without_layout(BY) in Elements((story.res.settings.pages / "tiny.html").read_text()).text


def test_the_pages_of_drift_reports_have_the_elements_of_a_harmless_day(story: Story) -> None:
    tags = [
        Elements(story.res.lake.path(Stage.MONITORING, day(number), "html").read_text()).tags
        for number in (11, HOSTILE_DAY)
    ]
    assert tags[0] == tags[1]


def test_artifacts_show_hostile_texts_as_plain_text(story: Story) -> None:
    """Every text of every artifact of the story, as a reader of Markdown sees it."""
    kinds = {a["key"] for a in story.artifacts}
    assert kinds >= {
        f"tiny-{k}" for k in ("process", "assess", "retrain", "decisions", "train", "promote", "rollback", "audit")
    }
    for artifact in story.artifacts:
        texts = [artifact["description"] or ""] + ([artifact["data"]] if artifact["type"] == "markdown" else [])
        for text in texts:
            blocks = Markdown(text).parsed
            assert not [
                b.type for b in blocks if b.type in ("html_block", "heading_open", "fence", "code_block", "hr")
            ], text
            inline = [child for block in blocks for child in block.children or ()]
            assert {child.type for child in inline} <= ALLOWED, text
            addresses = [str(c.attrs.get("href") or c.attrs.get("src") or "") for c in inline]
            assert not [a for a in addresses if "attacker" in a or a.startswith("javascript")], text
    blocks = [block for a in story.artifacts if a["type"] == "markdown" for block in Markdown(a["data"]).parsed]
    text = "".join(child.content for block in blocks for child in block.children or ())
    assert without_layout(one_line(REASON)) in without_layout(text)
