"""Runs of stage 1: the features are right, what is there is kept, and what cannot be had is said."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import astuple
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from annotate import annotate
from encode import cut, damage_packet, decode_all, number_in, number_picture, planes_of_all, write_sound, write_video
from odd_videos import (
    joined,
    later,
    not_coded_vop,
    one_after_the_other,
    pictures_shown,
    rewritten,
    with_packets_between,
)
from torchvision.transforms import functional as F

import extract as extract_package
from extract.backbone_input import Preprocess
from extract.backbones import get
from extract.backbones.networks.pooling import steps
from extract.backbones.tokens import MEAN
from extract.extraction import Summary, extract_videos
from extract.outcome import write_outcome
from extract.weights.load import load_backbone
from features.annotations import read_all_segments, read_segments
from features.check import verify
from features.errors import DataError, OptionError
from features.failures import Failure, failed_video_ids, read_failures
from features.featureset import read_featureset
from features.store import VideoFeatures, read_video, video_ids

# narration_id -> (start, stop) in seconds; some overlap, and all videos last 2 s.
SEGMENTS = {
    "P01_101_0": (0.10, 0.90),
    "P01_101_1": (0.50, 1.50),
    "P01_101_2": (1.20, 1.95),
    "P01_102_0": (0.00, 1.00),
    "P01_102_1": (0.25, 0.75),
    "P02_01_0": (0.40, 1.90),
}


def select(*names: str) -> dict[str, tuple[float, float]]:
    return {name: SEGMENTS[name] for name in names}


@pytest.fixture(scope="module")
def original_videos(tmp_path_factory) -> Path:
    """Three videos of 2 s: H.264, HEVC and MPEG-4; copied by those who change them."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "P01" / "P01_101.mp4", container_options={"movflags": "faststart"})
    write_video(folder / "P01" / "P01_102.mp4", codec="libx265", fps=50, num_frames=100)
    write_video(folder / "P02" / "P02_01.mp4", codec="mpeg4", fps=Fraction(30000, 1001))
    return folder


@pytest.fixture
def videos(original_videos, tmp_path) -> Path:
    return shutil.copytree(original_videos, tmp_path / "videos")


@pytest.fixture
def extract(videos, tmp_path):
    """Extract segments into out/, by default all with tiny_cnn, random:0 and 4 frames."""

    def run(segments: dict[str, tuple[float, float]] = SEGMENTS, *, out: str = "out", **options) -> Summary:
        csv_path = annotate(tmp_path / "segments.csv", segments)
        settings = {"backbone": "tiny_cnn", "weights": "random:0", "num_frames": 4, "workers": 1, **options}
        return extract_videos(read_segments(csv_path), videos, tmp_path / out, **settings)

    return run


@pytest.fixture(scope="module")
def complete_set(original_videos, tmp_path_factory) -> Path:
    """The feature set of one run over everything; read it, never write into it."""
    out = tmp_path_factory.mktemp("unbroken")
    segments = read_segments(annotate(out / "segments.csv", SEGMENTS))
    extract_videos(segments, original_videos, out, backbone="tiny_cnn", weights="random:0", num_frames=4, workers=1)
    return out


def _read(root: Path, video_id: str) -> VideoFeatures:
    return read_video(root, video_id, digest=read_featureset(root).digest)


def _steps(root: Path, narration_id: str) -> np.ndarray:
    """Read the features of one segment, (T, D)."""
    video = _read(root, narration_id.rsplit("_", 1)[0])
    index = video.narration_id.index(narration_id)
    return video.features[video.offset[index] : video.offset[index + 1], 0]


def _bytes(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.glob("*.h5"))}


def _errors(root: Path, video_id: str) -> dict[str, str]:
    return {failure.narration_id: failure.error for failure in read_failures(root, video_id)}


def _add_up(summary: Summary) -> bool:
    return summary.done + summary.kept + summary.failed == summary.segments


# ---- the features are right


_BT601 = torch.tensor([[1.164383, 0, 1.596027], [1.164383, -0.391762, -0.812968], [1.164383, 2.017232, 0]]) / 255


