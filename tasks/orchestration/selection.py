"""Run a flow for each of several models, each as a subflow run. An error of one does not stop the others."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from prefect import runtime
from prefect.states import State

from configs.choices import select_models
from configs.errors import ConfigError
from tasks.orchestration.prefect_tasks import run_log

Published = TypeVar("Published")
NOT_STARTED, NOT_ENDED = "Not started", "Not ended"


class ModelRun(NamedTuple):
    """The run of one model: how it ended, its message, and the id of its flow run, empty if none has ended."""

    model: str
    state: str
    message: str
    flow_run: str

    @property
    def has_failed(self) -> bool:
        """Whether it did not complete."""
        return self.state != "Completed"


def one_model(model: str | None) -> str:
    """Return the model of a run of one model.

    Raises:
        ConfigError: The run has neither `model` nor `models`.
    """
    if not model:
        raise ConfigError("give either `model`, or patterns of several as `models`, such as models=store-*")
    return model


def run_each(flow: Callable[..., Any], models: str, publish: Callable[[Sequence[ModelRun]], Published]) -> Published:
    """Run the current run's flow again for each selected model, in the order of their names, with the run's other parameters.

    Args:
        flow: The flow. It has the parameters `model` and `models`.
        models: Patterns of models, such as `store-*`.
        publish: Publishes the runs at the end, also if this run is stopped before it.

    Returns:
        What `publish` returned.

    Raises:
        ConfigError: Both `model` and `models` are given.
    """
    parameters = dict(runtime.flow_run.parameters)
    parameters.pop("models")
    if model := parameters.pop("model", None):
        raise ConfigError(f"model is {model!r} and models is {models!r}; give one of them")
    runs = [
        ModelRun(name, NOT_STARTED, "the run of the selection was stopped before", "") for name in select_models(models)
    ]
    try:
        for at, (name, *_) in enumerate(runs):
            runs[at] = ModelRun(name, NOT_ENDED, "the run of the selection was stopped", "")
            runs[at] = _run_one(flow, name, parameters)
    finally:
        published = publish(runs)
    return published


def _run_one(flow: Callable[..., Any], model: str, parameters: dict[str, Any]) -> ModelRun:
    state: State[Any] = flow(model=model, **parameters, return_state=True)
    run = ModelRun(model, state.name or "", state.message or "", str(state.state_details.flow_run_id or ""))
    log = run_log()
    (log.error if run.has_failed else log.info)("%s: %s: %s", model, run.state, run.message)
    return run
