"""Measure the most memory that extraction takes over all its processes, on a video of 90 minutes (Linux)."""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from epic_like import encoded_once, segments_like_epic
from extraction import SECONDS, VIDEO

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from encode import repeat_video

TIMES = 9  # ten minutes each


def main() -> None:
    """Print the peak for each sampling."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repeat_video(encoded_once(VIDEO, SECONDS), folder / "P01_101.mp4", TIMES)
        annotations = _annotated(folder / "segments.csv")
        for sampling in (("--frames", "16"), ("--every", "0.2")):
            peak, seconds = _extracted(folder, annotations, sampling)
            print(f"{' '.join(sampling)}: {peak / 1e9:.2f} GB at the most, {seconds:.0f} s")


def _annotated(path: Path) -> Path:
    segments = segments_like_epic(SECONDS * TIMES - 1)
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["narration_id", "participant_id", "video_id", "start_timestamp", "stop_timestamp"])
        for narration_id, *times in zip(segments.narration_id, segments.start_s, segments.stop_s, strict=True):
            rows.writerow([narration_id, "P01", "P01_101", *map(_timestamp, times)])
    return path


def _timestamp(seconds: float) -> str:
    return f"{int(seconds // 3600):02}:{int(seconds % 3600 // 60):02}:{seconds % 60:05.2f}"


def _extracted(folder: Path, annotations: Path, sampling: tuple[str, str]) -> tuple[int, float]:
    """Run the command; return the peak of the memory of all its processes in bytes, shared parts once, and its time."""
    program = Path(sys.executable).with_name("extract")
    what = ["--annotations", annotations, "--videos", folder, "--backbone", "tiny_cnn", "--weights", "random:0"]
    start, peak = time.perf_counter(), 0
    with subprocess.Popen([program, "run", *what, *sampling, "--out", folder / sampling[0][2:]]) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(_memory, [process.pid, *_children(process.pid)])))
            time.sleep(0.2)
    if process.returncode:
        sys.exit(process.returncode)
    return peak, time.perf_counter() - start


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it has ended
        return []


def _memory(pid: int) -> int:
    """Return the proportional set size of a process in bytes."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main()
