"""Feature files as their publications' own programs write them, and a small annotation folder to import them with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from feature_files import COLUMNS, row, write_rows

from features.annotations import read_all_segments

# narration_id -> start and stop in seconds. P01_01 and P01_02 are trained on, P02_101 is validation.
SEGMENTS = {
    "P01_01_0": (1.0, 5.0),
    "P01_01_1": (4.0, 4.4),
    "P01_01_2": (6.5, 9.0),
    "P01_02_0": (0.5, 2.0),
    "P02_101_0": (2.0, 3.5),
    "P02_101_1": (3.0, 7.25),
}
# video_id -> length in seconds and frames per second.
VIDEOS = {"P01_01": (12.0, 59.94), "P01_02": (10.0, 59.94), "P02_101": (9.0, 50.0)}


def video_of(narration_id: str) -> str:
    """Return the id of a segment's video."""
    return narration_id.rsplit("_", 1)[0]


def write_annotations(folder: Path, *, with_lengths: bool = True) -> Path:
    """Write the lists of training and validation, and the lengths of the videos."""
    rows = []
    for number, (name, (start, stop)) in enumerate(SEGMENTS.items()):
        times = {"start_timestamp": f"00:00:{start:05.2f}", "stop_timestamp": f"00:00:{stop:05.2f}"}
        labels = {"verb_class": str(number % 2), "noun_class": str(number % 3)}
        rows.append(row(0, video_id=video_of(name), narration_id=name, **times, **labels))
    write_rows(folder / "EPIC_100_train.csv", [cells for cells in rows if cells["video_id"] != "P02_101"])
    write_rows(folder / "EPIC_100_validation.csv", [cells for cells in rows if cells["video_id"] == "P02_101"])
    if with_lengths:
        lines = [f"{video},{length},{fps},1920x1080" for video, (length, fps) in VIDEOS.items()]
        text = "\n".join(["video_id,duration,fps,resolution", *lines]) + "\n"
        (folder / "EPIC_100_video_info.csv").write_text(text)
    assert set(COLUMNS) <= set(rows[0])
    return folder


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    """Return drawn float32 values that float16 holds exactly, so that they can be compared for equality."""
    return np.random.default_rng(seed).integers(-512, 512, size=shape).astype(np.float32) / 16


def write_mtcn(path: Path, names: list[str], *, dim: int = 2304) -> dict[str, dict[str, np.ndarray]]:
    """Write one of MTCN's files: a dataset per segment in each of two groups; return its arrays."""
    arrays = {
        group: {
            name: drawn(10, dim, seed=number + 100 * (group == "audio_features")) for number, name in enumerate(names)
        }
        for group in ("visual_features", "audio_features")
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for group, by_name in arrays.items():
            for name, array in by_name.items():
                file.create_dataset(f"{group}/{name}", data=array)
    return arrays


def write_lmdb(folder: Path, rows: Mapping[str, np.ndarray]) -> Path:
    """Write a database of RULSTM: key -> the bytes of a float32 row; only data.mdb is published, without a lock."""
    import lmdb

    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=1 << 26) as environment, environment.begin(write=True) as transaction:
        for key, values in rows.items():
            transaction.put(key.encode("utf-8"), values.tobytes())
    (folder / "lock.mdb").unlink()
    return folder


def frame_key(video_id: str, number: int) -> str:
    """Return RULSTM's key of a frame."""
    return f"{video_id}_frame_{number:010d}.jpg"


def write_downloads(folder: Path, annotations: Path) -> None:
    """Write small files where the pages' commands name published ones, for the segments of some annotations."""
    segments = read_all_segments([annotations])
    write_mtcn(folder / "downloads/mtcn/audiovisual_slowfast_features.hdf5", list(segments.narration_id), dim=8)
    ends = segments.table.groupby("video_id").stop_s.max() + 1
    for name, stride in (("downloads/slowfast_fps30_stride16_clip32", 16), ("downloads/videomae_noun", 8)):
        (folder / name).mkdir()
        for video_id, end_s in ends.items():
            np.save(folder / name / f"{video_id}.npy", drawn(int(30 * end_s / stride), 8))
    (folder / "my/features").mkdir(parents=True)
    for video_id, end_s in ends.items():
        np.savez(folder / f"my/features/{video_id}.npz", drawn(int(30 * end_s / 16), 8))
