"""What can go wrong, named by the fact. Every message says what to do next."""


class EvergreenError(Exception):
    """The root of our own errors: expected bad days, told without a traceback's help."""


class BadData(EvergreenError):
    """The data of one partition cannot be used. The partition is recorded as blocked and passed over."""


class MissingSource(BadData):
    """The source has no data for this partition."""


class SourceMismatch(BadData):
    """The source yields other columns or types than the model declares."""


class SourceUnavailable(EvergreenError):
    """The source does not answer just now. Nothing is blocked; the same call may be made again."""


class UnknownPlan(EvergreenError):
    """No plan of a backfill has this digest here."""


class PlanChanged(EvergreenError):
    """What a backfill would do is no longer what its plan says. Make a new plan, and read it."""


class ClusterUnreachable(EvergreenError):
    """No Dask scheduler answers, or it has no workers."""


class ClusterMismatch(EvergreenError):
    """A Dask worker sees another lake, database or code than the run that would use it."""


class LeakFound(EvergreenError):
    """A feature changes when outcomes are hidden that were not known yet. The SQL must be mended."""


class UnknownStage(EvergreenError):
    """A stage of this name has no rows to read. The message names those that have."""


class MissingFeature(EvergreenError):
    """A version was fitted with a column that rows do not have any more, or not yet. Keep it until no version in use needs it."""


class MissingPartition(EvergreenError):
    """A partition that is needed was never made. Run `backfill` for it first."""


class CorruptPartition(EvergreenError):
    """A file of the lake does not match its record. Delete the file and run `backfill` for it."""


class NotEnoughData(EvergreenError):
    """The window is too short, or holds too few labels or one class only."""


class TooMuchData(EvergreenError):
    """The window is larger than this machine's budget. Set `training.window.max_rows`, or learn from fewer partitions."""


class SearchTooSlow(EvergreenError):
    """A search needed more than its time limit. Raise the limit, or lower the number of trials."""


class NoChampion(EvergreenError):
    """The model has no champion yet. Run `train` first."""


class UnknownVersion(EvergreenError):
    """The registry or the ledger does not have this version."""


class ForgedVersion(EvergreenError):
    """A model file is not the one that was registered. Find out who changed it before anything else."""


class RegistryUnavailable(EvergreenError):
    """MLflow does not answer. Nothing was changed; the same call may be made again."""


class StaleDecision(EvergreenError):
    """The champion is no longer the one that the decision was made against. Judge again."""


class GateRefused(EvergreenError):
    """The gate did not pass this version, so it is not promoted."""


class UnknownFact(EvergreenError):
    """No fact has this id. Facts are written by `process` before their event is sent."""


class FutureRead(RuntimeError):
    """A replay was asked for something that was not known at its moment: a feature, a reference or a gate that leaks.

    None of ours on purpose: nothing that takes a bad day as it comes may pass over it.
    """
