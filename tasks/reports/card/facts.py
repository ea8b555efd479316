"""What other pages show of a version: a JSON file beside its card."""

import json
from collections.abc import Mapping

from tasks.contracts import Training, Version
from tasks.contracts.words import without_credentials
from tasks.reports.card.limits import limits
from tasks.reports.pages.template import facts_name
from tasks.resources import LiveResources
from tasks.storage.files import replacing


def write_facts(training: Training, version: Version, importance: Mapping[str, float], res: LiveResources) -> None:
    """Write what other pages show of a version: its recipe, its training rows, the importances, and the texts of its config."""
    recipe, lineage = version.recipe, res.registry.document(version.run_id, "lineage.json")
    params = ", ".join(f"{k}={v}" for k, v in sorted(recipe.params.items()))
    facts = {
        "version": version.version,
        "recipe": f"{recipe.estimator} ({recipe.candidate}), {params or 'defaults'}, calibration {recipe.calibration}",
        "window": [version.window_start.isoformat(), version.window_end.isoformat()],
        "rows": version.rows,
        "as_of": version.as_of.isoformat(),
        "digest": version.digest,
        "learned": [[part["partition"], part["rows"], part["digest"][:16]] for part in lineage["learned"]],
        "packages": lineage["packages"],
        "importance": dict(sorted(importance.items(), key=lambda item: -item[1])),
        "limits": limits(training, version, lineage.get("labelled", version.rows), res),
        **_texts(res),
    }
    with replacing(res.settings.pages / facts_name(res.config.name, version.version)) as draft:
        draft.write_text(json.dumps(facts) + "\n", encoding="utf-8")


def _texts(res: LiveResources) -> dict[str, str]:
    """Return model.yaml, the files that it extends and the SQL, without credentials; nothing if there are personal columns."""
    if res.config.personal:
        return {"config": "", "sql": ""}
    config = "\n".join(path.read_text(encoding="utf-8") for path in res.model.files)
    return {
        "config": without_credentials(config),
        "sql": without_credentials(f"{res.model.source_sql}\n{res.model.labels_sql}"),
    }
