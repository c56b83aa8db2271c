"""An object whose pickle runs code, to test that loading a file runs none."""

from __future__ import annotations

from pathlib import Path


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)
