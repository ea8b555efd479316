"""The version that stands for the champion when the gate judges a challenger: like is compared with like.

A challenger is fitted without its newest days, the holdout. The champion was refitted on all of its window. So a direct comparison would
favour the champion. Instead:

refresh  the version that the gate judged before the champion was refitted: it was fitted without its own newest days, too
change   the champion's recipe, fitted on the challenger's rows. A change of the rows themselves, such as another SQL, is compared with
         the version of a refresh. A change of both must also not be surely worse than that version
"""

from dataclasses import dataclass, replace

from tasks.contracts import Burden, Promotion, Version, Window
from tasks.errors import UnknownVersion
from tasks.ledger.history import last_change, staged_as
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.resources import Resources
from tasks.steps.holdout import judged_version
from tasks.training.definition import (
    CALIBRATION,
    ESTIMATOR,
    FITTED,
    PARAMETERS,
    Definition,
    change_key,
    current_definition,
    differences,
    recorded_definition,
    with_features_of,
)
from tasks.training.fit import fit_reference

REPLACEABLE = frozenset({ESTIMATOR, PARAMETERS, CALIBRATION})
"""Differences of a change that leave model.yaml's data as they are: if it is refused, the champion's recipe can be refreshed instead."""


@dataclass(frozen=True)
class Reference:
    """What a challenger is compared with.

    Attributes:
        champion: The champion's ledger row.
        version: The version that stands for the champion.
        text: Which version that is, in words.
        burden: What the challenger must show.
        differences: What differs between the two recipes.
        key: Identifies the change among the tests of other changes. Empty for a refresh.
        anchor: Another version that the challenger must not be surely worse than, see `Comparison.anchor`.
        refreshed: Whether `version` is the champion's recipe, fitted on the challenger's rows, with nothing else changed in model.yaml.
    """

    champion: Promotion
    version: Version
    text: str
    burden: Burden
    differences: tuple[str, ...] = ()
    key: str = ""
    anchor: Promotion | Version | None = None
    refreshed: bool = False


@as_task("choose what v{challenger.version} is compared with")
def choose_reference(
    challenger: Version, champion: Promotion | None, window: Window, res: Resources
) -> Reference | None:
    """Return what a new challenger is compared with; None without a champion. For a change, this fits the champion's recipe.

    Raises:
        RegistryUnavailable: MLflow does not respond.
    """
    if champion is None:
        return None
    reference = classify(current_definition(challenger.recipe, res), champion, window, res)
    different = set(reference.differences)
    because = f": other {', '.join(reference.differences)}" if different else ""
    run_log().info("a %s of version %s%s", reference.burden, champion.version, because)
    if not different & FITTED:
        return reference
    version = res.registry.cached_version(champion.version)
    fitted = fit_reference(version, challenger, window, with_features_of(version, res))
    return replace(
        reference,
        version=fitted,
        text=f"version {fitted.version}, the recipe of champion {champion.version} on the same rows",
        anchor=reference.version if different - FITTED else None,
        refreshed=different <= REPLACEABLE,
    )


def compare_directly(version: Version, champion: Promotion | None, window: Window, res: Resources) -> Reference | None:
    """Return what a version that exists already is compared with, without fitting anything.

    If it was judged against this champion before, that is what it was compared with then. So no day is tested in two ways.
    """
    if champion is None:
        return None
    evidence = staged_as(version.version, champion, res.ledger.promotions())
    if evidence.get("change") and _exists(number := str(evidence.get("compared", "")), res):
        return Reference(
            champion,
            res.registry.version(number),
            evidence["reference"],
            "change",
            tuple(evidence["differences"]),
            evidence["change"],
        )
    return classify(recorded_definition(version, res), champion, window, res, "as it was judged")


def refresh_reference(champion: Promotion, res: Resources) -> Reference:
    """Return what a refresh of the champion is compared with."""
    judged = _judged(champion, res)
    text = f"champion {champion.version}"
    if judged.version != champion.version:
        text = f"version {judged.version}, as which champion {champion.version} was judged"
    anchor = last_change(res.ledger.promotions())
    known = anchor and anchor.version not in (champion.version, judged.version) and _exists(anchor.version, res)
    return Reference(champion, judged, text, "refresh", anchor=anchor if known else None)


def classify(mine: Definition | None, champion: Promotion, window: Window, res: Resources, *more: str) -> Reference:
    """Return the reference for a definition, among versions that exist.

    Args:
        more: Distinguishes the tests of a change that are made in another way.
    """
    version = res.registry.cached_version(champion.version)
    theirs = recorded_definition(version, res)
    different, reference = differences(mine, theirs, version, window, res), refresh_reference(champion, res)
    if not different:
        return reference
    key = change_key(different, mine, theirs, res.config.gate.gain.block, *more)
    return Reference(champion, reference.version, reference.text, "change", different, key)


def _judged(champion: Promotion, res: Resources) -> Version:
    try:
        return judged_version(champion, res)
    except UnknownVersion:  # it was deleted in MLflow
        return res.registry.cached_version(champion.version)


def _exists(version: str, res: Resources) -> bool:
    try:
        res.registry.version(version)
    except UnknownVersion:
        return False
    return True
