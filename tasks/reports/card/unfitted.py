"""The card of a training in which nothing beat the prior: it has no version, so no row of the ledger and no run in MLflow."""

from pathlib import Path

from tasks.contracts import PRIOR, Training
from tasks.orchestration.prefect_tasks import as_task
from tasks.reports.pages.template import render_template, training_name
from tasks.reports.refusals import rule_text, verdict_values
from tasks.resources import LiveResources
from tasks.storage.files import replacing


@as_task("write training card")
def publish_unfitted(training: Training, res: LiveResources) -> None:
    """Write the card into the folder of the pages: what was tried, and why the gate refused it."""
    name, window = res.config.name, training.window
    page = render_template(
        Path(__file__).parent / "unfitted.html.j2",
        alone=True,
        model=name,
        model_page=f"{res.settings.pages_ui}/{name}.html",
        as_of=f"{window.as_of:%Y-%m-%d}",
        span=window.span,
        loss=res.config.target.eval_loss.replace("_", " "),
        rules=[rule_text(verdict_values(v)) for v in training.decision.verdicts if not v.passed],
        trials=[
            [t.name, f"{t.loss:.5f}", "" if t.name == PRIOR else "yes" if t.beats_baseline else "no", t.note]
            for t in training.selection.trials
        ],
    )
    with replacing(res.settings.pages / training_name(name, window.as_of)) as draft:
        draft.write_text(page, encoding="utf-8")
