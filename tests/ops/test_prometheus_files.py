"""The alert rules, the configuration for Prometheus and the Grafana board: valid, and only about metrics and labels that exist."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase

from configs.settings import ROOT, Settings
from ops.metrics import PROGRAM
from serving import metrics as serving
from tasks.reports.metrics import METRICS

RULES, CASES, CONFIG = (
    ROOT / "deploy" / "prometheus" / f"{name}.yaml" for name in ("alerts", "alerts_test", "prometheus")
)
BOARD = json.loads((ROOT / "deploy" / "grafana" / "evergreen.json").read_text())
SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds to each series."""


def exported() -> dict[str, set[str]]:
    """Return all series that the metrics program and the scoring server export, with their labels."""
    series = {name: set(metric.labels) for name, metric in {**METRICS, **PROGRAM}.items()} | {"up": set()}
    for metric in vars(serving).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            labels = set(metric._labelnames)
            if isinstance(metric, Histogram):
                series |= dict.fromkeys((f"{family.name}_sum", f"{family.name}_count"), labels)
                series[f"{family.name}_bucket"] = labels | {"le"}
            else:
                series[f"{family.name}_total" if family.type == "counter" else family.name] = labels
    return series


def alerts() -> list[dict]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict]:
    return [panel for panel in BOARD["panels"] if panel["type"] != "row"]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def expressions() -> Iterator[tuple[str, str]]:
    """Yield title and expression of each alert and of each target of the board, with Grafana's variables replaced."""
    for rule in alerts():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", "5m").replace("$__range", "7d").replace("$model", ".*")
            yield panel["title"], text


@pytest.mark.parametrize(("title", "expression"), expressions())
def test_an_expression_uses_only_metrics_and_labels_that_exist(title: str, expression: str) -> None:
    series = exported()
    names = re.findall(r"\b(up|evergreen_\w+)\b(?:\{(.*?)\})?", expression)
    assert names, title
    for name, matchers in names:
        assert name in series, f"{title}: no program exports {name}"
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert labels <= series[name] | SCRAPED, f"{title}: {name} has only {series[name]}"
    grouped = set(re.findall(r"\w+", " ".join(re.findall(r"\b(?:by|on) \((.*?)\)", expression))))
    assert grouped <= set.intersection(*(series[name] for name, _ in names)), title


def test_the_labels_in_a_legend_and_in_a_summary_exist() -> None:
    series = exported()
    for panel in panels():
        for target in panel["targets"]:
            names = re.findall(r"evergreen_\w+", target["expr"])
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= series[names[0]], panel["title"]
    for rule in alerts():
        name = re.findall(r"\b(?:up|evergreen_\w+)\b", rule["expr"])[0]
        used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert used <= series[name] | SCRAPED, rule["alert"]


def test_each_alert_has_a_severity_and_a_section_of_the_docs_to_read() -> None:
    for rule in alerts():
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert anchor in anchors(ROOT / page), f"{rule['alert']}: {page} has no section #{anchor}"


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    quiet, wrong = yaml.safe_load(CASES.read_text())["tests"]
    names = {rule["alert"] for rule in alerts()}
    assert {case["alertname"] for case in quiet["alert_rule_test"] if not case.get("exp_alerts")} == names
    assert {case["alertname"] for case in wrong["alert_rule_test"] if case["exp_alerts"]} == names


def test_each_metric_of_flows_is_on_the_board_or_in_an_alert() -> None:
    used = " ".join(text for _, text in expressions())
    unused = {name for name in {**METRICS, **PROGRAM} if not re.search(rf"\b{name}\b", used)}
    assert unused == {"evergreen_read_seconds"}


def test_the_ports_are_those_of_the_settings() -> None:
    jobs = {
        job["job_name"]: job["static_configs"][0]["targets"]
        for job in yaml.safe_load(CONFIG.read_text())["scrape_configs"]
    }
    own = Settings.model_fields
    assert jobs == {
        "evergreen-metrics": [f"127.0.0.1:{own['metrics_port'].default}"],
        "evergreen-serving": [f"127.0.0.1:{own['serving_port'].default}"],
    }


def test_the_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    cells = [
        (x, y)
        for panel in BOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


@pytest.fixture(scope="module")
def promtool() -> str:
    """Prometheus' own checker, of Debian's package. The workflow that runs the slow tests installs it."""
    path = shutil.which(os.environ.get("EVERGREEN_TEST_PROMTOOL", "promtool"))
    if path is None:
        reason = "no promtool at EVERGREEN_TEST_PROMTOOL; on Debian: apt-get install prometheus"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [("check", "config", CONFIG), ("check", "rules", RULES), ("test", "rules", CASES)]
)
def test_promtool_accepts_rules_cases_and_configuration(promtool: str, arguments: tuple) -> None:
    done = subprocess.run([promtool, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_promtool_parses_the_expressions_of_the_board(promtool: str, tmp_path: Path) -> None:
    rules = [{"record": f"board:{at}", "expr": text} for at, (_, text) in enumerate(expressions())]
    (tmp_path / "board.yaml").write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", str(tmp_path / "board.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
