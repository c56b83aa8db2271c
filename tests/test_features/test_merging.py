"""Sets of two machines become one: nothing is lost, and nothing that differs is chosen silently."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from feature_files import DENSE, REGIONS, names_in, video, with_regions, write_set

from features.check import verify
from features.errors import DataError
from features.failures import Failure, read_failures, write_failures
from features.featureset import read_featureset
from features.merging import MergeSummary, joined, merge
from features.store import VideoFeatures, read_video


def part_of(whole: VideoFeatures, *indices: int) -> VideoFeatures:
    """Return a video with only some of its segments."""
    rows = [np.arange(whole.offset[index], whole.offset[index + 1]) for index in indices]
    order = np.concatenate(rows)
    return replace(
        whole,
        features=whole.features[order],
        seconds=whole.seconds[order],
        frame=whole.frame[order],
        narration_id=tuple(whole.narration_id[index] for index in indices),
        offset=np.cumsum([0, *map(len, rows)]),
        start_s=whole.start_s[list(indices)],
        stop_s=whole.stop_s[list(indices)],
        has_region=None if whole.has_region is None else whole.has_region[order],
    )


def read_again(root: Path) -> VideoFeatures:
    return read_video(root, "P01_01", digest=read_featureset(root).digest)


def assert_same(first: VideoFeatures, second: VideoFeatures) -> None:
    assert (first.narration_id, first.views) == (second.narration_id, second.views)
    for name in ("features", "seconds", "frame", "offset", "start_s", "stop_s", "has_region"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize(
    "split", [((0, 1), (2,)), ((2,), (0, 1)), ((0, 2), (1,)), ((0, 1, 2), (1,)), ((0,), (0, 1, 2))]
)
@pytest.mark.parametrize("whole", [video(), with_regions(video())], ids=["plain", "regions"])
def test_segments_of_a_video_come_together_in_order(split, whole) -> None:
    assert_same(joined(*(part_of(whole, *part) for part in split), Path("a.h5")), whole)


def test_videos_of_both_sets_are_there_byte_by_byte(tmp_path) -> None:
    write_set(tmp_path / "a", video("P01_01"), created="first")
    write_set(tmp_path / "b", video("P01_02"), part_of(video("P01_01"), 1), created="second")
    assert merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out") == MergeSummary(2, 1, 0)
    assert names_in(tmp_path / "out") == ["P01_01.h5", "P01_02.h5", "featureset.json"]
    assert (tmp_path / "out/P01_02.h5").read_bytes() == (tmp_path / "b/P01_02.h5").read_bytes()
    assert list(verify(tmp_path / "out")) == []
    assert_same(
        read_video(tmp_path / "out", "P01_01", digest=read_featureset(tmp_path / "out").digest), video("P01_01")
    )


def test_merging_again_and_into_one_of_the_sets_changes_nothing(tmp_path) -> None:
    write_set(tmp_path / "a", part_of(video("P01_01"), 0))
    write_set(tmp_path / "b", part_of(video("P01_01"), 1, 2))
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "a")
    state = (tmp_path / "a/P01_01.h5").stat().st_mtime_ns
    merge([tmp_path / "b"], tmp_path / "a")
    assert (tmp_path / "a/P01_01.h5").stat().st_mtime_ns == state
    assert_same(read_again(tmp_path / "a"), video("P01_01"))


def test_a_dense_video_that_both_have_is_taken_once(tmp_path) -> None:
    for root in ("a", "b"):
        write_set(tmp_path / root, video(lengths=[]), sampling=DENSE)
    assert merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out").shared == 1
    assert (tmp_path / "out/P01_01.h5").read_bytes() == (tmp_path / "a/P01_01.h5").read_bytes()


CHANGES = {
    "features": {"seed": 1},
    "times": {"seconds": video().seconds + 0.01},
    "intervals": {"stop_s": video().stop_s + 0.1},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_segment_that_differs_is_an_error_that_names_it(tmp_path, change) -> None:
    write_set(tmp_path / "a", video())
    write_set(tmp_path / "b", video(**CHANGES[change]))
    with pytest.raises(DataError, match=r"b/P01_01\.h5: segment P01_01_0 has other features in the other set"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert names_in(tmp_path / "out") == ["featureset.json"]


def test_dense_videos_that_differ_are_an_error(tmp_path) -> None:
    write_set(tmp_path / "a", video(lengths=[]), sampling=DENSE)
    write_set(tmp_path / "b", video(lengths=[], seed=1), sampling=DENSE)
    with pytest.raises(DataError, match=r"b/P01_01\.h5: video P01_01 has other features in the other set"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")


def test_sets_of_other_settings_are_an_error_that_names_them(tmp_path) -> None:
    write_set(tmp_path / "a", video())
    write_set(tmp_path / "b", video(), backbone="other")
    with pytest.raises(DataError, match=r"b: made with other settings than .*a \(backbone is 'drawn' there, 'other'"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_views_of_both_sets_are_named_but_not_those_of_a_video_joined(tmp_path) -> None:
    write_set(tmp_path / "a", video("P01_01"), video("P01_02"))
    more = {"views": 2}
    write_set(
        tmp_path / "b",
        replace(video("P01_03", **more), views=("centre", "flip")),
        views=("centre", "flip"),
    )
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert read_featureset(tmp_path / "out").views == ("centre", "flip")
    write_set(tmp_path / "c", replace(video("P01_02", **more), views=("centre", "flip")), views=("centre", "flip"))
    with pytest.raises(DataError, match="has the views centre, flip, in the other set centre; keep one of them"):
        merge([tmp_path / "a", tmp_path / "c"], tmp_path / "more")


def test_failures_stay_where_no_set_has_the_segment(tmp_path) -> None:
    write_set(tmp_path / "a", part_of(video(), 0))
    write_set(tmp_path / "b", part_of(video(), 1))
    write_failures(tmp_path / "a", "P01_01", [Failure(f"P01_01_{index}", "Undecodable", "a") for index in (1, 2)])
    write_failures(tmp_path / "b", "P01_02", [Failure("P01_02_0", "MissingVideo", "b")])
    assert merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out").failed == 2
    assert [failure.narration_id for failure in read_failures(tmp_path / "out", "P01_01")] == ["P01_01_2"]
    assert [failure.narration_id for failure in read_failures(tmp_path / "out", "P01_02")] == ["P01_02_0"]


def test_failures_of_views_that_the_file_lacks_stay(tmp_path) -> None:
    write_set(tmp_path / "a", video(), views=("centre", "flip"))
    failures = [Failure("P01_01_0", "NotFinite", "a", views=("flip",)), Failure("P01_01_1", "NotFinite", "a")]
    write_failures(tmp_path / "a", "P01_01", failures)
    assert merge([tmp_path / "a"], tmp_path / "out").failed == 1
    assert read_failures(tmp_path / "out", "P01_01") == failures[:1]


def test_a_damaged_file_is_named(tmp_path) -> None:
    write_set(tmp_path / "a", video())
    write_set(tmp_path / "b", video("P01_02"))
    (tmp_path / "b/P01_02.h5").write_bytes(b"no HDF5")
    with pytest.raises(DataError, match=r"b/P01_02\.h5: damaged"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")


@pytest.mark.parametrize("lengths", [[3, 1, 4], []], ids=["segment", "dense"])
def test_the_same_features_of_other_regions_differ(tmp_path, lengths) -> None:
    sampling = {} if lengths else {"sampling": DENSE}
    first = with_regions(video(lengths=lengths))
    for root, has_region in (("a", first.has_region), ("b", ~first.has_region)):
        write_set(tmp_path / root, replace(first, has_region=has_region), **REGIONS, **sampling)
    with pytest.raises(DataError, match=r"b/P01_01\.h5: .* has other features in the other set; keep one of them"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
