"""A process that promotes and can be killed at any step, for the tests in this folder.

    python -m tests.flows.promoter race <version> <folder>      wait for the others in the folder, then promote
    python -m tests.flows.promoter advance <step>               advance the challenger, and die before the step
    python -m tests.flows.promoter approve <step>               approve the challenger, and die before the step
    python -m tests.flows.promoter train <reason> [<row>]       train, and die before that row of the ledger

Steps are counted from 1 in their order: each row that is appended to the ledger, each alias that is set or deleted, each tag in
MLflow, each event, each row that is marked as delivered. The process prints the number of steps.
"""

import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow

from flows.train import train
from tasks.contracts import Comparison, GateDecision, Scorecard, Verdict
from tasks.errors import StaleDecision
from tasks.ledger.promotions import Promotions
from tasks.lifecycle import outbox as delivery
from tasks.lifecycle.promotion import advance_challenger, promote_version
from tasks.registry import Registry
from tasks.resources import open_resources

MOMENT = datetime(2024, 3, 12, tzinfo=UTC)
steps_done = 0


def die_at(call: Callable[..., Any], step: int) -> Callable[..., Any]:
    """Wrap a call: the process exits, as after kill -9, before the call that is the given step."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        global steps_done
        steps_done += 1
        if steps_done == step:
            os._exit(9)
        return call(*args, **kwargs)

    return wrapped


def set_kill_step(step: int) -> None:
    for owner, name in (
        (Promotions, "append"),
        (Registry, "_set_alias"),
        (Registry, "write_ledger_tags"),
        (Promotions, "mark_delivered"),
        (delivery, "emit_change"),
    ):
        setattr(owner, name, die_at(getattr(owner, name), step))


def passed_gate(version: str) -> tuple[GateDecision, Comparison]:
    card = Scorecard(version, 100, {"log_loss": 0.5})
    verdict = Verdict("floor: log_loss", "passed", True, 0.5, 0.6)
    return GateDecision(version, None, (verdict,)), Comparison(card, None, card, None, 10, MOMENT, MOMENT)


@flow(name="race")
def race(number: str, folder: str) -> str:
    res = open_resources("tiny")
    version, champion = res.registry.version(number), res.ledger.champion()
    Path(folder, number).touch()
    while len(list(Path(folder).iterdir())) < 4:
        time.sleep(0.01)
    try:
        row = promote_version(version, *passed_gate(number), champion, MOMENT, "race", res, f"racer {number}")
        return f"won {row.sequence}"
    except StaleDecision:
        return "stale"


@flow(name="advance")
def advance() -> None:
    res = open_resources("tiny")
    delivery.deliver(res)
    advance_challenger(res)


@flow(name="approve")
def approve() -> None:
    res = open_resources("tiny")
    delivery.deliver(res)
    staged, champion = res.ledger.challenger(), res.ledger.champion()
    if staged:
        version = res.registry.version(staged.version)
        promote_version(version, *passed_gate(staged.version), champion, staged.as_of, "looked at it", res, "ann")


if __name__ == "__main__":
    what, first, *rest = sys.argv[1:]
    if what == "race":
        print(race(first, rest[0]))
    elif what == "train":
        Promotions.append = die_at(Promotions.append, int(rest[0]) if rest else 0)  # type: ignore[method-assign]
        print(train(model="tiny", reason=first).version, steps_done)
    else:
        set_kill_step(int(first))
        {"advance": advance, "approve": approve}[what]()
        print(steps_done)
