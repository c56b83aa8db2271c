"""The annotations that published features are imported with."""

from __future__ import annotations

from pathlib import Path

import pytest
from published_features import write_annotations


@pytest.fixture(scope="package")
def annotations(tmp_path_factory) -> Path:
    """A folder of annotations; see published_features."""
    return write_annotations(tmp_path_factory.mktemp("annotations"))
