"""Judge a version again when a person runs `promote`, on the newest data."""

from dataclasses import dataclass, replace
from datetime import datetime

from tasks.contracts import Comparison, GateDecision, Promotion, Version
from tasks.errors import UnknownVersion
from tasks.lifecycle.gate_tasks import judge_challenger
from tasks.lifecycle.shadow import judge_in_shadow, matured_shadow
from tasks.orchestration.prefect_tasks import as_task
from tasks.resources import LiveResources, Resources
from tasks.steps.run_tasks import collect_window
from tasks.training.evaluation import compare_versions
from tasks.training.reference import compare_directly
from tasks.training.window import locate_window


@dataclass(frozen=True)
class Judgement:
    """A new decision, the comparison it is based on, and its as-of."""

    decision: GateDecision
    comparison: Comparison
    as_of: datetime


def select_version(number: str | None, action: str, res: LiveResources) -> Version:
    """Return the version to judge: the named one, else the challenger, or for `adopt` the version of the moved alias.

    Raises:
        UnknownVersion: there is no such version, or it is champion already.
    """
    staged, champion = res.ledger.challenger(), res.ledger.champion()
    if action == "adopt":
        number = number or res.registry.alias()
    number = number or (staged.version if staged else None)
    if number is None:
        raise UnknownVersion(f"{res.config.name}: there is no challenger; name a version")
    if champion and number == champion.version:
        raise UnknownVersion(f"{res.config.name}: version {number} is champion already; there is nothing to {action}")
    return res.registry.version(number)


@as_task("judge v{version.version} again")
def judge_again(version: Version, champion: Promotion | None, as_of: datetime | None, res: Resources) -> Judgement:
    """Judge a challenger on its matured shadow partitions, any other version on the newest holdout."""
    staged = res.ledger.challenger()
    in_shadow = staged and champion and staged.version == version.version
    refs = matured_shadow(staged, champion, res, as_of) if staged and champion and in_shadow else []
    if refs and champion:
        judgement = Judgement(*judge_in_shadow(version, champion, refs, res), as_of or refs[-1].matured)
    else:
        window = collect_window(locate_window(res, as_of), res)
        judged = res.registry.version(version.judged_as) if version.judged_as else version
        reference = compare_directly(version, champion, window, res)
        decision, comparison = judge_challenger(
            compare_versions(judged, reference, window, res), reference, window.as_of, res
        )
        judgement = Judgement(decision, comparison, window.as_of)
    if champion and judgement.as_of < champion.as_of:
        judgement = replace(judgement, as_of=champion.as_of)
    return judgement