def _plain_features(path: Path, start_s: float, stop_s: float, *, num_frames: int, backbone: str) -> np.ndarray:
    """Do the same slowly, in float32: every frame decoded, the nearest looked for, one clip at a time; (steps, D)."""
    entry, (network, _) = get(backbone), load_backbone(get(backbone), "random:0")
    seconds, pictures = [second for second, _ in decode_all(path)], planes_of_all(path)

    def nearest(second: float) -> list[np.ndarray]:
        return pictures[min(range(len(seconds)), key=lambda index: abs(seconds[index] - second))]

    rows = []
    length = entry.clip.num_frames
    for part in range(num_frames // length):
        middle_s = start_s + (stop_s - start_s) * (2 * part + 1) / (2 * num_frames // length)
        moments = [middle_s + (index - (length - 1) / 2) / (entry.clip.fps or 1) for index in range(length)]
        clip = torch.stack([_plain_picture(nearest(moment), entry.preprocess) for moment in moments], dim=1)
        rows += steps(network, clip[None], MEAN)[0, :, 0].numpy().tolist()
    return np.array(rows)


def _plain_picture(planes: list[np.ndarray], recipe: Preprocess) -> torch.Tensor:
    size = [recipe.resize] if isinstance(recipe.resize, int) else list(recipe.resize)
    luma = F.resize(torch.from_numpy(planes[0])[None].float(), size, antialias=recipe.antialias)
    size = list(luma.shape[1:])
    u, v = (F.resize(torch.from_numpy(plane)[None].float(), size, antialias=recipe.antialias) for plane in planes[1:])
    rgb = (_BT601 @ torch.cat([luma - 16, u - 128, v - 128]).reshape(3, -1)).clamp(0, 1).reshape(3, *size)
    if recipe.crop:
        rgb = F.center_crop(rgb, list(recipe.crop))
    return F.normalize(rgb, list(recipe.mean), list(recipe.std))


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows, in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("name", SEGMENTS)
def test_features_equal_those_of_a_plain_slow_loop(original_videos, complete_set, name):
    video_id = name.rsplit("_", 1)[0]
    path = next(original_videos.rglob(f"{video_id}.mp4"))
    expected = _plain_features(path, *SEGMENTS[name], num_frames=4, backbone="tiny_cnn")
    assert _cosine(_steps(complete_set, name), expected).min() >= 0.9999


@pytest.mark.parametrize("backbone", [pytest.param("resnet50", marks=pytest.mark.slow), "r2plus1d_18"])
def test_features_of_the_miniature_equal_those_of_a_plain_slow_loop(miniature, tmp_path, backbone):
    table = read_all_segments([miniature.annotations]).table
    video_id = min(table.video_id)
    segments = read_all_segments([miniature.annotations]).where(table.video_id == video_id)
    segments = segments.where(np.arange(len(segments)) < 3)
    extract_videos(segments, miniature.videos, tmp_path, backbone=backbone, weights="random:0", num_frames=16)
    path = next(miniature.videos.rglob(f"{video_id}.*"))
    row = segments.table.iloc[2]
    expected = _plain_features(path, row.start_s, row.stop_s, num_frames=16, backbone=backbone)
    assert _cosine(_steps(tmp_path, row.narration_id), expected).min() >= 0.9999


def test_times_and_frames_are_those_of_the_steps(complete_set):
    video = _read(complete_set, "P01_101")
    np.testing.assert_allclose(video.seconds[:4], [0.2, 0.4, 0.6, 0.8])
    assert video.frame[:4].tolist() == [6, 12, 18, 24]


def test_intervals_are_kept_beside_the_features(complete_set):
    video = _read(complete_set, "P01_102")
    intervals = zip(video.narration_id, video.start_s, video.stop_s, strict=True)
    assert {name: (start, stop) for name, start, stop in intervals} == select("P01_102_0", "P01_102_1")


def test_rate_of_the_video_is_kept(complete_set):
    assert _read(complete_set, "P02_01").fps == pytest.approx(29.97, abs=0.001)


def test_overlapping_segments_do_not_change_each_other(extract, tmp_path, complete_set):
    for name in ("P01_101_0", "P01_101_1", "P01_101_2"):
        extract(select(name), out=name)
        # float16 keeps 11 bits.
        np.testing.assert_allclose(_steps(tmp_path / name, name), _steps(complete_set, name), rtol=2**-10, atol=1e-4)


def test_segments_of_the_same_interval_have_the_same_features(extract, tmp_path):
    extract({"P01_101_0": (0.3, 1.1), "P01_101_1": (0.3, 1.1)})
    np.testing.assert_array_equal(_steps(tmp_path / "out", "P01_101_0"), _steps(tmp_path / "out", "P01_101_1"))


def test_feature_set_is_sound(complete_set):
    assert list(verify(complete_set)) == []


def test_more_frames_than_the_segment_has_repeat_frames(extract, tmp_path):
    extract({"P01_101_0": (0.5, 0.6)}, num_frames=32)
    video = _read(tmp_path / "out", "P01_101")
    assert video.features.shape[0] == 32
    assert set(video.frame.tolist()) == {15, 16, 17, 18}


@pytest.mark.parametrize(
    ("clip", "from_middle_s"),
    [
        (None, 4 / 15),  # 16 frames at 15 fps round the middle: the halves' middles lie 4 frames before and after it
        ("spread", 0.25),  # 16 frames over the segment, which lasts 1 s
    ],
)
def test_clip_backbone_gives_its_steps_at_their_times(clip, from_middle_s, extract, tmp_path):
    extract(select("P01_101_1"), backbone="r2plus1d_18", num_frames=16, clip=clip)
    video = _read(tmp_path / "out", "P01_101")
    assert video.features.shape == (2, 1, 512)
    np.testing.assert_allclose(video.seconds, [1 - from_middle_s, 1 + from_middle_s])


# ---- what is there is kept


def test_summary_counts_what_was_done(extract):
    assert extract() == Summary(videos=3, segments=6, done=6, kept=0, failed=0, failed_videos=())


def test_second_run_does_nothing(extract, tmp_path):
    extract()
    stats = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in (tmp_path / "out").rglob("*")}
    summary = extract()
    assert (summary.kept, summary.done) == (6, 0)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in (tmp_path / "out").rglob("*")} == stats


