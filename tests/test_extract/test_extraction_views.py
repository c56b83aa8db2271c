"""A feature set gains views: only they are extracted, what is there is kept, and a view that fails costs no other."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from annotate import annotate
from encode import cut, write_video

from extract.extraction import Summary, extract_videos
from extract.outcome import write_outcome
from extract.pipeline import Pipeline
from extract.tasks.status import read_status
from features.annotations import read_segments
from features.check import info, verify
from features.errors import DataError, OptionError
from features.failures import read_failures
from features.featureset import read_featureset
from features.store import VideoFeatures, read_video, video_ids

SEGMENTS = {
    "P01_101_0": (0.10, 0.90),
    "P01_101_1": (0.50, 1.50),
    "P01_102_0": (0.00, 1.00),
    "P02_01_0": (0.40, 1.90),
}
# From a file: random:0 draws from torch's generator, which threads share.
WEIGHTS = Path(__file__).parents[1] / "golden" / "features-0.1.0" / "weights.pth"
ALL = "centre,flip,early,augment:2"
NAMES = ("centre", "flip", "early", "augment1", "augment2")


@pytest.fixture(scope="module")
def original_videos(tmp_path_factory) -> Path:
    """Three videos of 2 s."""
    folder = tmp_path_factory.mktemp("videos")
    for name in ("P01_101", "P01_102", "P02_01"):
        write_video(folder / f"{name}.mp4")
    return folder


@pytest.fixture
def videos(original_videos, tmp_path) -> Path:
    return shutil.copytree(original_videos, tmp_path / "videos")


@pytest.fixture
def extract(videos, tmp_path):
    """Extract segments into out/, by default all with tiny_cnn, random:0 and 4 frames."""

    def run(views: str, segments: dict[str, tuple[float, float]] = SEGMENTS, **options) -> Summary:
        rows = read_segments(annotate(tmp_path / f"{views}.csv", segments))
        settings = {"backbone": "tiny_cnn", "weights": str(WEIGHTS), "num_frames": 4, "workers": 1, **options}
        return extract_videos(rows, videos, tmp_path / "out", views=views, **settings)

    return run


@pytest.fixture(scope="module")
def in_all_views(original_videos, tmp_path_factory) -> Path:
    """The feature set of one run with all views; read it, never write into it."""
    return _unbroken(original_videos, tmp_path_factory.mktemp("all"), ALL)


@pytest.fixture(scope="module")
def original_set(original_videos, tmp_path_factory) -> Path:
    return _unbroken(original_videos, tmp_path_factory.mktemp("centre"), "centre")


@pytest.fixture
def with_centre(original_set, tmp_path) -> Path:
    """A finished set of the centre alone, in out/."""
    return shutil.copytree(original_set, tmp_path / "out")


def _unbroken(videos: Path, out: Path, views: str) -> Path:
    segments = read_segments(annotate(out / "segments.csv", SEGMENTS))
    options = {"backbone": "tiny_cnn", "weights": str(WEIGHTS), "num_frames": 4, "workers": 1}
    extract_videos(segments, videos, out, views=views, **options)
    return out


def _read(root: Path, video_id: str, views: tuple[str, ...] | None = None) -> VideoFeatures:
    return read_video(root, video_id, digest=read_featureset(root).digest, views=views)


def _assert_same(root: Path, other: Path) -> None:
    """Check that two sets hold the same videos with the same views, in any order."""
    assert video_ids(root) == video_ids(other)
    assert set(read_featureset(root).views) == set(read_featureset(other).views)
    for video_id in video_ids(root):
        video = _read(root, video_id)
        expected = _read(other, video_id, video.views)
        assert len(video.views) == len(_read(other, video_id).views)
        np.testing.assert_array_equal(video.features, expected.features)
        np.testing.assert_array_equal(video.seconds, expected.seconds)
        assert video.narration_id == expected.narration_id


@pytest.fixture
def extracted_views(monkeypatch) -> list[tuple[str, ...]]:
    """The views of every video that goes through a pipeline."""
    views = []
    run = Pipeline.run

    def noted(pipeline, requests, decoders):
        return run(pipeline, (views.append([view.name for view in one.views]) or one for one in requests), decoders)

    monkeypatch.setattr(Pipeline, "run", noted)
    return views


# ---- gaining views


def test_views_of_one_run_stand_in_every_file_and_in_the_record(in_all_views):
    featureset = read_featureset(in_all_views)
    assert featureset.views == NAMES
    assert set(featureset.view_parameters) == set(NAMES) - {"centre"}
    assert featureset.view_parameters["augment2"] == {
        "area": [0.8, 1.0],
        "ratio": [3 / 4, 4 / 3],
        "flip": 0.5,
        "jitter": 0.2,
    }
    assert all(_read(in_all_views, video_id).views == NAMES for video_id in video_ids(in_all_views))
    assert list(verify(in_all_views)) == []


def test_a_finished_set_gains_views_as_if_they_had_been_extracted_with_it(
    extract, tmp_path, in_all_views, extracted_views
):
    extract("centre")
    digest = read_featureset(tmp_path / "out").digest
    assert (extract("augment:2").done, extract("centre").kept) == (4, 4)
    assert extract(ALL).done == 4
    assert extract(ALL).kept == 4
    assert extracted_views == 3 * [["centre"]] + 3 * [["augment1", "augment2"]] + 3 * [["flip", "early"]]
    _assert_same(tmp_path / "out", in_all_views)
    assert read_featureset(tmp_path / "out").digest == digest
    assert list(verify(tmp_path / "out")) == []


def test_tasks_batches_and_interruptions_give_the_same_draws(extract, tmp_path, in_all_views, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    extract(ALL, shard=(1, 2), batch_size=3)
    monkeypatch.setattr("extract.extraction.write_outcome", stop)
    with pytest.raises(KeyboardInterrupt):
        extract(ALL, shard=(0, 2))
    monkeypatch.undo()
    assert 0 < len(video_ids(tmp_path / "out")) < 3
    assert 0 < extract(ALL).kept < 4
    _assert_same(tmp_path / "out", in_all_views)


def test_new_segments_get_the_views_that_their_file_has(extract, tmp_path):
    extract("centre,flip", {"P01_101_0": SEGMENTS["P01_101_0"]})
    extract("centre", SEGMENTS)
    assert _read(tmp_path / "out", "P01_101").views == ("centre", "flip")
    assert _read(tmp_path / "out", "P01_101").narration_id == ("P01_101_0", "P01_101_1")
    assert _read(tmp_path / "out", "P02_01").views == ("centre",)


def test_tasks_may_add_different_views_at_once(extract, with_centre, in_all_views):
    for path in with_centre.glob("*.h5"):
        with h5py.File(path, "r+") as file:
            del file["views"]  # as in a set of version 0.1.0
    with ThreadPoolExecutor(2) as tasks:
        runs = [tasks.submit(extract, views) for views in ("flip", "early")]
        assert [run.result().done for run in runs] == [4, 4]
    assert set(read_featureset(with_centre).views) == {"centre", "flip", "early"}
    for video_id in video_ids(with_centre):
        video = _read(with_centre, video_id, NAMES[:3])
        np.testing.assert_array_equal(video.features, _read(in_all_views, video_id, NAMES[:3]).features)


def test_views_that_another_run_adds_meanwhile_are_kept(extract, with_centre, monkeypatch):
    def write_after_another_run(*arguments):
        monkeypatch.undo()
        extract("flip")
        return write_outcome(*arguments)

    monkeypatch.setattr("extract.extraction.write_outcome", write_after_another_run)
    assert extract("early").done == 4
    assert _read(with_centre, "P01_101").views == ("centre", "flip", "early")


def test_a_view_made_in_another_way_is_refused(extract, in_all_views, tmp_path, monkeypatch):
    shutil.copytree(in_all_views, tmp_path / "out")
    monkeypatch.setattr("extract.views._PARAMETERS", {"augment": {"area": [0.5, 1.0]}})
    with pytest.raises(DataError, match="holds other features of view 'augment1'"):
        extract("augment:1")


def test_left_and_right_are_refused_for_a_backbone_that_sees_the_whole_picture(extract, tmp_path):
    with pytest.raises(OptionError, match="--views: left is the same as centre"):
        extract("centre,left")
    assert not (tmp_path / "out").exists()


# ---- counting and failing


def test_status_and_info_count_views(extract, with_centre, tmp_path):
    extract("flip", {name: SEGMENTS[name] for name in ("P01_101_0", "P01_101_1")})
    segments = read_segments(annotate(tmp_path / "all.csv", SEGMENTS))
    plain, flip = (read_status(tmp_path / "out", segments, views=views) for views in (None, ["centre", "flip"]))
    assert plain.view_segments == flip.view_segments == {"centre": 4, "flip": 2}
    assert (plain.done_segments, plain.missing_segments) == (4, 0)
    assert (flip.done_segments, flip.done_videos, flip.missing_segments) == (2, 1, 2)
    assert info(tmp_path / "out").views == {"centre": 3, "flip": 1}
    with pytest.raises(OptionError, match=r"--views: no view of .*out 'flp'; did you mean 'flip'\?"):
        read_status(tmp_path / "out", segments, views=["flp"])


def _fail_to_add(extract, videos: Path, root: Path, view: str, **options: object) -> None:
    """Ask for a view of a set after one of its videos was cut, and check that nothing else has changed."""
    before = (root / "P01_101.h5").read_bytes()
    cut(videos / "P01_101.mp4", share=0.6)
    summary = extract(f"centre,{view}", **options)
    assert (summary.done, summary.kept, summary.failed) == (2, 0, 2)
    assert (root / "P01_101.h5").read_bytes() == before
    failures = read_failures(root, "P01_101")
    assert {failure.narration_id for failure in failures} == {"P01_101_0", "P01_101_1"}
    assert all(failure.views == (view,) for failure in failures)
    # The centre has not failed, and another run of it forgets nothing.
    assert extract("centre", **options).kept == 4
    assert read_failures(root, "P01_101") == failures


def test_views_that_a_cut_video_cannot_give_leave_its_file_as_it_is(extract, with_centre, videos):
    _fail_to_add(extract, videos, with_centre, "flip")


def test_a_dense_set_gains_views_unless_its_video_was_cut(extract, videos, tmp_path):
    extract("centre", every_s=0.25)
    before = _read(tmp_path / "out", "P01_101")
    assert extract("centre,late", every_s=0.25).done == 4
    after = _read(tmp_path / "out", "P01_101")
    assert after.views == ("centre", "late")
    np.testing.assert_array_equal(after.features[:, :1], before.features)
    assert not np.array_equal(after.features[:, 1], after.features[:, 0])
    _fail_to_add(extract, videos, tmp_path / "out", "augment1", every_s=0.25)


def test_failures_of_a_view_are_gone_once_it_is_there(extract, with_centre, videos, original_videos, tmp_path):
    os.unlink(videos / "P01_101.mp4")
    assert extract("flip").failed == 2
    [first, second] = read_failures(tmp_path / "out", "P01_101")
    assert (first.error, first.views, second.views) == ("MissingVideo", ("flip",), ("flip",))
    shutil.copy(original_videos / "P01_101.mp4", videos)
    assert extract("flip").failed == 0
    assert read_failures(tmp_path / "out", "P01_101") == []
