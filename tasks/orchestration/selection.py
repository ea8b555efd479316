"""Run a flow for each of several models, each as a subflow run. An error of one does not stop the others."""

from collections.abc import Callable
from typing import Any, NamedTuple

from prefect import runtime
from prefect.states import State

from configs.choices import select_models
from configs.errors import ConfigError
from tasks.orchestration.prefect_tasks import run_log


class ModelRun(NamedTuple):
    """The run of one model: how it ended, its message, and the id of its flow run, empty if none was started."""

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


def run_each(flow: Callable[..., Any], models: str) -> list[ModelRun]:
    """Run the current run's flow again for each selected model, in the order of their names, with the run's other parameters.

    Args:
        flow: The flow. It has the parameters `model` and `models`.
        models: Patterns of models, such as `store-*`.

    Raises:
        ConfigError: Both `model` and `models` are given.
    """
    parameters = dict(runtime.flow_run.parameters)
    parameters.pop("models")
    if model := parameters.pop("model", None):
        raise ConfigError(f"model is {model!r} and models is {models!r}; give one of them")
    runs = []
    for name in select_models(models):
        state: State[Any] = flow(model=name, **parameters, return_state=True)
        runs.append(ModelRun(name, state.name or "", state.message or "", str(state.state_details.flow_run_id or "")))
        log = run_log()
        (log.error if runs[-1].has_failed else log.info)("%s: %s: %s", name, runs[-1].state, runs[-1].message)
    return runs
