"""Measure the delay of `heads watch` on a camera: `make bench`, or `python benchmarks/bench_watch.py`.

A paced video stands for the camera: a minute of 640x360 pictures at 30 per second. Everything is drawn; only the window
on the screen is left out, so that no screen is needed. Nothing is asserted. The figures go to results/watch.json.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from record import RESULTS, write_record

import extract
import heads
from features.console import table
from live.stream import open_live, watch_camera

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from miniature import write_miniature
from paced_camera import PacedCamera

_SECONDS, _FPS, _SIZE = 60.0, 30.0, (360, 640)


class NoScreen:
    """Takes pictures for a minute."""

    def __init__(self) -> None:
        self._end = time.monotonic() + _SECONDS

    def show(self, picture: np.ndarray) -> None:
        """Show nothing."""

    def wants_more(self, wait_s: float) -> bool:
        """Return whether the minute is not over."""
        return time.monotonic() < self._end


def main() -> None:
    """Train a run on the small miniature, and watch one of its videos as a camera."""
    with tempfile.TemporaryDirectory() as folder:
        miniature = write_miniature(Path(folder), size="test")
        run = trained_run(Path(folder), miniature.annotations, miniature.videos)
        camera = PacedCamera(next(miniature.videos.rglob("*.mp4")), fps=_FPS, size=_SIZE)
        report = watch_camera(open_live(run, device="cpu"), camera, NoScreen(), name="camera:0")
    delays_ms = 1000 * np.array(report.delays_s)
    record = {
        "seconds": _SECONDS,
        "pictures_per_second": _FPS,
        "height_width": list(_SIZE),
        "backbone": "tiny_cnn",
        "torch_threads": torch.get_num_threads(),
        "pictures": report.num_read,
        "dropped": report.num_dropped,
        "windows": report.num_windows,
        "median_delay_ms": float(np.median(delays_ms)),
        "delay_ms_95_percent": float(np.quantile(delays_ms, 0.95)),
        "longest_delay_ms": float(delays_ms.max()),
        "most_pictures_kept": report.most_kept,
    }
    print(table(["figure", "value"], [[name, str(value)] for name, value in record.items()]))
    write_record(RESULTS / "watch.json", record)


def trained_run(folder: Path, annotations: Path, videos: Path) -> Path:
    """Return a run on the features of tiny_cnn, 16 frames per segment."""
    data = {"annotations": annotations, "device": "cpu"}
    root = folder / "features" / "tiny_cnn-seg16"
    extract.run(videos=videos, backbone="tiny_cnn", weights="random:0", out=root, **data)
    head = {"head": "multiscale_lstm:hidden=64", "features": root, "epochs": 2, "batch_size": 16}
    (outcome,) = heads.train(runs=folder / "runs", **head, **data)
    return outcome.folder


if __name__ == "__main__":
    main()
