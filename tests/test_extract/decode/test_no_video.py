"""Files that have the name of a video and are none are called what they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from encode import cut, write_sound, write_video

from extract.decode.container import VideoError
from extract.decode.no_video import what_it_is
from extract.decode.probing import probe

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 812345678\n"
PAGE = b"\n  <!DOCTYPE html>\n<html><head><title>Log in</title></head></html>"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POINTER, "git-lfs pointer, not the video itself; run `git lfs pull`"),
        (PAGE, "a web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a web page"),
        (b"", "it is empty"),
        (bytes(10000), "begins with zeros"),
    ],
)
def test_file_that_is_no_video_is_called_what_it_is(tmp_path, content, message):
    path = tmp_path / "P01_01.MP4"
    path.write_bytes(content)
    with pytest.raises(VideoError) as error:
        probe(path)
    assert str(error.value).startswith(f"{path}: it ")
    assert message in str(error.value)


def test_video_of_a_camera_that_died_is_said_to_lack_its_index(tmp_path):
    path = write_video(tmp_path / "P01_01.mp4")  # the index is written last
    cut(path, share=0.5)
    with pytest.raises(VideoError, match=r"no moov atom.*untrunc"):
        probe(path)


@pytest.mark.parametrize("flags", ["faststart", "frag_keyframe+empty_moov", "use_metadata_tags"])
def test_videos_and_sounds_are_not_called_anything(tmp_path, flags):
    assert what_it_is(write_video(tmp_path / "P01_01.mp4", container_options={"movflags": flags})) is None
    assert what_it_is(write_sound(tmp_path / "sound.mp4")) is None


def test_what_cannot_be_opened_is_left_to_the_error_of_the_system(tmp_path):
    assert what_it_is(tmp_path / "missing.mp4") is None
    assert what_it_is(tmp_path) is None


def test_path_with_a_colon_is_a_file_and_no_protocol(tmp_path, monkeypatch):
    write_video(tmp_path / "cam:1" / "P01_01.mp4", num_frames=5)
    monkeypatch.chdir(tmp_path)
    assert len(probe(Path("cam:1/P01_01.mp4")).pts) == 5
    with pytest.raises(VideoError, match=r"http:/nowhere\.mp4: cannot be read as a video: No such file"):
        probe(Path("http://nowhere.mp4"))
