"""Feature sets as plain files: read by numpy and h5py alone, and imported again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from feature_files import DENSE, REGIONS, names_in, row, video, with_regions, write_rows, write_set

from features.errors import DataError, OptionError
from features.exporting import export
from features.featureset import read_featureset
from features.formats.files import opened_arrays
from features.importing import import_features
from features.store import VideoFeatures, read_video, write_video

IDS = ("P01_01", "P01_02")


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    rows = [row(index, video_id=video_id) for video_id in IDS for index in range(3)]
    return write_rows(tmp_path / "EPIC_100_train.csv", rows)


def dense_video(video_id: str, first_s: float = 0.1) -> VideoFeatures:
    """Twelve steps, 0.2 s apart."""
    seconds = first_s + 0.2 * np.arange(12)
    return video(video_id, lengths=[], seconds=seconds)


def write_dense(root: Path, *first_s: float) -> None:
    write_set(root, *(dense_video(*pair) for pair in zip(IDS, first_s, strict=True)), sampling=DENSE)


def read_again(root: Path, video_id: str) -> VideoFeatures:
    return read_video(root, video_id, digest=read_featureset(root).digest)


@pytest.mark.parametrize("file_format", ["npz", "npy", "hdf5"])
def test_a_dense_set_goes_out_and_comes_back(tmp_path, annotations, file_format) -> None:
    write_dense(tmp_path / "set", 0.1, 0.1)
    summary = export(tmp_path / "set", tmp_path / "out", file_format)
    assert (summary.arrays, summary.shifted, summary.with_gaps) == (2, (), ())
    assert names_in(tmp_path / "out") == ["P01_01." + file_format, "P01_02." + file_format, "README.txt"]
    text = (tmp_path / "out/README.txt").read_text()
    assert "[T, 8] float32" in text
    assert "second (t * stride + offset) / fps of the video, with fps 30, stride 6 and offset 3." in text
    times = {"fps": 30.0, "stride": 6.0, "offset": 3.0} if file_format == "npy" else {}
    import_features(file_format, tmp_path / "out", out=tmp_path / "again", annotations=annotations, **times)
    for video_id in IDS:
        first, second = (read_again(tmp_path / root, video_id) for root in ("set", "again"))
        np.testing.assert_array_equal(first.features, second.features)
        np.testing.assert_allclose(first.seconds, second.seconds, rtol=0, atol=0 if times == {} else 1e-9)


@pytest.mark.parametrize("file_format", ["npz", "npy", "hdf5"])
def test_a_set_by_segment_goes_out_and_comes_back(tmp_path, annotations, file_format) -> None:
    lengths = [3, 1, 4]
    middles = np.concatenate([2 * index + (np.arange(length) + 0.5) / length for index, length in enumerate(lengths)])
    write_set(tmp_path / "set", *(video(video_id, lengths=lengths, seconds=middles) for video_id in IDS))
    assert export(tmp_path / "set", tmp_path / "out", file_format).arrays == 6
    import_features(file_format, tmp_path / "out", out=tmp_path / "again", annotations=annotations)
    for video_id in IDS:
        first, second = (read_again(tmp_path / root, video_id) for root in ("set", "again"))
        np.testing.assert_array_equal(first.features, second.features)
        np.testing.assert_allclose(first.seconds, second.seconds, rtol=0, atol=1e-9)
        assert (first.narration_id, first.offset.tolist()) == (second.narration_id, second.offset.tolist())


def test_times_of_segments_that_are_not_spread_evenly_come_back_too(tmp_path, annotations) -> None:
    write_set(tmp_path / "set", *map(video, IDS))
    for file_format in ("npz", "hdf5"):
        export(tmp_path / "set", tmp_path / file_format, file_format)
        out = tmp_path / f"again-{file_format}"
        import_features(file_format, tmp_path / file_format, out=out, annotations=annotations)
        assert read_again(out, IDS[0]).seconds.tolist() == video(IDS[0]).seconds.tolist()


def test_actionformer_reads_what_is_written(tmp_path) -> None:
    """As its dataset does: feats of the .npz, float32, and row t at (t + offset / stride) strides."""
    write_dense(tmp_path / "set", 0.1, 0.1)
    export(tmp_path / "set", tmp_path / "out", "npz")
    with np.load(tmp_path / "out/P01_01.npz") as data:
        feats, fps, stride, offset = (data[name] for name in ("feats", "fps", "stride", "offset"))
    expected = dense_video("P01_01")
    np.testing.assert_array_equal(feats.astype(np.float32), expected.features[:, 0])
    np.testing.assert_allclose((np.arange(12) * stride + offset) / fps, expected.seconds)


def test_times_of_a_publication_stay_its_own(tmp_path, annotations) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    for video_id in IDS:
        np.savez(folder / f"{video_id}.npz", feats=np.ones((12, 4), np.float32))
    import_features("actionformer", folder, out=tmp_path / "set", annotations=annotations)
    export(tmp_path / "set", tmp_path / "out", "npz")
    with np.load(tmp_path / "out/P01_01.npz") as data:
        assert [float(data[name]) for name in ("fps", "stride", "offset")] == [30.0, 16.0, 16.0]


def test_only_the_first_view_goes_out(tmp_path) -> None:
    featureset = write_set(tmp_path / "set", sampling=DENSE, views=("centre", "flip"))
    two = np.stack([np.ones((12, 8)), np.zeros((12, 8))], axis=1).astype(np.float16)
    flipped = replace(video("P01_01", lengths=[]), features=two[:, ::-1].copy(), views=("flip", "centre"))
    write_video(tmp_path / "set", flipped, featureset)
    export(tmp_path / "set", tmp_path / "out", "hdf5")
    with h5py.File(tmp_path / "out/P01_01.hdf5") as file:
        assert (file["feats"][:] == 1).all()
        assert file["feats"].dtype == np.float32


@pytest.mark.parametrize("file_format", ["npz", "npy", "hdf5"])
def test_regions_go_out_beside_the_features(tmp_path, annotations, file_format) -> None:
    stored = with_regions(dense_video("P01_01"))
    write_set(tmp_path / "set", stored, sampling=DENSE, **REGIONS)
    export(tmp_path / "set", tmp_path / "out", file_format)
    with opened_arrays(tmp_path / f"out/P01_01.{file_format}") as arrays:
        assert ("has_region" in arrays) == (file_format != "npy")
        if file_format != "npy":
            np.testing.assert_array_equal(arrays["has_region"][:], stored.has_region)
    text = (tmp_path / "out/README.txt").read_text()
    assert "A row holds the cells hands:mean, held:mean side by side." in text
    told = "Which of them a row lacks is not in these files" if file_format == "npy" else "has_region [T, 2] says which"
    assert told in text
    times = {"fps": 30.0, "stride": 6.0, "offset": 3.0} if file_format == "npy" else {}
    import_features(file_format, tmp_path / "out", out=tmp_path / "again", annotations=annotations, **times)
    assert read_again(tmp_path / "again", "P01_01").has_region is None


def test_a_video_with_missing_rows_is_left_out_and_named(tmp_path) -> None:
    gap = video("P01_02", lengths=[], seconds=0.1 + 0.2 * np.array([0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14]))
    write_set(tmp_path / "set", dense_video("P01_01"), gap, sampling=DENSE)
    summary = export(tmp_path / "set", tmp_path / "out", "npy")
    assert (summary.arrays, summary.with_gaps) == (1, ("P01_02",))
    assert names_in(tmp_path / "out") == ["P01_01.npy", "README.txt"]
    assert "Left out, as rows are missing in them: P01_02." in (tmp_path / "out/README.txt").read_text()


def test_a_video_that_begins_later_is_named(tmp_path) -> None:
    write_dense(tmp_path / "set", 0.1, 0.35)
    assert export(tmp_path / "set", tmp_path / "out", "npy").shifted == ("P01_02",)
    text = (tmp_path / "out/README.txt").read_text()
    assert "Another offset, as their first frame is later or earlier: P01_02." in text


def test_a_folder_of_something_else_stays_as_it_is(tmp_path) -> None:
    write_dense(tmp_path / "set", 0.1, 0.1)
    write_set(tmp_path / "other", dense_video("P01_01"), sampling=DENSE, backbone="other")
    for _ in range(2):  # the second time continues
        export(tmp_path / "set", tmp_path / "out", "npy")
    for root, file_format in (("other", "npy"), ("set", "npz")):
        with pytest.raises(DataError, match="holds other files; export into a new folder"):
            export(tmp_path / root, tmp_path / "out", file_format)


def test_what_cannot_be_exported_is_one_line(tmp_path) -> None:
    with pytest.raises(OptionError, match="--format: no format 'npx'; did you mean 'np"):
        export(tmp_path, tmp_path / "out", "npx")
    write_set(tmp_path / "set", sampling=DENSE)
    with pytest.raises(DataError, match="has no features yet"):
        export(tmp_path / "set", tmp_path / "out", "npy")
