"""Addresses in Prefect's UI, read back as its two interfaces read them. tests/browser/test_prefect_links.py opens them."""

import json
import subprocess
import sys
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from configs.settings import Settings
from tasks.contracts.links import run_form_url, run_url, runs_url

SETTINGS = Settings(prefect_link="https://prefect.example/")
DEPLOYMENT = {"id": "0bde525f-9ce0-5243-9ee8-6d2ac9a7fdee", "parameters": {"model": "flights", "by": "somebody"}}


def query(url: str) -> dict[str, list[str]]:
    """The parameters of an address, decoded once."""
    return parse_qs(urlsplit(url).query, strict_parsing=True)


def test_a_run_has_an_address_in_the_default_interface() -> None:
    assert run_url(SETTINGS.prefect_ui, "8fd3") == "https://prefect.example/v2/runs/flow-run/8fd3"


def test_the_list_of_runs_has_the_tag_for_both_interfaces() -> None:
    url = runs_url(SETTINGS.prefect_ui, ["drift"])
    assert url.startswith("https://prefect.example/v2/runs?")
    assert query(url)["tags"] == query(url)["tag"] == ["drift"]


def test_several_tags_are_separated_as_each_interface_reads_them() -> None:
    url = runs_url(SETTINGS.prefect_ui, ["flights", "drift"])
    assert query(url)["tags"] == ["flights,drift"]
    assert query(url)["tag"] == ["flights", "drift"]


def test_v1_shows_a_year_instead_of_a_week() -> None:
    assert query(runs_url(SETTINGS.prefect_ui, ["drift"]))["seconds"] == ["-31536000"]


def test_a_tag_of_digits_is_text_in_v2_which_reads_its_parameters_as_json() -> None:
    url = runs_url(SETTINGS.prefect_ui, ["2013"])
    assert json.loads(query(url)["tags"][0]) == "2013"
    assert query(url)["tag"] == ["2013"]


def test_the_name_of_the_runs_can_be_a_part_between_spaces() -> None:
    url = runs_url(SETTINGS.prefect_ui, ["drift"], " flights ")
    assert query(url)["flow-run-search"] == [" flights "]
    assert "+" not in url  # V1's router would keep it


@pytest.mark.parametrize(
    "value", ["2013-05", "100% sure", "%41", "50%25", "a+b & c=d #1", 'Zürich "x"', "</script>", "\\u0025"]
)
@pytest.mark.parametrize("times", [1, 2])
def test_a_filled_in_value_survives_one_and_two_decodings(value: str, times: int) -> None:
    text = urlsplit(run_form_url(SETTINGS.prefect_ui, DEPLOYMENT, {"reason": value})).query.removeprefix("parameters=")
    for _ in range(times):
        text = unquote(text, errors="strict")
    assert json.loads(text)["reason"] == value


def test_a_form_keeps_the_parameters_of_its_deployment() -> None:
    (text,) = query(run_form_url(SETTINGS.prefect_ui, DEPLOYMENT, {"by": "ann", "version": 3}))["parameters"]
    assert json.loads(text) == {"model": "flights", "by": "ann", "version": 3}


def test_links_need_no_prefect() -> None:
    code = "import sys, tasks.contracts.links; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