def test_second_run_does_not_need_the_videos(extract, tmp_path):
    extract()
    shutil.rmtree(tmp_path / "videos")
    (tmp_path / "videos").mkdir()
    assert extract().kept == 6


def test_order_of_the_annotations_does_not_change_the_bytes(extract, tmp_path, complete_set):
    extract(dict(reversed(SEGMENTS.items())))
    assert _bytes(tmp_path / "out") == _bytes(complete_set)


def test_number_of_annotation_files_does_not_change_the_bytes(videos, tmp_path, complete_set):
    files = [
        annotate(tmp_path / "b.csv", select("P01_101_2", "P02_01_0")),
        annotate(tmp_path / "a.csv", select("P01_101_0", "P01_102_1", "P01_101_1", "P01_102_0")),
    ]
    segments = read_all_segments(files)
    extract_videos(segments, videos, tmp_path / "out", backbone="tiny_cnn", weights="random:0", num_frames=4, workers=1)
    assert _bytes(tmp_path / "out") == _bytes(complete_set)


def test_segments_added_later_leave_the_first_ones_as_they_were(extract, tmp_path):
    extract(select("P01_101_1"))
    steps_before = _steps(tmp_path / "out", "P01_101_1")
    summary = extract(select("P01_101_0", "P01_101_2"))
    assert (summary.done, summary.kept) == (2, 0)
    np.testing.assert_array_equal(_steps(tmp_path / "out", "P01_101_1"), steps_before)


def test_segments_added_later_end_in_the_bytes_of_one_run(extract, tmp_path, complete_set):
    extract(select("P01_101_1"))
    extract(SEGMENTS)
    assert _bytes(tmp_path / "out") == _bytes(complete_set)


def test_segments_asked_for_again_beside_new_ones_count_as_there(extract):
    extract(select("P01_101_1", "P02_01_0"))
    summary = extract()
    assert (summary.segments, summary.done, summary.kept, summary.failed) == (6, 4, 2, 0)


