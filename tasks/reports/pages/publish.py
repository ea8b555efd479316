"""Write a model's pages and the index if they have changed. Everything on them comes from records and the ledger.

.evergreen/pages/index.html                 all models
                 <model>.html               one model, and its content as <model>.json
                 <model>-partitions.html    steps and data quality      <model>-drift.html      columns by partition
                 <model>-decisions.html     signals and decisions       <model>-versions.html   champions, comparison, lineage
                 <model>-ledger.html        all entries                 <model>-data.html       its data
                 <model>-v3.html            the card of a version
                 <model>/*.json             what the charts are drawn from
                 assets/                    style, script and chart library
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from configs.settings import Settings
from tasks.contracts import Stage
from tasks.orchestration.schedules import Schedule
from tasks.reports.pages import decisions, drift_map, ledger, model, steps, versions
from tasks.reports.pages.catalogue import describe_data, render_data
from tasks.reports.pages.documentation import render_documentation
from tasks.reports.pages.hub import read_pages, render_hub
from tasks.reports.pages.template import ASSETS, HERE, asset, documentation_name, render_template, with_stage
from tasks.reports.summary import PartitionSummary, recent_keys, summarise
from tasks.resources import Resources
from tasks.storage.files import digest_json, replacing
from tasks.storage.folders import make_folder

LAYOUT_VERSION = 10
"""Raise it when a template changes: pages of another version are written again."""


def refresh_pages(
    res: Resources, schedules: Sequence[Schedule] | None = None, forms: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any] | None:
    """Write a model's pages and the index if they have changed. A variant and a replay have no pages.

    Args:
        res: The resources of the model.
        schedules: The active schedules of the model's deployments; None if Prefect did not answer.
        forms: See `model.describe`.

    Returns:
        The content of the model's page; None if nothing has changed.
    """
    if not res.pages or res.variant.name:
        return None
    folder, name = res.settings.pages, res.config.name
    with FileLock(make_folder(folder) / ".lock"):  # an older state must not overwrite a newer one
        shown = summarise(res, recent_keys(res, model.NEWEST), with_decay=False)
        files = dict(_data_files(res, shown, forms))
        page, data = model.describe(res, schedules, forms, shown, files), describe_data(res)
        digest = digest_json([LAYOUT_VERSION, page, data, files])
        if changed := _written_digest(folder, name) != digest:
            _write_assets(folder)
            for path, text in [
                *_files_by_partition(res, files),
                *_files_by_version(res, page, files["versions"], shown),
                *_json_files(name, files),
                *_html_files(page, data, files),
            ]:
                _write(folder / path, text)
            _delete_others(folder / name / "quarantine", files["checks"]["quarantine"])
            _delete_others(folder / name / "drift", files["drift"]["verdicts"])
            content = {"layout_version": LAYOUT_VERSION, "digest": digest, "page": page}
            _write(folder / f"{name}.json", json.dumps(content, indent=1) + "\n")
        refresh_hub(res.settings)
    return page if changed else None


def _data_files(
    res: Resources, shown: Sequence[PartitionSummary], forms: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, Any]]:
    """Yield the content of each file of the model's folder, by name."""
    keys, name = [s.key for s in shown], res.config.name
    entries, full = ledger.ledger_entries(res)
    listed = {"caption": "the ledger, newest first", "filters": [3, 6, 7], "name": f"{name}-ledger"}
    yield from model.data_files(res, shown).items()
    yield "steps", steps.steps_by_partition(res, keys)
    yield "drift", drift_map.drift_by_column(res, keys)
    yield "decisions", decisions.decision_listing(res)
    yield "versions", versions.describe_versions(res, shown)
    yield "ledger", {**listed, "columns": ledger.COLUMNS, "rows": entries}
    yield "ledger-full", full
    yield "forms", {"forms": list(forms), "partitions": keys}


