"""A screen in memory, and what is on it."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

XVFB = shutil.which("Xvfb")


@dataclass(frozen=True)
class Xvfb:
    """A running screen; `display` is what DISPLAY is set to."""

    display: str
    folder: Path

    def screenshot(self) -> np.ndarray:
        """Return what is on the screen now, (H, W, 3) uint8 RGB, from the file that Xvfb keeps in the format of xwd."""
        content = (self.folder / "Xvfb_screen0").read_bytes()
        fields = struct.unpack(">25I", content[:100])
        header_size, width, height, bytes_per_line, num_colours = (fields[index] for index in (0, 4, 5, 12, 19))
        pixels = np.frombuffer(content, np.uint8, bytes_per_line * height, header_size + 12 * num_colours)
        return pixels.reshape(height, -1, 4)[:, :width, 2::-1]


@contextlib.contextmanager
def screen(folder: Path, *, size: str = "800x600") -> Iterator[Xvfb]:
    """Start a screen on a free display, and end it."""
    reads, writes = os.pipe()
    process = subprocess.Popen(
        [XVFB, "-displayfd", str(writes), "-screen", "0", f"{size}x24", "-fbdir", folder, "-nolisten", "tcp"],
        pass_fds=(writes,),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(writes)
    try:
        with open(reads, encoding="ascii") as display:
            yield Xvfb(f":{display.readline().strip()}", folder)
    finally:
        process.terminate()
        process.wait(timeout=20)