def test_changed_interval_is_an_error_that_says_both(extract):
    extract()
    with pytest.raises(DataError, match=r"P01_101_1 .*0\.50 to 1\.50 s.*0\.50 to 1\.40 s"):
        extract({**SEGMENTS, "P01_101_1": (0.5, 1.4)})


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"backbone": "resnet50"}, r"backbone is 'tiny_cnn' there, 'resnet50' is wanted"),
        ({"num_frames": 8}, r"sampling is {'num_frames': 4} there, {'num_frames': 8} is wanted"),
        ({"weights": "random:1"}, r"weights is '[0-9a-f]{64}' there, '[0-9a-f]{64}' is wanted"),
    ],
    ids=["backbone", "frames", "weights"],
)
def test_other_settings_in_the_same_folder_are_an_error_that_says_what_differs(extract, options, difference):
    extract(select("P01_101_0"))
    with pytest.raises(DataError, match=difference):
        extract(**options)


def test_other_settings_leave_the_folder_as_it_was(extract, tmp_path):
    extract(select("P01_101_0"))
    files_before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    with pytest.raises(DataError):
        extract(num_frames=8)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == files_before


def test_damaged_file_of_features_is_an_error_that_names_it(extract, tmp_path):
    extract()
    cut(tmp_path / "out" / "P01_102.h5", share=0.5)
    with pytest.raises(DataError, match=r"P01_102\.h5: .*delete it and run the extraction again"):
        extract()


# ---- what cannot be had is said, and the rest goes on


def test_missing_video_is_recorded(extract, videos, tmp_path):
    (videos / "P01" / "P01_102.mp4").unlink()
    extract()
    assert _errors(tmp_path / "out", "P01_102") == {"P01_102_0": "MissingVideo", "P01_102_1": "MissingVideo"}


def test_segment_beyond_the_end_is_recorded_with_its_place(extract, tmp_path):
    extract({**SEGMENTS, "P01_101_2": (1.2, 7.5)})
    [failure] = read_failures(tmp_path / "out", "P01_101")
    assert (failure.narration_id, failure.error) == ("P01_101_2", "BeyondEnd")
    assert all(part in failure.message for part in ("P01_101.mp4", "P01_101_2", "7.50", "2.00"))


def test_segments_beyond_the_cut_of_a_truncated_video_are_recorded_as_that(extract, videos, tmp_path):
    cut(videos / "P01" / "P01_101.mp4", share=0.75)  # its index lies at the start
    extract()
    [failure] = [record for record in read_failures(tmp_path / "out", "P01_101") if record.narration_id == "P01_101_2"]
    assert failure.error == "BeyondEnd"
    assert "truncated" in failure.message


def test_segments_before_the_cut_of_a_truncated_video_are_there(extract, videos, tmp_path, complete_set):
    cut(videos / "P01" / "P01_101.mp4", share=0.75)
    extract()
    np.testing.assert_array_equal(_steps(tmp_path / "out", "P01_101_0"), _steps(complete_set, "P01_101_0"))


@pytest.mark.parametrize("content", [b"", b"no video\n", "sound", "cut"], ids=["empty", "text", "sound", "cut"])
def test_video_that_cannot_be_opened_is_recorded(extract, videos, tmp_path, content):
    path = videos / "P01" / "P01_102.mp4"  # its index lies at the end
    if content == "cut":
        cut(path, share=0.5)
    elif content == "sound":
        write_sound(path)
    else:
        path.write_bytes(content)
    extract()
    failures = read_failures(tmp_path / "out", "P01_102")
    assert [failure.error for failure in failures] == ["UnreadableVideo", "UnreadableVideo"]
    assert all("P01_102.mp4" in failure.message for failure in failures)


def test_damaged_frame_is_recorded_with_its_number(extract, videos, tmp_path):
    path = write_video(videos / "P01" / "P01_101.mp4", gop=1, b_frames=0)
    damage_packet(path, 6)  # the first frame of P01_101_0, and of no other segment
    extract()
    [failure] = read_failures(tmp_path / "out", "P01_101")
    assert (failure.narration_id, failure.error, failure.frame) == ("P01_101_0", "Undecodable", 6)


