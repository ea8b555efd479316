"""The errors of the pipeline. Each class is named after the condition. Every message ends with what to do next."""


class EvergreenError(Exception):
    """Base class of the expected errors. They are reported without a traceback."""


class BadData(EvergreenError):
    """The data of one partition cannot be used. The partition is recorded as blocked and skipped."""


class MissingSource(BadData):
    """The source has no data for this partition."""


class SourceMismatch(BadData):
    """The columns or types of the source differ from those that the model declares."""


class StepFailed(EvergreenError):
    """A library failed on the data of a model with personal columns. Only its class is repeated: its message may quote any value."""


class SourceUnavailable(EvergreenError):
    """The source does not respond. No partition is blocked. Repeat the call later."""


class SourceRefused(EvergreenError):
    """The source does not accept the address, the password or the request for a table. No partition is blocked. Correct the connection."""


class SinkUnavailable(EvergreenError):
    """A place that `publish` names does not respond. The rows are in the lake, and the next run sends them."""


class SinkRefused(EvergreenError):
    """A place that `publish` names does not accept the address, the password or the request. Correct the connection, or grant the right."""


class SinkMismatch(EvergreenError):
    """The table that `publish` names does not take the rows: it has other columns or types. Change it, or choose another table."""


class SinkRowsRefused(EvergreenError):
    """A place that `publish` names does not take the rows of one partition. Other partitions are sent."""


class UnknownPlan(EvergreenError):
    """No stored backfill plan has this digest."""


class PlanChanged(EvergreenError):
    """The steps that a backfill would run now differ from its plan. Make a new plan and review it."""


class ClusterUnreachable(EvergreenError):
    """The Dask scheduler does not respond, or it has no workers."""


class ClusterMismatch(EvergreenError):
    """A Dask worker uses another lake, database or code version than the run that it would work for."""


class LeakFound(EvergreenError):
    """A feature depends on outcomes from after the prediction time (target leakage). Fix the SQL."""


class UnknownStage(EvergreenError):
    """There is no readable dataset of this name. The message lists those that exist."""


class MissingFeature(EvergreenError):
    """A version in use was trained with a column that the rows do not have. Keep the column until no such version is in use."""


class MissingPartition(EvergreenError):
    """A required partition does not exist. Run `backfill` for it first."""


class PartitionChanged(EvergreenError):
    """Other processes write partitions again and again while they are read. Repeat the call when they have ended."""


class CorruptPartition(EvergreenError):
    """A file of the lake does not match the digest in its record. Run `backfill` with mode=verify for its partition."""


class ContractBroken(EvergreenError):
    """model.yaml breaks the published contract without declaring it. Raise `contract.version`, or take the change back."""


class UnreadableContract(EvergreenError):
    """The file with the versions of the published contract is damaged. Restore it from a backup."""


class NotEnoughData(EvergreenError):
    """The training window is too short, or it has too few labels or only one class."""


class TooMuchData(EvergreenError):
    """The training window exceeds this machine's memory budget. Set `training.window.max_rows`, or use fewer partitions."""


class SearchTooSlow(EvergreenError):
    """A hyperparameter search exceeded its time limit. Increase the limit, or reduce the number of trials."""


class NoChampion(EvergreenError):
    """The model has no champion yet. Run `train` first."""


class UnknownVersion(EvergreenError):
    """The version does not exist in the registry or in the ledger, or its stage does not allow the request."""


class ForgedVersion(EvergreenError):
    """A model file differs from the registered one. Find out who changed it before you do anything else."""


class ForgedLedger(EvergreenError):
    """The ledger differs from copies of its hashes elsewhere. Find out who changed it before you do anything else."""


class RegistryUnavailable(EvergreenError):
    """MLflow does not respond. Nothing was changed. Repeat the call later."""


class StaleDecision(EvergreenError):
    """Another version has become champion since the decision was made. Judge again."""


class GateRefused(EvergreenError):
    """The gate refused this version, so it is not promoted."""


class NotStorable(EvergreenError):
    """A value cannot be stored in the ledger, on SQLite as on PostgreSQL. The message names table, column and value."""


class UnknownFact(EvergreenError):
    """No fact has this id. A fact is recorded before its event is sent."""


class FutureRead(RuntimeError):
    """A replay read data from after its simulated time: a feature, a drift reference or the gate has leakage.

    It is not an `EvergreenError`, so that no code that handles expected errors can skip it.
    """
