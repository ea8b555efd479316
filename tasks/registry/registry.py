"""Copies of the ledger's state in MLflow: aliases, and tags of ledger rows on versions and runs."""

import functools
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from tasks.contracts import Promotion
from tasks.errors import UnknownVersion
from tasks.ledger.promotions import stage_of
from tasks.registry.connection import retry_conflicts
from tasks.registry.descriptions import may_replace, version_description
from tasks.registry.versions import CONTENTS, Versions

if TYPE_CHECKING:
    from tasks.ledger.store import Ledger

CHAMPION, CHALLENGER = "champion", "challenger"
"""Aliases. They are copies of the ledger's state for other users of MLflow."""
STAGE = "evergreen.stage"
"""Tag with the model stage of a version, also a copy."""
ANCHOR = "evergreen.chain"
"""Tag with number and hash of the newest entry of the ledger's chain, on the newest version of the ledger that MLflow has."""


class VersionTexts(NamedTuple):
    """What MLflow has about a version besides its model."""

    tags: Mapping[str, str]
    description: str


class Registry(Versions):
    """A registered model of an MLflow server, with local copies of its versions under `cache`."""

    anchored: tuple[str, str] | None = None
    """Version and hash of the last entry of the ledger's chain that this process has compared or written, to ask only once."""

    def sync_aliases(self, ledger: "Ledger", champion: bool = True) -> None:
        """Set the aliases to the ledger's champion and challenger.

        Reads the ledger again after each write, since a slower process may have written an outdated version.

        Args:
            champion: Whether to set the champion's alias too.

        Raises:
            RegistryUnavailable: MLflow does not respond. The next call repeats the update.
        """
        with self.translated_errors():
            rows = {CHAMPION: ledger.champion, CHALLENGER: ledger.challenger}
            for alias, read_row in rows.items() if champion else ((CHALLENGER, ledger.challenger),):
                while True:
                    row = read_row()
                    version = row.version if row else None
                    if self.alias(alias) != version:
                        self._set_alias(alias, version)
                    row = read_row()
                    if (row.version if row else None) == version:
                        break

    def _set_alias(self, alias: str, number: str | None) -> None:
        """Set an alias, or delete it if `number` is None."""
        if number is None:
            self.client.delete_registered_model_alias(self.model, alias)
        else:
            retry_conflicts(functools.partial(self.client.set_registered_model_alias, self.model, alias, number))

    def write_ledger_tags(self, row: Promotion) -> None:
        """Tag a version and its run with the hash of a ledger row."""
        self._tag(row.version, row.run_id, f"evergreen.ledger.{row.sequence}", row.hash)

    def write_anchor(self, version: str, number: int, entry_hash: str) -> None:
        """Tag a version with the number and the hash of an entry of the ledger's chain.

        Raises:
            RegistryUnavailable: MLflow does not respond.
            UnknownVersion: MLflow no longer has the version.
        """
        self._tag(version, "", ANCHOR, f"{number} {entry_hash}")

    def read_anchor(self, version: str) -> tuple[int, str] | None:
        """Return the number and the hash in that tag of a version, None without one.

        Raises:
            RegistryUnavailable: MLflow does not respond.
        """
        found = self.rest_get("model-versions/get", name=self.model, version=version) if self.is_open_server else None
        if found is None:
            return self.read_copies()[1].get(version)
        tags = found.get("model_version", {}).get("tags", [])
        return _anchors({version: {tag["key"]: tag.get("value", "") for tag in tags}}).get(version)

    def sync_stages(self, ledger: "Ledger") -> None:
        """Set the tag `evergreen.stage` of every version and its run, and its description, to the version's present stage in the ledger.

        A promotion or a rollback changes two stages: that of the new champion, and that of the previous one, which is retired. Like
        `sync_aliases`, it reads the ledger again after its writes. A version that MLflow no longer has is left out.

        Raises:
            RegistryUnavailable: MLflow does not respond. The next call repeats the update.
        """
        while True:
            rows = ledger.promotions()
            current = self._version_texts()
            runs = {row.version: row.run_id for row in rows if row.version in current}
            for version, run_id in runs.items():
                stage, known = stage_of(version, rows), current[version]
                with suppress(UnknownVersion):  # MLflow's copy was deleted; the others are still updated
                    self._describe_version(version, version_description(version, rows), known.description)
                    if known.tags.get(STAGE, "") != stage:
                        self._tag(version, run_id, STAGE, stage)
            if len(ledger.promotions()) == len(rows):
                return

    def _describe_version(self, version: str, text: str, known: str) -> None:
        """Replace the description of a version, but not one that a person has written."""
        if text != known and may_replace(known):
            with self.optional("a description"), self.translated_errors(f"version {version!r} of {self.model!r}"):
                self.client.update_model_version(self.model, version, text)

    def describe_model(self, text: str) -> None:
        """Set the description of the registered model, but keep one that a person has written.

        Raises:
            RegistryUnavailable: MLflow does not respond.
        """
        with self.optional("a description"), self.translated_errors():
            known = self.client.get_registered_model(self.model).description or ""
            if known != text and may_replace(known):
                self.client.update_registered_model(self.model, text)

    def _tag(self, version: str, run_id: str, name: str, value: str) -> None:
        """Set a tag of a run, if there is one, and of a version."""
        with self.translated_errors(f"version {version!r} of {self.model!r}"):
            if run_id:
                retry_conflicts(functools.partial(self.client.set_tag, run_id, name, value))
            retry_conflicts(functools.partial(self.client.set_model_version_tag, self.model, version, name, value))

    def alias(self, name: str = CHAMPION) -> str | None:
        """Return the version of an alias, None if there is none. MLflow's search results do not contain aliases.

        Uses the REST API if possible: every `process` run reads an alias, and the import of MLflow takes longer than the rest of the run.

        Raises:
            RegistryUnavailable: MLflow does not respond.
        """
        response = self.rest_get("registered-models/get", name=self.model) if self.is_open_server else None
        if response is None:
            return self._alias_by_client(name)
        aliases = response.get("registered_model", {}).get("aliases", [])
        return next((str(alias["version"]) for alias in aliases if alias["alias"] == name), None)

    def _alias_by_client(self, name: str) -> str | None:
        from mlflow.exceptions import MlflowException

        with self.translated_errors():
            try:
                version = self.client.get_registered_model(self.model).aliases.get(name)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise
            return str(version) if version else None

    def read_copies(self) -> tuple[dict[str, dict[int, str]], dict[str, tuple[int, str]]]:
        """Return what MLflow's versions have of the ledger.

        Returns:
            The marks: of each version the hashes of its ledger rows by their sequence numbers. The anchors: number and hash of an
            entry of the chain, of every version that has one.

        Raises:
            RegistryUnavailable: MLflow does not respond.
        """
        tags = self._version_tags()
        return {version: _ledger_tags(own) for version, own in tags.items()}, _anchors(tags)

    def contents(self) -> dict[str, str]:
        """Return every version that exists, with the name by which the contents of its training are kept; empty for v0.1.

        Raises:
            RegistryUnavailable: MLflow does not respond.
        """
        return {version: tags.get(CONTENTS, "") for version, tags in self._version_tags().items()}

    def _version_tags(self) -> dict[str, Mapping[str, str]]:
        return {version: texts.tags for version, texts in self._version_texts().items()}

    def _version_texts(self) -> dict[str, VersionTexts]:
        """Return tags and description of all versions in MLflow. Uses the REST API if possible, as `alias` does."""
        texts = self._version_texts_by_rest() if self.is_open_server else None
        return self._version_texts_by_client() if texts is None else texts

    def _version_texts_by_rest(self) -> dict[str, VersionTexts] | None:
        """Return tags and description of all versions; None if a response is not MLflow's."""
        texts: dict[str, VersionTexts] = {}
        question, token = {"filter": f"name='{self.model}'", "max_results": "200"}, None
        while token is None or token:
            page = self.rest_get("model-versions/search", **question, **({"page_token": token} if token else {}))
            if page is None:
                return None
            for version in page.get("model_versions", ()):
                tags = {tag["key"]: tag.get("value", "") for tag in version.get("tags", ())}
                texts[str(version["version"])] = VersionTexts(tags, version.get("description", ""))
            token = page.get("next_page_token", "")
        return texts

    def _version_texts_by_client(self) -> dict[str, VersionTexts]:
        texts: dict[str, VersionTexts] = {}
        with self.translated_errors():
            page = None
            while page is None or page.token:
                token = page.token if page else None
                page = self.client.search_model_versions(f"name='{self.model}'", max_results=200, page_token=token)
                texts |= {str(v.version): VersionTexts(dict(v.tags), v.description or "") for v in page}
        return texts


def _ledger_tags(tags: Mapping[str, str]) -> dict[int, str]:
    prefix = "evergreen.ledger."
    return {int(k.removeprefix(prefix)): v for k, v in tags.items() if k.startswith(prefix)}


def _anchors(tags: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[int, str]]:
    """Return number and hash by version. A tag that is neither is the number 0, which no entry has."""
    anchors = {}
    for version, own in tags.items():
        if ANCHOR in own:
            number, _, entry_hash = own[ANCHOR].partition(" ")
            anchors[version] = (int(number) if number.isdecimal() else 0, entry_hash)
    return anchors