def test_values_beyond_float16_are_recorded(extract, tmp_path):
    state = load_backbone(get("tiny_cnn"), "random:0")[0].network.state_dict()
    state["2.bias"].fill_(1e6)
    torch.save(state, tmp_path / "large.pth")
    extract(select("P01_101_0"), weights=str(tmp_path / "large.pth"))
    assert _errors(tmp_path / "out", "P01_101") == {"P01_101_0": "NotFinite"}


def _break_all(videos: Path) -> dict[str, tuple[float, float]]:
    """Break something in every video; give the segments to ask for."""
    cut(videos / "P01" / "P01_101.mp4", share=0.75)  # P01_101_2 is lost
    (videos / "P01" / "P01_102.mp4").unlink()  # both of its segments are lost
    return {**SEGMENTS, "P02_01_1": (1.0, 9.0)}  # and P02_01_0 is there


def test_failures_do_not_keep_the_other_segments(extract, videos, tmp_path):
    extract(_break_all(videos))
    root = tmp_path / "out"
    stored_ids = {name for video_id in video_ids(root) for name in _read(root, video_id).narration_id}
    failed_ids = {
        failure.narration_id for video_id in failed_video_ids(root) for failure in read_failures(root, video_id)
    }
    assert "P01_101_0" in stored_ids
    assert "P02_01_0" in stored_ids
    assert {"P01_101_2", "P01_102_0", "P01_102_1", "P02_01_1"} <= failed_ids
    assert stored_ids | failed_ids == {*SEGMENTS, "P02_01_1"}
    assert not stored_ids & failed_ids


def test_feature_set_with_failures_is_sound(extract, videos, tmp_path):
    extract(_break_all(videos))
    assert list(verify(tmp_path / "out")) == []


def test_summary_with_failures_adds_up(extract, videos):
    segments = _break_all(videos)
    first_run = extract(segments)
    second_run = extract(segments)
    assert _add_up(first_run)
    assert _add_up(second_run)
    assert (first_run.segments, second_run.kept, second_run.done) == (7, first_run.done, 0)
    assert first_run.failed_videos == ("P01_101", "P01_102", "P02_01")


def test_mended_videos_are_completed_by_the_same_run(extract, videos, original_videos, tmp_path, complete_set):
    cut(videos / "P01" / "P01_101.mp4", share=0.75)
    (videos / "P01" / "P01_102.mp4").unlink()
    extract()
    shutil.copytree(original_videos, videos, dirs_exist_ok=True)
    summary = extract()
    assert summary.failed == 0
    assert _bytes(tmp_path / "out") == _bytes(complete_set)


def test_record_of_failures_is_gone_once_the_video_is_mended(extract, videos, original_videos, tmp_path):
    cut(videos / "P01" / "P01_101.mp4", share=0.75)
    extract()
    assert failed_video_ids(tmp_path / "out") == ["P01_101"]
    shutil.copytree(original_videos, videos, dirs_exist_ok=True)
    extract()
    assert failed_video_ids(tmp_path / "out") == []


def test_features_are_kept_when_their_video_has_since_been_cut(extract, videos, tmp_path):
    extract(select("P01_101_1", "P01_101_2"))
    bytes_before = _bytes(tmp_path / "out")
    cut(videos / "P01" / "P01_101.mp4", share=0.75)
    summary = extract(select("P01_101_0", "P01_101_1", "P01_101_2"))
    assert _bytes(tmp_path / "out") == bytes_before
    assert _errors(tmp_path / "out", "P01_101") == {"P01_101_0": "KeptEarlier"}
    assert (summary.kept, summary.failed) == (2, 1)


def test_features_are_kept_when_their_video_has_since_gone(extract, videos, tmp_path):
    extract(select("P01_101_1"))
    bytes_before = _bytes(tmp_path / "out")
    (videos / "P01" / "P01_101.mp4").unlink()
    extract(select("P01_101_0"))
    assert _bytes(tmp_path / "out") == bytes_before


def test_reason_says_that_the_video_of_kept_features_has_gone(extract, videos, tmp_path):
    extract(select("P01_101_1"))
    (videos / "P01" / "P01_101.mp4").unlink()
    extract(select("P01_101_0"))
    [failure] = read_failures(tmp_path / "out", "P01_101")
    assert "None" not in failure.message
    assert "P01_101" in failure.message


