"""Videos are found in the layouts people have, and what is ambiguous is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from extract.videos import find_videos
from features.errors import DataError


def _touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    "relative_path",
    [
        "P01/P01_101.mp4",  # one folder a participant
        "P01/videos/P01_101.MP4",  # the official downloads
        "P01_101.mp4",  # all in one folder
        "P01/P01_101.Mp4",
        "train/P01/P01_101.mkv",
    ],
)
def test_video_is_found_in_every_layout(tmp_path, relative_path):
    path = _touch(tmp_path / relative_path)
    assert find_videos(tmp_path, ["P01_101"]) == {"P01_101": path}


def test_missing_video_is_none(tmp_path):
    _touch(tmp_path / "P01" / "P01_101.mp4")
    assert find_videos(tmp_path, ["P01_102"]) == {"P01_102": None}


def test_id_that_only_begins_alike_is_not_taken(tmp_path):
    _touch(tmp_path / "P01" / "P01_101.mp4")
    assert find_videos(tmp_path, ["P01_10"]) == {"P01_10": None}


def test_file_of_another_kind_is_not_taken(tmp_path):
    _touch(tmp_path / "P01" / "P01_101.csv")
    assert find_videos(tmp_path, ["P01_101"]) == {"P01_101": None}


def test_folder_named_like_a_video_is_not_taken(tmp_path):
    (tmp_path / "P01_101.mp4").mkdir()
    assert find_videos(tmp_path, ["P01_101"]) == {"P01_101": None}


def test_each_video_is_given_once_however_often_it_is_asked_for(tmp_path):
    path = _touch(tmp_path / "P01_101.mp4")
    assert find_videos(tmp_path, ["P01_101", "P01_101"]) == {"P01_101": path}


def test_video_that_is_there_twice_is_refused_with_both_places(tmp_path):
    paths = [_touch(tmp_path / "P01" / "P01_101.mp4"), _touch(tmp_path / "P01" / "videos" / "P01_101.MP4")]
    with pytest.raises(DataError) as error:
        find_videos(tmp_path, ["P01_101"])
    assert all(str(path) in str(error.value) for path in paths)


def test_other_video_that_is_there_twice_does_not_matter(tmp_path):
    path = _touch(tmp_path / "P01_101.mp4")
    _touch(tmp_path / "a" / "P02_01.mp4")
    _touch(tmp_path / "b" / "P02_01.mp4")
    assert find_videos(tmp_path, ["P01_101"]) == {"P01_101": path}


def test_missing_folder_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        find_videos(tmp_path / "nowhere", ["P01_101"])


def test_file_in_place_of_the_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        find_videos(_touch(tmp_path / "P01_101.mp4"), ["P01_101"])


def test_linked_folder_of_videos_is_looked_into(tmp_path):
    _touch(tmp_path / "scratch" / "P01" / "P01_101.mp4")
    (tmp_path / "videos").symlink_to(tmp_path / "scratch")
    assert find_videos(tmp_path / "videos", ["P01_101"])["P01_101"].name == "P01_101.mp4"


def test_linked_folder_of_a_participant_is_looked_into(tmp_path):
    _touch(tmp_path / "scratch" / "P01" / "P01_101.mp4")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "P01").symlink_to(tmp_path / "scratch" / "P01")
    path = find_videos(tmp_path / "videos", ["P01_101"])["P01_101"]
    assert path is not None


def test_linked_file_is_found(tmp_path):
    _touch(tmp_path / "scratch" / "0001.mp4")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "P01_101.mp4").symlink_to(tmp_path / "scratch" / "0001.mp4")
    assert find_videos(tmp_path / "videos", ["P01_101"])["P01_101"].is_file()