def _json_files(name: str, files: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for file, content in files.items():
        shown = {k: v for k, v in content.items() if k != "verdicts"} if isinstance(content, dict) else content
        yield f"{name}/{file}.json", json.dumps(shown, separators=(",", ":")) + "\n"


def _files_by_partition(res: Resources, files: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the files with one partition's drift or quarantine whose source has changed since they were written."""
    name, folder = res.config.name, res.settings.pages
    sources = {f"{name}/drift/{key}.json": (verdict, key) for key, verdict in files["drift"]["verdicts"].items()}
    for path, (verdict, key) in sources.items():
        stamp = digest_json([LAYOUT_VERSION, verdict, drift_map.distributions_digest(res, key)])
        if _stamp(folder / path) != stamp:
            yield path, json.dumps({"stamp": stamp, **drift_map.partition_drift(res, key, verdict)}) + "\n"
    for key, own in files["checks"]["quarantine"].items():
        record = res.lake.record(Stage.VALID, key)
        stamp = digest_json([LAYOUT_VERSION, dict(record.inputs), dict(record.data["reasons"])]) if record else ""
        if _stamp(folder / own["file"]) != stamp:
            yield own["file"], json.dumps({"stamp": stamp, **steps.quarantined_rows(res, key)}) + "\n"


def _files_by_version(
    res: Resources, page: Mapping[str, Any], described: Mapping[str, Any], shown: Sequence[PartitionSummary]
) -> Iterator[tuple[str, str]]:
    """Yield the cards whose line with the stage of today has changed, and the documentation of the versions whose content may have.

    That is every version without documentation, with another stage than on its card, or that scored one of the newest partitions.
    """
    name, folder = res.config.name, res.settings.pages
    for own in described["versions"]:
        card = (folder / own["card"]).read_text(encoding="utf-8") if own["card"] else ""
        today = with_stage(card, own["stage"], own["latest"])
        if today != card:
            yield own["card"], today
        path = documentation_name(name, own["version"])
        due = today != card or own["scored"] or not (folder / path).is_file()
        if due and (text := render_documentation(page, own, shown, res)):
            yield path, text


def _delete_others(folder: Path, keys: Collection[str]) -> None:
    """Delete the files of partitions that the page does not show any more."""
    for path in folder.glob("*.json"):
        if path.stem not in keys:
            path.unlink(missing_ok=True)


def _stamp(path: Path) -> str:
    """Return the digest of the source of a written file; empty if there is none."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["stamp"])
    except (OSError, ValueError, KeyError):
        return ""


def _html_files(
    page: Mapping[str, Any], data: Mapping[str, Any], files: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    name = page["model"]
    yield f"{name}.html", model.render(page)
    yield f"{name}-data.html", render_data(data)
    extra: dict[str, dict[str, Any]] = {
        "partitions": {},
        "drift": {},
        "decisions": {},
        "versions": {
            "timeline": files["versions"]["timeline"],
            "timeline_columns": versions.TIMELINE,
            "unfitted": files["versions"]["unfitted"],
            "versions": versions.version_table(files["versions"]["versions"]),
        },
        "ledger": {"columns": ledger.COLUMNS, "rows": files["ledger"]["rows"][: model.LISTED]},
    }
    for subject, content in extra.items():
        yield f"{name}-{subject}.html", render_template(HERE / f"{subject}.html.j2", page=page, **content)


def _write_assets(folder: Path) -> None:
    for name in ASSETS:
        _write(folder / "assets" / name, asset(name))


def refresh_hub(settings: Settings) -> None:
    """Write the index if it has changed."""
    path, html = settings.pages / "index.html", render_hub(*read_pages(settings.pages, LAYOUT_VERSION))
    if not path.is_file() or path.read_text(encoding="utf-8") != html:
        _write(path, html)


def page_url(res: Resources) -> str:
    """Return the address of a model's page on the page server."""
    return f"{res.settings.pages_ui}/{res.config.name}.html"


def _written_digest(folder: Path, name: str) -> str:
    """Return the digest of the content of the written page; empty if there is none."""
    try:
        return str(json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError):
        return ""


def _write(path: Path, text: str) -> None:
    """Write a file unless it has this content already."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")