def test_failures_of_other_segments_of_the_video_are_not_forgotten(extract, tmp_path):
    extract({"P01_101_8": (1.0, 8.0)})
    extract({"P01_101_9": (1.0, 9.0)})
    assert set(_errors(tmp_path / "out", "P01_101")) == {"P01_101_8", "P01_101_9"}


def test_failure_is_gone_once_its_interval_is_corrected(extract, tmp_path):
    extract({**select("P01_101_0"), "P01_101_9": (1.0, 9.0)})
    extract({**select("P01_101_0"), "P01_101_9": (1.0, 1.9)})
    assert failed_video_ids(tmp_path / "out") == []


def test_failure_is_a_record_of_plain_values(extract, videos, tmp_path):
    (videos / "P02" / "P02_01.mp4").unlink()
    extract()
    [failure] = read_failures(tmp_path / "out", "P02_01")
    assert isinstance(failure, Failure)
    assert astuple(failure)[:2] == ("P02_01_0", "MissingVideo")


@pytest.mark.parametrize("num_frames", [0, -3])
def test_number_of_frames_below_1_is_a_wrong_option(extract, num_frames):
    with pytest.raises(OptionError, match="--frames"):
        extract(num_frames=num_frames)


def test_wrong_options_leave_no_folder_behind(extract, tmp_path):
    for options in ({"num_frames": 0}, {"backbone": "resnet51"}, {"weights": "random:x"}):
        with pytest.raises(OptionError):
            extract(**options)
    assert not (tmp_path / "out").exists()


def test_painted_numbers_are_found_by_time(original_videos, complete_set):
    # The frame that a step is said to come from is the one that is on at its second.
    video = _read(complete_set, "P02_01")
    frames = [(second, number_in(picture)) for second, picture in decode_all(original_videos / "P02" / "P02_01.mp4")]
    nearest: Sequence[int] = [min(frames, key=lambda frame: abs(frame[0] - second))[1] for second in video.seconds]
    assert video.frame.tolist() == nearest


def test_other_segments_that_another_run_writes_meanwhile_are_kept(extract, tmp_path, monkeypatch):
    def write_after_another_run(*arguments):
        monkeypatch.undo()
        extract(select("P01_101_2"))  # begins and ends while the first run is at work on the same video
        return write_outcome(*arguments)

    monkeypatch.setattr("extract.extraction.write_outcome", write_after_another_run)
    assert extract(select("P01_101_0", "P01_101_1")).done == 2
    video = read_video(tmp_path / "out", "P01_101", digest=read_featureset(tmp_path / "out").digest)
    assert video.narration_id == ("P01_101_0", "P01_101_1", "P01_101_2")


def test_file_under_another_videos_name_is_refused(extract, tmp_path):
    extract()
    (tmp_path / "out" / "P01_101.h5").rename(tmp_path / "out" / "P01_102.h5")
    assert [problem for problem in verify(tmp_path / "out") if "P01_102.h5: holds video 'P01_101'" in problem]


# ---- dense sets


def _seconds(root: Path, video_id: str) -> np.ndarray:
    return _read(root, video_id).seconds


def test_dense_set_has_a_step_at_every_interval_of_every_video(extract, tmp_path):
    summary = extract(every_s=0.25)
    assert summary == Summary(videos=3, segments=6, done=6, kept=0, failed=0, failed_videos=())
    for video_id in ("P01_101", "P01_102", "P02_01"):
        np.testing.assert_allclose(_seconds(tmp_path / "out", video_id), 0.125 + 0.25 * np.arange(8), atol=1e-6)
    assert list(verify(tmp_path / "out")) == []


def test_steps_of_a_dense_set_are_the_plain_slow_ones(extract, original_videos, tmp_path):
    extract(every_s=0.25)
    expected = _plain_features(original_videos / "P01" / "P01_102.mp4", 0, 2, num_frames=8, backbone="tiny_cnn")
    assert _cosine(_read(tmp_path / "out", "P01_102").features[:, 0], expected).min() >= 0.9999


