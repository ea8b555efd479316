"""A lake in a folder and one in a bucket."""

import pytest
from upath import UPath

from tasks.storage.lake import Lake


@pytest.fixture(params=["folder", "bucket"])
def lake(tmp_path, request) -> Lake:
    return Lake(UPath(tmp_path) if request.param == "folder" else UPath(f"memory://{tmp_path}"), "m")
