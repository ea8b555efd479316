"""What follows the ledger: the aliases, and the marks of its rows on versions and runs."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tasks.contracts import Promotion
from tasks.registry.connection import insistently
from tasks.registry.versions import Versions

if TYPE_CHECKING:
    from tasks.ledger.store import Ledger

CHAMPION, CHALLENGER = "champion", "challenger"
"""Aliases. They are copies of what the ledger says, for outsiders."""


class Registry(Versions):
    """One registered model of an MLflow server, with local copies of its versions under `cache`."""

    def follow(self, ledger: "Ledger", champion: bool = True) -> None:
        """Point the aliases at the ledger's champion and challenger, or at the challenger alone.

        Looks again after it has set one: of two processes the slower may have set what is champion no longer.

        Raises:
            RegistryUnavailable: MLflow does not answer; the next call repairs it.
        """
        with self.answers():
            of = {CHAMPION: ledger.champion, CHALLENGER: ledger.challenger}
            for alias, current in of.items() if champion else ((CHALLENGER, ledger.challenger),):
                while True:
                    row = current()
                    wanted = row.version if row else None
                    found = self.alias(alias)
                    if found != wanted:
                        self._point(alias, wanted)
                    again = current()
                    if (again.version if again else None) == wanted:
                        break

    def _point(self, alias: str, number: str | None) -> None:
        """Set or delete an alias; no registered model has no alias either."""
        if number is None:
            self.client.delete_registered_model_alias(self.model, alias)
        else:
            insistently(functools.partial(self.client.set_registered_model_alias, self.model, alias, number))

    def mark(self, row: Promotion) -> None:
        """Write a ledger row's hash, and the stage it led to, on the version and on its run."""
        tags = {f"evergreen.ledger.{row.sequence}": row.hash, "evergreen.stage": row.to_stage}
        with self.answers(f"version {row.version!r} of {self.model!r}"):
            for name, value in tags.items():
                if row.run_id:
                    insistently(functools.partial(self.client.set_tag, row.run_id, name, value))
                tag = functools.partial(self.client.set_model_version_tag, self.model, row.version, name, value)
                insistently(tag)

    def alias(self, name: str = CHAMPION) -> str | None:
        """The version that an alias points at; search results and versions do not tell.

        Every `process` run asks this, and most need nothing else of MLflow, whose import takes longer than all the rest of them.
        So a server that needs no credentials is asked by its REST API.

        Raises:
            RegistryUnavailable: MLflow does not answer.
        """
        told = self.ask("registered-models/get", name=self.model) if self.plain else None
        if told is None:
            return self._alias_by_client(name)
        found = told.get("registered_model", {}).get("aliases", [])
        return next((str(one["version"]) for one in found if one["alias"] == name), None)

    def _alias_by_client(self, name: str) -> str | None:
        from mlflow.exceptions import MlflowException

        with self.answers():
            try:
                found = self.client.get_registered_model(self.model).aliases.get(name)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise
            return str(found) if found else None

    def marks(self) -> dict[str, dict[int, str]]:
        """The hashes of ledger rows that stand on each version of the model, by sequence.

        Raises:
            RegistryUnavailable: MLflow does not answer.
        """
        found: dict[str, dict[int, str]] = {}
        with self.answers():
            page = None
            while page is None or page.token:
                token = page.token if page else None
                page = self.client.search_model_versions(f"name='{self.model}'", max_results=200, page_token=token)
                found |= {str(one.version): _marks(one.tags) for one in page}
        return found


def _marks(tags: Mapping[str, str]) -> dict[int, str]:
    prefix = "evergreen.ledger."
    return {int(k.removeprefix(prefix)): v for k, v in tags.items() if k.startswith(prefix)}