def test_second_dense_run_does_nothing_even_for_other_segments(extract, tmp_path):
    extract(select("P01_101_0", "P01_102_0"), every_s=0.25)
    bytes_before = _bytes(tmp_path / "out")
    summary = extract(select("P01_101_1", "P01_101_2", "P01_102_1"), every_s=0.25)
    assert (summary.kept, summary.done) == (3, 0)
    assert _bytes(tmp_path / "out") == bytes_before


def test_dense_segments_that_cannot_be_had_are_recorded_at_every_run(extract, videos, tmp_path):
    cut(videos / "P01" / "P01_101.mp4", share=0.75)
    for num_kept in (0, 4):
        summary = extract(every_s=0.25)
        assert _add_up(summary)
        assert (summary.kept, summary.failed, summary.failed_videos) == (num_kept, 2, ("P01_101",))
        # The last frames before the cut cannot be decoded, and every step of a segment counts.
        errors = {"P01_101_1": "Undecodable", "P01_101_2": "BeyondEnd"}
        assert _errors(tmp_path / "out", "P01_101") == errors
    assert len(_seconds(tmp_path / "out", "P01_101")) < 8


def test_dense_set_has_no_step_at_a_frame_that_is_lost(extract, videos, tmp_path):
    path = write_video(videos / "P01" / "P01_101.mp4", gop=1, b_frames=0)
    damage_packet(path, 19)  # nearest to the step at 0.625 s
    summary = extract(every_s=0.25)
    errors = {"P01_101_0": "Undecodable", "P01_101_1": "Undecodable"}
    assert _errors(tmp_path / "out", "P01_101") == errors
    assert summary.failed == 2
    expected = np.delete(0.125 + 0.25 * np.arange(8), 2)
    np.testing.assert_allclose(_seconds(tmp_path / "out", "P01_101"), expected, atol=1e-6)


def test_mended_video_is_completed_in_a_dense_set(extract, videos, original_videos, tmp_path):
    cut(videos / "P01" / "P01_101.mp4", share=0.75)
    extract(every_s=0.25)
    shutil.copytree(original_videos, videos, dirs_exist_ok=True)
    assert extract(every_s=0.25).failed == 0
    assert len(_seconds(tmp_path / "out", "P01_101")) == 8
    assert failed_video_ids(tmp_path / "out") == []


def test_dense_steps_are_kept_when_their_video_has_since_been_cut(extract, videos, tmp_path):
    extract({**select("P01_101_0", "P01_101_2"), "P01_101_9": (1.0, 9.0)}, every_s=0.25)
    bytes_before = _bytes(tmp_path / "out")
    cut(videos / "P01" / "P01_101.mp4", share=0.75)
    extract({**select("P01_101_0"), "P01_101_9": (1.0, 9.0)}, every_s=0.25)
    assert _bytes(tmp_path / "out") == bytes_before
    assert _errors(tmp_path / "out", "P01_101") == {"P01_101_9": "KeptEarlier"}


# ---- workers


def test_video_whose_reading_hangs_is_recorded_and_the_rest_goes_on(extract, videos, tmp_path, monkeypatch):
    (videos / "P01" / "P01_102.mp4").unlink()
    os.mkfifo(videos / "P01" / "P01_102.mp4")  # opening it waits for a writer for ever
    monkeypatch.setattr("extract.decode.decoders.HUNG_S", 3.0)
    summary = extract()
    assert (summary.done, summary.failed, summary.failed_videos) == (4, 2, ("P01_102",))
    assert set(_errors(tmp_path / "out", "P01_102").values()) == {"WorkerHung"}
    assert "P01_102.mp4" in read_failures(tmp_path / "out", "P01_102")[0].message


def test_workers_that_cannot_start_end_the_run_by_a_clear_error(extract, monkeypatch, capfd):
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(DataError, match="cannot start"):
        extract()


@pytest.mark.parametrize("options", [{"workers": 0}, {"batch_size": 0}, {"precision": "half"}], ids=str)
def test_further_numbers_that_make_no_sense_are_wrong_options(extract, options):
    with pytest.raises(OptionError, match=r"^--(workers|batch-size|precision): "):
        extract(**options)


# ---- from Python


