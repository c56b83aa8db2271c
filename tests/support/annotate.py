"""Annotation files of a few segments with the columns that extraction reads."""

from __future__ import annotations

import csv
from pathlib import Path


def annotate(path: Path, segments: dict[str, tuple[float, float]]) -> Path:
    """Write an annotation file with these segments, narration_id -> (start, stop) in seconds, in this order."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["narration_id", "participant_id", "video_id", "start_timestamp", "stop_timestamp"])
        for name, (start_s, stop_s) in segments.items():
            video_id = name.rsplit("_", 1)[0]
            times = (f"00:00:{second:05.2f}" for second in (start_s, stop_s))
            rows.writerow([name, video_id.split("_")[0], video_id, *times])
    return path
