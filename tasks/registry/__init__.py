"""The only package that uses MLflow: runs, registered versions, and aliases that are copied from the ledger."""

from tasks.registry.registry import CHALLENGER, CHAMPION, Registry

__all__ = ["CHALLENGER", "CHAMPION", "Registry"]
