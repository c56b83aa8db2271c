"""Videos in the forms that people have on their disks: the same features, or a failure that says why."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from annotate import annotate
from click.testing import CliRunner, Result
from encode import number_in, number_picture, write_video
from forms import jpeg, write_chunks, write_frames, write_tar

from extract.cli import main
from extract.decode.reading import decode, decode_task, probe
from extract.videos import find_videos
from features.failures import read_failures
from features.featureset import read_featureset
from features.store import VideoFeatures, read_video

TINY = ("--backbone", "tiny_cnn", "--weights", "random:0", "--device", "cpu", "--workers", "1", "--frames", "4")
SEGMENTS = {"P01_101_0": (0.1, 0.9), "P01_101_1": (0.5, 1.9)}
FORMS = ("folder", "tar", "chunks")


@pytest.fixture(scope="module")
def forms(tmp_path_factory) -> dict[str, Path]:
    """A video of 2 s as a file, a folder and a tar of frames, and chunks; read them, never write there."""
    root = tmp_path_factory.mktemp("forms")
    paths = {form: root / form for form in ("file", *FORMS)}
    video = write_video(paths["file"] / "P01_101.mp4", num_frames=60)
    write_frames(video, paths["folder"] / "P01" / "rgb_frames" / "P01_101", fps=50)
    write_tar(paths["folder"] / "P01" / "rgb_frames" / "P01_101", paths["tar"] / "P01" / "rgb_frames" / "P01_101.tar")
    write_chunks(video, paths["chunks"] / "P01" / "P01_101.MP4", seconds=0.8)
    return paths


def _extract(command: str, videos: Path, csv_path: Path, *more: object) -> Result:
    """Run `extract run` or `extract plan` in this process."""
    words = [command, "--videos", videos, "--annotations", csv_path, *TINY, *more]
    if command == "plan":
        words = [word for word in words if word not in ("--weights", "random:0", "--device", "cpu")]
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def run(tmp_path):
    """Run `extract run` into out/, or another folder."""
    csv_path = annotate(tmp_path / "segments.csv", SEGMENTS)

    def extract(videos: Path, *more: object, out: str = "out") -> Result:
        return _extract("run", videos, csv_path, "--out", tmp_path / out, *more)

    return extract


def _read(root: Path, video_id: str = "P01_101") -> VideoFeatures:
    return read_video(root, video_id, digest=read_featureset(root).digest)


# ---- the same video in every form


# video_id -> frames per second, which the videos have 59.94 and 50 of, and what of the video is used.
MINIATURES = {"P01_02": (60, 6.5), "P02_102": (50, np.inf)}


@pytest.fixture(scope="module")
def miniatures(miniature, tmp_path_factory) -> Path:
    """Two videos of the miniature in all forms; read them, never write there."""
    root = tmp_path_factory.mktemp("miniature-forms")
    for video_id, (fps, until_s) in MINIATURES.items():
        video = root / "file" / f"{video_id}.mp4"
        video.parent.mkdir(exist_ok=True)
        shutil.copy(miniature.videos / video_id[:3] / video.name, video)
        write_tar(
            write_frames(video, root / "folder" / video_id, fps=fps, until_s=until_s), root / "tar" / f"{video_id}.tar"
        )
        write_chunks(video, root / "chunks" / video_id, seconds=5, until_s=until_s)
    return root


def _pictures(root: Path, video_id: str, moments: np.ndarray) -> np.ndarray:
    """Return what the video shows at these (M,) moments, luma in limited range: every second pixel."""
    [source] = find_videos(root, [video_id]).values()
    info = probe(source, on_packet=lambda: None)
    frames = np.abs(info.seconds[:, None] - moments).argmin(axis=0)
    luma = {
        frame: planes.y[::2, ::2].astype(np.float32)
        for frame, planes in decode(decode_task(info, np.unique(frames)), on_packet=lambda: None)
    }
    pictures = np.stack([luma[frame] for frame in frames.tolist()])
    return 16 + pictures * 219 / 255 if info.colour.full_range else pictures


@pytest.mark.parametrize("video_id", MINIATURES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_shows_the_same_moments_as_the_video(miniatures, form, video_id):
    seconds = 0.004 + np.arange(60) / 10  # 6 s, of which 5 are the first chunk; never halfway between two frames
    reference, shown = (_pictures(miniatures / name, video_id, seconds) for name in ("file", form))
    levels_off = np.abs(shown[:, None] - reference).mean(axis=(2, 3))  # (M, M)
    excess = levels_off - levels_off.min(axis=1, keepdims=True)
    assert np.diag(excess).max() < 0.2
    # Or the line above would say nothing: pictures of 0.1 s later are other ones, but where nothing moves.
    assert (np.diag(excess, 1) > 0.2).mean() > 0.4


@pytest.mark.parametrize("form", ["tar", "chunks"])
def test_every_form_gives_the_features_of_the_video(miniatures, miniature, tmp_path, form):
    video_id = "P02_102"
    columns = ["narration_id", "participant_id", "video_id", "start_timestamp", "stop_timestamp"]
    names = ("train", "validation", "test_timestamps")
    rows = pd.concat([pd.read_csv(miniature.annotations / f"EPIC_100_{name}.csv") for name in names])
    rows.loc[rows.video_id == video_id, columns].to_csv(tmp_path / "segments.csv", index=False)
    for name in ("file", form):
        result = _extract("run", miniatures / name, tmp_path / "segments.csv", "--out", tmp_path / name)
        assert result.exit_code == 0, result.stderr
    video, other = (_read(tmp_path / name, video_id) for name in ("file", form))
    np.testing.assert_allclose(other.seconds, video.seconds, atol=1e-6)
    assert _similarity(video, other).min() > 0.99
    said = {"tar": {"frames": "JPEG, 50 per second"}, "chunks": {"files": "2, from 0.MP4 to 5.MP4"}}
    assert said[form].items() <= other.source.items()


def _similarity(video: VideoFeatures, other: VideoFeatures) -> np.ndarray:
    a, b = (features.features[:, 0].astype(np.float64) for features in (video, other))
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


# ---- copies, plans, choices


@pytest.mark.parametrize("form", FORMS)
def test_copies_of_every_form_give_the_same_and_go(forms, run, tmp_path, form):
    assert run(forms[form], out="plain").exit_code == 0
    result = run(forms[form], "--stage", tmp_path / "scratch")
    assert result.exit_code == 0, result.stderr
    assert "read where it lies" not in result.stderr
    assert (tmp_path / "out" / "P01_101.h5").read_bytes() == (tmp_path / "plain" / "P01_101.h5").read_bytes()
    assert list((tmp_path / "scratch").iterdir()) == []


def _spoil(path: Path) -> None:
    for file in [path] if path.is_file() else list(path.iterdir()):
        file.write_bytes(b"<html>")


@pytest.mark.parametrize("form", FORMS)
def test_failures_of_copies_name_the_original(forms, run, tmp_path, form):
    videos = shutil.copytree(forms[form], tmp_path / "videos")
    [source] = find_videos(videos, ["P01_101"]).values()
    _spoil(source.path)
    assert run(videos, "--stage", tmp_path / "scratch").exit_code == 1
    failures = read_failures(tmp_path / "out", "P01_101")
    assert {failure.error for failure in failures} == {"UnreadableVideo"}
    assert all(str(source.path) in failure.message and "scratch" not in failure.message for failure in failures)
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("form", FORMS)
def test_plan_knows_every_form(forms, tmp_path, form):
    csv_path = annotate(tmp_path / "segments.csv", SEGMENTS)
    record = json.loads(_extract("plan", forms[form], csv_path, "--tasks", 2, "--json").stdout)
    assert (record["videos"], record["segments"], record["failed"]) == (1, 2, {})
    assert record["wanted_frames"] <= record["decoded_frames"] < record["frames"]
    assert record["hours"] == pytest.approx(2 / 3600, rel=0.05)


def test_two_forms_of_one_video_are_an_error_until_one_is_chosen(forms, run, tmp_path):
    videos = shutil.copytree(forms["file"], tmp_path / "videos")
    shutil.copytree(forms["tar"], videos, dirs_exist_ok=True)
    result = run(videos)
    assert (result.exit_code, result.stderr.count("Error: ")) == (1, 1)
    assert str(videos / "P01_101.mp4") in result.stderr
    assert str(videos / "P01" / "rgb_frames" / "P01_101.tar") in result.stderr
    assert run(videos, "--input", "frames").exit_code == 0
    # What is chosen decides what is read: the same as without the file.
    assert run(forms["tar"], out="tar").exit_code == 0
    assert (tmp_path / "out" / "P01_101.h5").read_bytes() == (tmp_path / "tar" / "P01_101.h5").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--input", "jpegs"), "--input: no form 'jpegs'"), (("--frames-fps", "0"), "--frames-fps: 0.0")],
)
def test_options_that_make_no_sense_are_usage_errors(forms, run, options, message):
    result = run(forms["tar"], *options)
    assert (result.exit_code, result.stderr.count("Error: ")) == (2, 1)
    assert message in result.stderr


def test_video_that_is_in_no_form_is_recorded_with_what_was_looked_for(run, tmp_path):
    (tmp_path / "videos").mkdir()
    assert run(tmp_path / "videos").exit_code == 1
    failures = read_failures(tmp_path / "out", "P01_101")
    assert {failure.error for failure in failures} == {"MissingVideo"}
    assert all("no file P01_101.mp4" in failure.message and "tar of JPEG" in failure.message for failure in failures)


# ---- what is missing or broken


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_missing_frames_and_broken_jpegs_are_recorded_failures(tmp_path, form):
    folder = tmp_path / "folder" / "P01_101"
    folder.mkdir(parents=True)
    for number in range(200):
        (folder / f"frame_{number + 1:010}.jpg").write_bytes(jpeg(number_picture(number)))
    # Segments of 0.4 s show the frames at 0.05, 0.15, 0.25 and 0.35 s after their starts.
    csv_path = annotate(tmp_path / "segments.csv", {f"P01_101_{n}": (n, n + 0.4) for n in range(4)})
    (folder / "frame_0000000058.jpg").unlink()  # at 1.14 s: 1.15 s lies between this and the next one
    (folder / "frame_0000000059.jpg").unlink()
    for number in (118, 119):  # at 2.34 and 2.36 s
        broken = folder / f"frame_{number:010}.jpg"
        broken.write_bytes(broken.read_bytes()[:300])
    for number in range(151, 200):
        (folder / f"frame_{number:010}.jpg").unlink()
    if form == "tar":
        write_tar(folder, tmp_path / "tar" / "P01_101.tar")
    result = _extract("run", tmp_path / form, csv_path, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert _read(tmp_path / "out").narration_id == ("P01_101_0",)
    failures = {failure.narration_id: failure for failure in read_failures(tmp_path / "out", "P01_101")}
    assert {name: failure.error for name, failure in failures.items()} == {
        "P01_101_1": "NoFrames",
        "P01_101_2": "Undecodable",
        "P01_101_3": "NoFrames",
    }
    assert re.search(r"frame_000000005[89]\.jpg, at 1\.1[46] s, is missing", failures["P01_101_1"].message)
    assert re.search(r"frame_000000011[89]\.jpg, at 2\.3[46] s, cannot be decoded", failures["P01_101_2"].message)
    record = json.loads(_extract("plan", tmp_path / form, csv_path, "--json").stdout)
    assert record["failed"] == {"NoFrames": 2}


def test_segments_in_a_chunk_that_is_broken_are_recorded_failures(forms, run, tmp_path):
    videos = shutil.copytree(forms["chunks"], tmp_path / "videos")
    (videos / "P01" / "P01_101.MP4" / "1.6.MP4").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    assert run(videos).exit_code == 1
    assert _read(tmp_path / "out").narration_id == ("P01_101_0",)
    [failure] = read_failures(tmp_path / "out", "P01_101")
    assert (failure.narration_id, failure.error) == ("P01_101_1", "BeyondEnd")
    assert "1.6.MP4: it is a git-lfs pointer" in failure.message


def test_chapters_of_a_gopro_are_read_where_the_annotations_go_beyond_the_first(tmp_path):
    for chapter in (1, 2):
        write_video(tmp_path / "videos" / f"GX0{chapter}0123.MP4", num_frames=30)
    csv_path = annotate(tmp_path / "segments.csv", {"GX010123_0": (0.1, 0.9)})
    result = _extract("plan", tmp_path / "videos", csv_path, "--json")
    assert json.loads(result.stdout)["frames"] == 30
    csv_path = annotate(tmp_path / "segments.csv", {"GX010123_0": (0.1, 0.9), "GX010123_1": (0.9, 1.8)})
    assert json.loads(_extract("plan", tmp_path / "videos", csv_path, "--json").stdout)["frames"] == 60
    assert _extract("run", tmp_path / "videos", csv_path, "--out", tmp_path / "out").exit_code == 0
    assert _read(tmp_path / "out", "GX010123").narration_id == ("GX010123_0", "GX010123_1")


# ---- containers

CONTAINERS = {
    "webm": {"codec": "libvpx", "b_frames": 0},
    "avi": {},  # without presentation times, and with B-frames
    "ts": {},
    "m4v": {},
    "mov": {"codec": "libx265"},
    "mpg": {"codec": "mpeg2video"},
}


@pytest.mark.parametrize("ending", CONTAINERS)
def test_video_in_any_container_gives_the_right_frames_or_a_reason(tmp_path, ending):
    write_video(tmp_path / f"P01_101.{ending}", fps=25, **CONTAINERS[ending])
    [source] = find_videos(tmp_path, ["P01_101"]).values()
    info = probe(source, on_packet=lambda: None)
    frames = np.arange(0, len(info.pts), 7)
    shown = [
        (frame, number_in(planes.y)) for frame, planes in decode(decode_task(info, frames), on_packet=lambda: None)
    ]
    assert shown == [(frame, frame) for frame in frames]
    np.testing.assert_allclose(info.seconds - info.seconds[0], np.arange(60) / 25, atol=2e-3)
