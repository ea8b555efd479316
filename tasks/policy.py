"""Decide whether a fact leads to a retraining, write down why, and later how it ended."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Literal

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from configs.schema import Retraining
from tasks.contracts import Decision, Fact, Promotion, Stage, Training
from tasks.history import asked
from tasks.ledger.store import Ledger, RetrainingInFlight
from tasks.resources import Resources
from tasks.runs import has_ended

Outcome = Literal["promoted", "staged", "refused"]
OUTCOME: dict[str, Outcome] = {"promote": "promoted", "stage": "staged", "request": "staged", "refuse": "refused"}
"""What the last of a retraining's ledger rows makes of it."""


def decide(
    fact: Fact,
    *,
    champion: Promotion | None,
    last: Decision | None,
    in_flight: Decision | None,
    in_shadow: Promotion | None,
    learnable_until: datetime | None,
    rules: Retraining,
) -> Decision:
    """The policy. Touches nothing; every moment in it is as-of time.

    `last` is the newest retraining that ended with a gate's verdict, `in_shadow` the row of a challenger
    that has not yet held up or failed (one that waits for a person does not count), `learnable_until` the end of
    the newest validated partition over at the fact's as-of. The first rule that applies decides.
    """

    def decline(rule: str, reason: str) -> Decision:
        return Decision(fact.id, fact.model, fact.as_of, "decline", rule, reason)

    if not rules.enabled:
        return decline("disabled", "retraining.enabled is false")
    if champion is None:
        return decline("no champion", "there is no champion to replace; run `train`")
    if in_flight:
        return decline("in flight", f"the retraining as of {in_flight.as_of:%Y-%m-%d} has not ended")
    if in_shadow:
        return decline(
            "in shadow", f"version {in_shadow.version} scores in the champion's shadow; it is promoted or refused first"
        )
    since = max([champion.as_of] + ([last.as_of] if last else []))
    if fact.as_of <= since:
        return decline("superseded", f"a training as of {since:%Y-%m-%d} came after what this fact saw")
    if fact.as_of - since < rules.cool_down:
        return decline(
            "cool-down", f"{_days(fact.as_of - since)} since the last training, {_days(rules.cool_down)} must pass"
        )
    if learnable_until is None or learnable_until <= champion.window_end:
        return decline("nothing new", f"the champion has learned from everything up to {champion.window_end:%Y-%m-%d}")
    share = fact.payload.get("drift_share")
    told = f"{share:.0%} of columns drifted" if isinstance(share, float) else "drift was detected"
    return Decision(
        fact.id,
        fact.model,
        fact.as_of,
        "retrain",
        "drift",
        f"{told}, {_days(fact.as_of - since)} since the last training",
    )


def _days(span: timedelta) -> str:
    return f"{span / timedelta(days=1):.3g} days"


@task(cache_policy=NO_CACHE, task_run_name="decide about {fact_id}")
def decide_retraining(fact_id: str, res: Resources) -> Decision:
    """Ask the policy about a fact and write its decision down. A fact that has one keeps it.

    Raises:
        UnknownFact: no such fact.
    """
    ledger = res.ledger
    fact = ledger.fact(fact_id)
    decision = ledger.decision(fact_id)
    while decision is None:
        try:
            decision = ledger.record_decision(_ask(fact, res))
        except RetrainingInFlight:
            continue
    get_run_logger().info(
        "%s %s: %s by rule %r: %s", fact.model, fact.partition, decision.action, decision.rule, decision.reason
    )
    return decision


def _ask(fact: Fact, res: Resources) -> Decision:
    """Gather what the policy needs to know, and ask it."""
    ledger = res.ledger
    settle_dead_retraining(ledger)
    judged = [d for d in ledger.decisions() if d.outcome in ("promoted", "staged", "refused")]
    staged, champion = ledger.challenger(), ledger.champion()
    waits = staged and asked(staged.version, champion, ledger.promotions())
    ends = [ref.end for key in res.lake.keys(Stage.VALID) if (ref := res.ref(key)).end <= fact.as_of]
    decision = decide(
        fact,
        champion=champion,
        last=judged[-1] if judged else None,
        in_flight=ledger.in_flight(),
        in_shadow=None if waits else staged,
        learnable_until=max(ends, default=None),
        rules=res.config.retraining,
    )
    return Decision(**(vars(decision) | {"flow_run": res.flow_run}))


def settle_dead_retraining(ledger: Ledger) -> None:
    """Close a retraining whose flow run ended without saying how: it crashed or was killed.

    What it had already written into the ledger is its outcome.
    """
    open_one = ledger.in_flight()
    if open_one and open_one.flow_run and has_ended(open_one.flow_run):
        died = f"flow run {open_one.flow_run} ended without a result"
        if found := _came_to(open_one, ledger):
            ledger.close_decision(open_one.fact_id, found[0], f"{found[1]}; {died}", found[2])
        else:
            ledger.close_decision(open_one.fact_id, "failed", died)


def _came_to(decision: Decision, ledger: Ledger) -> tuple[Outcome, str, str] | None:
    """What the ledger's rows of a retraining say of it: outcome, detail and version."""
    since = decision.recorded_at
    own = [r for r in ledger.promotions() if since and r.recorded_at and r.recorded_at >= since]
    told = [(OUTCOME[r.action], r.reason, r.version) for r in own if r.as_of == decision.as_of and r.action in OUTCOME]
    return told[-1] if told else None


@contextmanager
def closing(decision: Decision, ledger: Ledger) -> Iterator[None]:
    """Note on the decision that its retraining failed when the body does."""
    try:
        yield
    except BaseException as error:
        ledger.close_decision(decision.fact_id, "failed", f"{type(error).__name__}: {error}")
        raise


def close(decision: Decision, training: Training, ledger: Ledger) -> Decision:
    """Note on the decision what its retraining came to, and return it as it now stands."""
    version = training.version
    rows = [r for r in ledger.promotions() if r.version == version and r.action in OUTCOME]
    if not rows:  # no candidate beat the baseline
        ledger.close_decision(decision.fact_id, "refused", "; ".join(training.decision.reasons))
        return ledger.decision(decision.fact_id) or decision
    last = rows[-1]
    detail = f"version {version} is {last.to_stage}" if last.action != "refuse" else last.reason
    ledger.close_decision(decision.fact_id, OUTCOME[last.action], detail, version)
    return ledger.decision(decision.fact_id) or decision
