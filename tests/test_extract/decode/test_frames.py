"""JPEG frames in a folder and in a tar: where each is, what it shows, and what is missing."""

from __future__ import annotations

import gzip
import shutil
import tarfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from encode import number_in, number_picture, planes_of_all, write_video
from forms import jpeg, write_frames, write_tar
from PIL import Image

from extract.decode.container import VideoError
from extract.decode.frames import FramesInfo
from extract.decode.reading import decode, decode_task, probe
from extract.decode.sources import FrameFiles
from features.failures import FailureKind


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A folder of 50 frames that show the numbers 0 to 49; read it, never write there."""
    folder = tmp_path_factory.mktemp("frames") / "P01_101"
    folder.mkdir()
    for number in range(50):
        (folder / f"frame_{number + 1:010}.jpg").write_bytes(jpeg(number_picture(number)))
    return folder


@pytest.fixture
def folder(original, tmp_path) -> Path:
    return shutil.copytree(original, tmp_path / "P01_101")


def _probe(path: Path, fps: int = 50) -> FramesInfo:
    info = probe(FrameFiles(path, Fraction(fps)), on_packet=lambda: None)
    assert isinstance(info, FramesInfo)
    return info


def _decoded(info: FramesInfo, frames: object = None) -> dict[int, list[np.ndarray]]:
    wanted = np.arange(len(info.pts)) if frames is None else np.asarray(frames)
    return {
        frame: [planes.y.copy(), planes.u.copy(), planes.v.copy()]
        for frame, planes in decode(decode_task(info, wanted), on_packet=lambda: None)
    }


def _numbers(info: FramesInfo, frames: object = None) -> dict[int, int]:
    return {frame: number_in(planes[0]) for frame, planes in _decoded(info, frames).items()}


def _path(folder: Path, number: int) -> Path:
    return folder / f"frame_{number:010}.jpg"


# ---- what is there


@pytest.mark.parametrize("inside", ["", ".", "P01_101", "./EPIC-KITCHENS/" + "a" * 120])
def test_tar_gives_what_its_folder_gives(folder, tmp_path, inside):
    tar = write_tar(folder, tmp_path / "tar" / "P01_101.tar", inside=inside)
    in_folder, in_tar = _probe(folder), _probe(tar)
    np.testing.assert_array_equal(in_folder.seconds, in_tar.seconds)
    expected = _decoded(in_folder)
    assert len(expected) == 50
    for frame, planes in _decoded(in_tar).items():
        assert all(np.array_equal(*pair) for pair in zip(planes, expected.pop(frame), strict=True))
    assert expected == {}


def test_first_frame_is_at_second_0_and_the_rest_follow_at_the_rate(folder):
    info = _probe(folder, fps=60)
    np.testing.assert_allclose(info.seconds, np.arange(50) / 60, atol=1e-12)
    assert (info.fps, info.width, info.height) == (60, 64, 48)
    assert _numbers(info, [0, 7, 49]) == {0: 0, 7: 7, 49: 49}


_COLOURS = np.array([[(0, 0, 0), (255, 255, 255)], [(200, 30, 60), (20, 90, 220)]], dtype=np.uint8)


@pytest.mark.parametrize("pix_fmt", ["yuvj420p", "yuvj422p", "yuvj444p"])
def test_colours_are_those_of_another_reader_of_pictures(tmp_path, pix_fmt):
    picture = _COLOURS.repeat(32, axis=0).repeat(32, axis=1)[:63, :47]
    _path(tmp_path, 1).write_bytes(jpeg(picture, pix_fmt))
    info = _probe(tmp_path)
    [(y, u, v)] = _decoded(info).values()
    assert (y.shape, u.shape, v.shape) == ((63, 47), (32, 24), (32, 24))
    matrix, offset = info.colour.to_rgb()
    expected = np.asarray(Image.open(_path(tmp_path, 1)).convert("RGB"))
    for row, column in ((10, 10), (10, 40), (50, 10), (50, 40)):
        rgb = matrix @ [y[row, column], u[row // 2, column // 2], v[row // 2, column // 2]] + offset
        np.testing.assert_allclose(rgb * 255, expected[row, column], atol=2)


def test_planes_are_those_that_ffmpeg_decodes(folder):
    for frame, planes in _decoded(_probe(folder), [0, 33]).items():
        [expected] = planes_of_all(_path(folder, frame + 1))
        assert all(np.array_equal(*pair) for pair in zip(planes, expected, strict=True))


@pytest.mark.parametrize("name", ["frame_{:010}.JPG", "frame_{:010}.jpeg", "frame_{:04}.jpg", "frame_{}.jpg"])
def test_other_spellings_of_the_names_are_read(folder, tmp_path, name):
    for number in range(1, 51):
        _path(folder, number).rename(folder / name.format(number))
    assert _numbers(_probe(folder), [0, 8, 9, 49]) == {0: 0, 8: 8, 9: 9, 49: 49}


def test_frames_counted_from_0_begin_at_second_0(folder):
    _path(folder, 0).write_bytes(jpeg(number_picture(99)))
    info = _probe(folder)
    assert info.seconds[0] == 0
    assert _numbers(info, [0, 1]) == {0: 99, 1: 0}


def test_every_second_frame_alone_keeps_its_times(folder):
    for number in range(2, 51, 2):
        _path(folder, number).unlink()
    info = _probe(folder)
    np.testing.assert_allclose(info.seconds, np.arange(0, 50, 2) / 50, atol=1e-12)
    assert info.fps == 25
    assert _numbers(info, [3]) == {3: 6}


def test_file_that_was_added_to_a_tar_twice_counts_as_it_is_last(folder, tmp_path):
    tar = write_tar(folder, tmp_path / "P01_101.tar")
    _path(folder, 3).write_bytes(jpeg(number_picture(99)))
    with tarfile.open(tar, "a") as file:
        file.add(_path(folder, 3), f"./{_path(folder, 3).name}")
    assert _numbers(_probe(tar), [2, 3]) == {2: 99, 3: 3}


# ---- what is not


@pytest.mark.parametrize("is_tar", [False, True], ids=["folder", "tar"])
def test_missing_frames_are_gaps_and_not_shifts(folder, tmp_path, is_tar):
    for number in (1, 10, 11, 12):
        _path(folder, number).unlink()
    info = _probe(write_tar(folder, tmp_path / "P01_101.tar") if is_tar else folder)
    np.testing.assert_allclose(info.seconds, np.arange(50) / 50, atol=1e-12)
    assert _numbers(info) == {number: number for number in range(50) if number not in (0, 9, 10, 11)}
    assert info.why_lost(9) == (FailureKind.NO_FRAMES, "frame_0000000010.jpg, at 0.18 s, is missing")


_BROKEN = {
    "cut in the middle": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "text": lambda content: b"<html>404 Not Found</html>",
    "overwritten": lambda content: content[: len(content) // 2] + b"\xff" * 99 + content[len(content) // 2 + 99 :],
}


@pytest.mark.parametrize("is_tar", [False, True], ids=["folder", "tar"])
def test_broken_frames_are_not_given_and_the_next_ones_are_right(folder, tmp_path, is_tar):
    for number, spoil in enumerate(_BROKEN.values(), start=20):
        _path(folder, number + 1).write_bytes(spoil(_path(folder, number + 1).read_bytes()))
    info = _probe(write_tar(folder, tmp_path / "P01_101.tar") if is_tar else folder)
    spoiled = range(20, 20 + len(_BROKEN))
    assert _numbers(info) == {number: number for number in range(50) if number not in spoiled}
    assert info.why_lost(20) == (FailureKind.UNDECODABLE, "frame_0000000021.jpg, at 0.40 s, cannot be decoded")


def test_video_whose_first_frame_is_broken_is_read(folder):
    _path(folder, 1).write_bytes(b"no picture")
    info = _probe(folder)
    assert (info.width, info.height) == (64, 48)
    assert _numbers(info, [0, 1]) == {1: 1}


def test_tar_without_its_end_is_said_to_be_truncated(folder, tmp_path):
    tar = write_tar(folder, tmp_path / "P01_101.tar")
    assert _probe(tar).remark == ""
    content = tar.read_bytes()
    for share in (0.3, 0.6):
        tar.write_bytes(content[: int(len(content) * share)])
        info = _probe(tar)
        assert "truncated behind its last frame" in info.remark
        assert 0 < len(_decoded(info)) < 50
        assert all(frame == number for frame, number in _numbers(info).items())


def _flow(folder: Path, tmp_path: Path) -> Path:
    path = write_tar(folder, tmp_path / "P01_101.tar", inside="./u")
    with tarfile.open(path, "a") as file:
        file.add(_path(folder, 1), f"./v/{_path(folder, 1).name}")
    return path


def _compressed(folder: Path, tmp_path: Path) -> Path:
    path = write_tar(folder, tmp_path / "P01_101.tar")
    path.write_bytes(gzip.compress(path.read_bytes()))
    return path


def _pointer(folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "P01_101.tar"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    return path


def _two_videos(folder: Path, tmp_path: Path) -> Path:
    path = write_tar(folder, tmp_path / "P01_101.tar", inside="P01_101")
    with tarfile.open(path, "a") as file:
        file.add(_path(folder, 50), f"P01_102/{_path(folder, 51).name}")
    return path


def _two_spellings(folder: Path, tmp_path: Path) -> Path:
    shutil.copy(_path(folder, 7), folder / "frame_7.jpg")
    return folder


def _two_endings(folder: Path, tmp_path: Path) -> Path:
    _path(folder, 7).rename(folder / "frame_0000000007.JPG")
    return folder


def _named_by_the_clock(folder: Path, tmp_path: Path) -> Path:
    for path in folder.iterdir():
        path.rename(path.with_name(path.name.replace("frame_0", "frame_160976880" + "0" * 20)))
    return folder


def _all_broken(folder: Path, tmp_path: Path) -> Path:
    for path in folder.iterdir():
        path.write_bytes(b"no picture")
    return folder


def _none(folder: Path, tmp_path: Path) -> Path:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "img_0001.jpg").write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_flow, "optical flow"),
        (_compressed, "not compressed"),
        (_pointer, "git-lfs pointer"),
        (_two_videos, "two kinds"),
        (_two_spellings, "two kinds"),
        (_two_endings, "two kinds"),
        (_named_by_the_clock, "more than a day"),
        (_all_broken, "none of its 50 frames can be decoded"),
        (_none, "no JPEG frames in it"),
    ],
)
def test_what_are_not_the_frames_of_a_video_is_refused_by_what_it_is(folder, tmp_path, make, message):
    with pytest.raises(VideoError, match=f"P01_101.*{message}"):
        _probe(make(folder, tmp_path))


def test_frames_that_were_published_at_another_rate_by_mistake_are_refused(tmp_path):
    folder = tmp_path / "P01_109"
    folder.mkdir()
    for number in (1, 222487):
        _path(folder, number).write_bytes(jpeg(number_picture(number % 2048)))
    with pytest.raises(VideoError, match="--frames-fps 60"):
        _probe(folder)
    # Those two frames alone are "every 222,486th" one.
    assert _probe(folder, fps=60).seconds[-1] == pytest.approx(222486 / 60)


def test_frames_too_large_for_a_buffer_are_handed_over_smaller(folder, monkeypatch):
    monkeypatch.setattr("extract.decode.video.MAX_PICTURE_BYTES", 64 * 48)
    info = _probe(folder)
    assert (info.height, info.width) == (48, 64)
    for frame, (y, _, _) in _decoded(info).items():
        assert y.shape == (24, 32)
        assert number_in(y.repeat(2, axis=0).repeat(2, axis=1)) == frame


def test_frames_of_a_video_show_its_moments(tmp_path):
    video = write_video(tmp_path / "P01_101.mp4", fps=Fraction(30000, 1001), num_frames=60)
    info = _probe(write_frames(video, tmp_path / "P01_101", fps=50))
    off = [abs(info.seconds[frame] - number * 1001 / 30000) for frame, number in _numbers(info).items()]
    assert len(off) == len(info.pts) > 90
    assert max(off) <= 1001 / 60000 + 1e-9
