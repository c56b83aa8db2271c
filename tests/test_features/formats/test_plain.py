"""Plain files: one array per video or per segment, in files of their own or in one file, of every kind."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import hostile
import numpy as np
import pytest
import torch
from annotate import annotate
from published_features import SEGMENTS, VIDEOS, drawn

from features.errors import DataError, OptionError
from features.exporting import export
from features.failures import read_failures
from features.featureset import read_featureset
from features.importing import ImportSummary, import_features
from features.intervals import SegmentTimes, covered
from features.store import VideoFeatures, read_times, read_video

DENSE = {
    video_id: drawn(int(5 * length), 8, seed=number) for number, (video_id, (length, _)) in enumerate(VIDEOS.items())
}
BY_SEGMENT = {name: drawn(2 + number % 3, 8, seed=number) for number, name in enumerate(SEGMENTS)}
GRID = {"fps": 10.0, "stride": 2.0, "offset": 1.0}


def _npy(folder: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def _npz(folder: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    for name, array in arrays.items():
        np.savez_compressed(folder / f"{name}.npz", x=array)
    return folder


def _pt(folder: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    for name, array in arrays.items():
        torch.save(
            torch.from_numpy(array).to(torch.bfloat16 if name == "P01_01" else torch.float32), folder / f"{name}.pt"
        )
    return folder


def _hdf5(folder: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    for name, array in arrays.items():
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["feats"] = array
    return folder


def _one_npz(folder: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    np.savez(folder / "features.npz", **arrays)
    return folder / "features.npz"


def _one_pt(folder: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, folder / "features.pt")
    return folder / "features.pt"


def _one_pickle(folder: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    (folder / "features.pkl").write_bytes(pickle.dumps(dict(arrays), protocol=2))
    return folder / "features.pkl"


def _one_hdf5(folder: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    with h5py.File(folder / "features.hdf5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return folder / "features.hdf5"


WRITERS: dict[str, tuple[str, Callable[[Path, Mapping[str, np.ndarray]], Path]]] = {
    "npy": ("npy", _npy),
    "npz": ("npz", _npz),
    "pt": ("pt", _pt),
    "hdf5": ("hdf5", _hdf5),
    "one npz": ("npz", _one_npz),
    "one pt": ("pt", _one_pt),
    "one pickle": ("pt", _one_pickle),
    "one hdf5": ("hdf5", _one_hdf5),
}
every_kind = pytest.mark.parametrize("kind", WRITERS)


def imported(kind: str, folder: Path, arrays: Mapping[str, np.ndarray], annotations: Path, **given) -> ImportSummary:
    (folder / "files").mkdir()
    name, write = WRITERS[kind]
    path = write(folder / "files", arrays)
    return import_features(name, path, out=folder / "set", annotations=annotations, **given)


def video(root: Path, video_id: str = "P01_01") -> VideoFeatures:
    return read_video(root / "set", video_id, digest=read_featureset(root / "set").digest)


@every_kind
def test_an_array_per_video_has_the_times_that_are_given(tmp_path, annotations, kind) -> None:
    assert imported(kind, tmp_path, DENSE, annotations, **GRID).done == 6
    for video_id, array in DENSE.items():
        features = video(tmp_path, video_id)
        expected = torch.from_numpy(array).to(torch.bfloat16) if kind == "pt" and video_id == "P01_01" else array
        np.testing.assert_array_equal(features.features[:, 0], torch.as_tensor(expected).float().numpy())
        np.testing.assert_allclose(features.seconds, 0.1 + 0.2 * np.arange(len(array)), atol=1e-12)


@every_kind
def test_an_array_per_segment_is_spread_over_it(tmp_path, annotations, kind) -> None:
    assert imported(kind, tmp_path, BY_SEGMENT, annotations, backbone="mine").done == 6
    features = video(tmp_path)
    np.testing.assert_array_equal(features.features[:2, 0], BY_SEGMENT["P01_01_0"])
    assert features.offset.tolist() == [0, 2, 5, 9]
    assert features.seconds[:2].tolist() == [2.0, 4.0]
    assert read_featureset(tmp_path / "set").backbone == "mine"


@pytest.mark.parametrize("name", ["fps", "stride", "offset"])
def test_times_of_videos_have_to_be_given_in_full(tmp_path, annotations, name) -> None:
    given = {key: value for key, value in GRID.items() if key != name}
    with pytest.raises(OptionError, match=f"--{name}: is needed: .* holds an array per video"):
        imported("npy", tmp_path, DENSE, annotations, **given)


def test_times_of_segments_may_not_be_given(tmp_path, annotations) -> None:
    with pytest.raises(OptionError, match=r"--stride: .* holds an array per segment, whose rows are spread evenly"):
        imported("npy", tmp_path, BY_SEGMENT, annotations, stride=2.0)


def test_ids_of_no_list_are_an_error_if_they_are_all(tmp_path, annotations) -> None:
    with pytest.raises(DataError, match=r"its ids \(P09_01\) are of no video and no segment of EPIC_100_train"):
        imported("npz", tmp_path, {"P09_01": DENSE["P01_01"]}, annotations, **GRID)


def test_ids_of_no_list_are_named_if_there_are_others(tmp_path, annotations) -> None:
    arrays = {**BY_SEGMENT, "P01_01_77": BY_SEGMENT["P01_01_0"], "notes": BY_SEGMENT["P01_01_0"]}
    assert imported("one npz", tmp_path, arrays, annotations).unknown == ("P01_01_77", "notes")


def test_ids_of_videos_and_segments_together_are_refused(tmp_path, annotations) -> None:
    with pytest.raises(DataError, match="are both of videos and of segments"):
        imported("npy", tmp_path, {**BY_SEGMENT, **DENSE}, annotations)


def test_arrays_of_another_width_are_named(tmp_path, annotations) -> None:
    with pytest.raises(DataError, match=r"P01_02_0\.npy, P01_02_0: 9 values per row, not 8 as in the set"):
        imported("npy", tmp_path, {**BY_SEGMENT, "P01_02_0": drawn(3, 9)}, annotations)


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [
        ([1.5, 700.0], "1 of its 2 rows lie past the end of the video: the last one at 700.00 s, and it lasts 10.00 s"),
        ([2.0, 1.0], "the seconds of its rows do not ascend"),
        ([1.0, np.nan], "the seconds of its rows do not ascend"),
        ([1.0], "2 rows, but seconds of shape"),
    ],
)
@pytest.mark.parametrize("name", ["P01_02_0", "P01_02"])
def test_seconds_in_a_file_that_cannot_be_are_recorded(tmp_path, annotations, name, seconds, reason) -> None:
    (tmp_path / "files").mkdir()
    np.savez(tmp_path / f"files/{name}.npz", feats=drawn(2, 8), seconds=seconds)
    if name == "P01_02":
        np.savez(tmp_path / "files/P01_01.npz", feats=drawn(60, 8), seconds=0.2 * np.arange(60))
    summary = import_features("npz", tmp_path / "files", out=tmp_path / "set", annotations=annotations)
    assert (summary.failed, summary.failed_videos) == (1, ("P01_02",))
    (failure,) = read_failures(tmp_path / "set", "P01_02")
    assert str(failure.error) == "WrongRows"
    assert reason in failure.message


def test_a_row_per_frame_for_an_hour_has_no_gaps_by_rounding(tmp_path) -> None:
    length = 108_000
    annotations = annotate(tmp_path / "a.csv", {"P01_01_0": (0.0, 59.0)})
    np.savez(tmp_path / "P01_01.npz", feats=np.zeros((length, 1), np.float32), seconds=np.arange(length) / 30)
    summary = import_features("npz", tmp_path / "P01_01.npz", out=tmp_path / "set", annotations=annotations)
    assert summary.failed == 0
    end = SegmentTimes(("a",), np.array([length / 30 - 1500]), np.array([length / 30]))
    times = read_times(tmp_path / "set", "P01_01", digest=read_featureset(tmp_path / "set").digest)
    assert covered(times.seconds, end.start_s, end.stop_s, read_featureset(tmp_path / "set").sampling.every_s).all()
    assert export(tmp_path / "set", tmp_path / "out", "npy").with_gaps == ()


OBJECTS = np.array([{"a": 1}, None], dtype=object)


@pytest.mark.parametrize("kind", ["npy", "npz", "one npz"])
def test_arrays_of_objects_are_one_line(tmp_path, annotations, kind) -> None:
    with pytest.raises(DataError, match=r"Object arrays cannot be loaded|Python objects in dtype") as error:
        imported(kind, tmp_path, {"P01_01": OBJECTS}, annotations, **GRID)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("array", [drawn(2, 3, 4), np.zeros((0, 8)), np.array(["a"]), np.zeros(())], ids=str)
def test_arrays_of_another_shape_are_one_line(tmp_path, annotations, array) -> None:
    with pytest.raises(DataError, match=r"P01_01\.npy: holds .*, not an array of numbers by row and value"):
        imported("npy", tmp_path, {"P01_01": array}, annotations, **GRID)


@pytest.mark.parametrize("kind", ["npy", "one npz", "one pt", "one hdf5"])
def test_files_that_are_cut_short_are_one_line(tmp_path, annotations, kind) -> None:
    name, write = WRITERS[kind]
    (tmp_path / "files").mkdir()
    path = write(tmp_path / "files", DENSE)
    path = path if path.is_file() else path / "P01_01.npy"
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError) as error:
        import_features(name, path, out=tmp_path / "set", annotations=annotations, **GRID)
    assert str(error.value).startswith(f"{path}: cannot be read as data alone (")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("name", hostile.RUNNING)
def test_hostile_pickles_run_nothing(tmp_path, annotations, name) -> None:
    marker = tmp_path / "ran"
    path = hostile.as_zip(hostile.RUNNING[name](marker), tmp_path / "P01_01.pt")
    with pytest.raises(DataError):
        import_features("pt", path, out=tmp_path / "set", annotations=annotations, **GRID)
    assert not marker.exists()
    assert not (tmp_path / "set").exists()