def test_run_extracts_what_extract_videos_does(videos, complete_set, tmp_path):
    csv_path = annotate(tmp_path / "segments.csv", SEGMENTS)
    settings = {"backbone": "tiny_cnn", "weights": "random:0", "frames": 4, "workers": 1, "device": "cpu"}
    summary = extract_package.run(annotations=str(csv_path), videos=str(videos), out=str(tmp_path / "out"), **settings)
    assert summary == Summary(videos=3, segments=6, done=6, kept=0, failed=0, failed_videos=())
    assert _bytes(tmp_path / "out") == _bytes(complete_set)


def test_run_takes_frames_or_an_interval_but_not_both(videos, tmp_path):
    csv_path = annotate(tmp_path / "segments.csv", SEGMENTS)
    with pytest.raises(OptionError, match="--frames and --every exclude each other"):
        extract_package.run(
            annotations=csv_path, videos=videos, backbone="tiny_cnn", out=tmp_path / "out", frames=4, every=0.2
        )


# ---- inputs of other kinds


def test_file_says_which_stream_its_features_are_of(extract, videos, tmp_path):
    real, small = videos / "P01" / "P01_101.mp4", write_video(tmp_path / "small.mp4", codec="mpeg4", pts=range(90, 150))
    both = joined([small, real], tmp_path / "both.mp4", marked=1)
    os.replace(both, real)
    extract(select("P01_101_0"))
    extract(select("P01_101_0"), out="by hand", stream=0)
    assert _read(tmp_path / "out", "P01_101").source["stream"].startswith("1 (h264 64x48); not taken: 0 (mpeg4")
    assert _read(tmp_path / "by hand", "P01_101").source["stream"].startswith("0 (mpeg4 64x48); not taken: 1 (h264")


def test_stream_that_is_not_there_is_recorded(extract, tmp_path):
    assert extract(select("P01_101_0"), stream=7).failed == 1
    [failure] = read_failures(tmp_path / "out", "P01_101")
    assert "no video stream 7 in it (--stream); it has 0 (h264 64x48)" in failure.message


@pytest.mark.parametrize("name", ["P01_101", "P02_01"])  # H.264, and MPEG-4 that is decoded through
def test_video_with_its_clock_kept_has_the_same_features(extract, videos, tmp_path, complete_set, name):
    path = videos / name.split("_")[0] / f"{name}.mp4"
    os.replace(rewritten(path, tmp_path / "late.mp4", later(3600)), path)
    segments = [segment for segment in SEGMENTS if segment.startswith(name)]
    extract(select(*segments))
    for segment in segments:
        np.testing.assert_array_equal(_steps(tmp_path / "out", segment), _steps(complete_set, segment))
    assert _read(tmp_path / "out", name).source["counted_from_s"] == "3600.000"


def test_pictures_that_are_not_coded_cost_no_segment(extract, videos, tmp_path, complete_set):
    path = videos / "P02" / "P02_01.mp4"
    change = with_packets_between(not_coded_vop(increment_bits=15), 4)
    os.replace(rewritten(path, tmp_path / "phone.mp4", change), path)
    assert extract(select("P02_01_0")).failed == 0
    np.testing.assert_array_equal(_steps(tmp_path / "out", "P02_01_0"), _steps(complete_set, "P02_01_0"))


def test_pictures_whose_size_changes_are_scaled_like_any_other(extract, videos, tmp_path):
    def wide(number: int) -> np.ndarray:
        return number_picture(number).repeat(2, axis=1)

    options = {"codec": "libx265", "gop": 15}  # it repeats its parameters in the stream where the container wants that
    halves = [write_video(tmp_path / "a.ts", num_frames=30, **options)]
    halves.append(write_video(tmp_path / "b.ts", num_frames=30, picture=wide, **options))
    path = videos / "P01" / "P01_101.mkv"
    os.replace(one_after_the_other(halves, tmp_path / "both.mkv"), path)
    (videos / "P01" / "P01_101.mp4").unlink()
    assert {picture[0].shape for picture in pictures_shown(path)} == {(48, 64), (48, 128)}
    extract(select("P01_101_1"))
    expected = _plain_features(path, *SEGMENTS["P01_101_1"], num_frames=4, backbone="tiny_cnn")
    assert _cosine(_steps(tmp_path / "out", "P01_101_1"), expected).min() > 0.999
