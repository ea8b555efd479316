"""MLflow's owner: runs, registered versions, and the alias that follows the ledger."""

from tasks.registry.registry import CHALLENGER, CHAMPION, Registry

__all__ = ["CHALLENGER", "CHAMPION", "Registry"]
