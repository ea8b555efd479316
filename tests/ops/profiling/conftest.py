"""A repository without models."""

from pathlib import Path

import pytest

from configs.settings import ROOT
from tests.conftest import use_folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository without models."""
    (tmp_path / "configs").mkdir()
    text = (ROOT / "prefect.yaml").read_text()
    (tmp_path / "prefect.yaml").write_text(text)
    use_folder(tmp_path, tmp_path / "configs", "", monkeypatch)
    return tmp_path
