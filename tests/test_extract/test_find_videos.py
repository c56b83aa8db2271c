"""Videos are found in the layouts people have, and what is ambiguous is refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from extract.decode.sources import FileSeries, FrameFiles
from extract.videos import find_videos, missing_message
from features.errors import DataError, OptionError


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
        *(f"P01_101.{ending}" for ending in ("mov", "webm", "AVI", "ts", "m4v", "MPG", "mts")),
        "P01/p01_101.MP4",
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


# ---- names


def test_file_of_exactly_the_name_goes_before_one_in_another_case(tmp_path):
    path = _touch(tmp_path / "a" / "P01_101.mp4")
    _touch(tmp_path / "b" / "p01_101.mp4")
    assert find_videos(tmp_path, ["P01_101"]) == {"P01_101": path}


def test_video_that_is_wanted_itself_does_not_stand_in_for_another_case(tmp_path):
    path = _touch(tmp_path / "cam.mp4")
    assert find_videos(tmp_path, ["cam", "CAM"]) == {"cam": path, "CAM": None}


@pytest.mark.parametrize("folder", [".Trash", ".snapshot/P01", "flow_frames"])
def test_hidden_folders_and_those_of_optical_flow_are_passed_over(tmp_path, folder):
    path = _touch(tmp_path / "P01" / "P01_101.mp4")
    _touch(tmp_path / folder / "P01_101.mp4")
    _touch(tmp_path / folder / "P01_101.tar")
    assert find_videos(tmp_path, ["P01_101"]) == {"P01_101": path}


def test_folder_of_videos_may_be_hidden_itself(tmp_path):
    path = _touch(tmp_path / ".data" / "P01_101.mp4")
    assert find_videos(tmp_path / ".data", ["P01_101"]) == {"P01_101": path}


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_one_file_that_is_linked_twice_is_one_file(tmp_path, link):
    path = _touch(tmp_path / "a" / "P01_101.mp4")
    (tmp_path / "b").mkdir()
    link(tmp_path / "b" / "P01_101.MP4", path)
    assert find_videos(tmp_path, ["P01_101"]) == {"P01_101": path}


def test_link_to_nothing_is_found_so_that_reading_it_says_so(tmp_path):
    (tmp_path / "P01_101.mp4").symlink_to(tmp_path / "nowhere.mp4")
    assert find_videos(tmp_path, ["P01_101"]) == {"P01_101": tmp_path / "P01_101.mp4"}


def test_folders_that_are_linked_in_a_circle_end(tmp_path):
    path = _touch(tmp_path / "P01" / "P01_101.mp4")
    (tmp_path / "P01" / "up").symlink_to(tmp_path)
    (tmp_path / "P01" / "itself").symlink_to(tmp_path / "P01" / "itself")
    assert find_videos(tmp_path, ["P01_101"]) == {"P01_101": path}


# ---- JPEG frames


@pytest.mark.parametrize(("video_id", "fps"), [("P01_01", 60), ("P01_101", 50)])
@pytest.mark.parametrize("relative_path", ["{}/frame_0000000001.jpg", "P01/rgb_frames/{}/frame_0000000001.JPG"])
def test_folder_of_frames_is_found_with_the_rate_they_were_published_with(tmp_path, video_id, fps, relative_path):
    path = _touch(tmp_path / relative_path.format(video_id))
    _touch(tmp_path / "P01" / "flow_frames" / video_id / "u" / "frame_0000000001.jpg")
    assert find_videos(tmp_path, [video_id]) == {video_id: FrameFiles(path.parent, Fraction(fps))}


def test_tar_of_frames_is_found(tmp_path):
    path = _touch(tmp_path / "P01" / "rgb_frames" / "P01_01.tar")
    _touch(tmp_path / "P01" / "flow_frames" / "P01_01.tar")
    assert find_videos(tmp_path, ["P01_01"], frames_fps=29.97) == {"P01_01": FrameFiles(path, Fraction("29.97"))}


def test_rate_of_frames_that_are_not_published_has_to_be_said(tmp_path):
    path = _touch(tmp_path / "GX010123.tar")
    with pytest.raises(OptionError, match=f"--frames-fps: is missing: {path}"):
        find_videos(tmp_path, ["GX010123"])
    assert find_videos(tmp_path, ["GX010123"], frames_fps=30) == {"GX010123": FrameFiles(path, Fraction(30))}


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_rate_that_makes_no_sense_is_refused(tmp_path, fps):
    with pytest.raises(OptionError, match="--frames-fps"):
        find_videos(tmp_path, ["P01_01"], frames_fps=fps)


def test_folder_of_frames_is_found_by_the_name_of_a_link_to_it(tmp_path):
    _touch(tmp_path / "0001" / "frame_0000000001.jpg")
    (tmp_path / "P01_01").symlink_to(tmp_path / "0001")
    assert find_videos(tmp_path, ["P01_01"]) == {"P01_01": FrameFiles(tmp_path / "P01_01", Fraction(60))}


def test_stray_frame_beside_videos_hides_none_of_them(tmp_path):
    _touch(tmp_path / "frame_0000000001.jpg")
    path = _touch(tmp_path / "P01" / "P01_101.mp4")
    assert find_videos(tmp_path, ["P01_101"]) == {"P01_101": path}


# ---- chunks and chapters


@pytest.mark.parametrize("folder", ["P01/P01_101.MP4", "P01_101"])
def test_chunks_are_found_in_the_order_of_their_seconds(tmp_path, folder):
    paths = {name: _touch(tmp_path / folder / f"{name}.MP4") for name in ("0", "15", "105", "30.5")}
    assert find_videos(tmp_path, ["P01_101"]) == {
        "P01_101": FileSeries(
            tmp_path / folder,
            tuple(paths[name] for name in ("0", "15", "30.5", "105")),
            tuple(Fraction(name) for name in ("0", "15", "30.5", "105")),
        )
    }


def test_videos_whose_ids_are_numbers_are_no_chunks(tmp_path):
    paths = [_touch(tmp_path / name / f"{name}.mp4") for name in ("12", "13")]
    assert find_videos(tmp_path, ["12", "13"]) == {"12": paths[0], "13": paths[1]}


def test_two_chunks_of_one_second_are_refused(tmp_path):
    _touch(tmp_path / "P01_101" / "15.mp4")
    _touch(tmp_path / "P01_101" / "15.mkv")
    with pytest.raises(DataError, match=r"two chunks begin at 15 s: 15\.mkv and 15\.mp4"):
        find_videos(tmp_path, ["P01_101"])


@pytest.mark.parametrize(
    ("video_id", "names"),
    [
        ("GX010123", ["GX010123.MP4", "GX020123.MP4", "GX030123.MP4"]),
        ("GH010123", ["GH010123.MP4", "gh020123.mp4"]),
        ("GOPR0123", ["GOPR0123.MP4", "GP010123.MP4", "GP020123.MP4"]),
    ],
)
def test_chapters_of_a_gopro_are_one_video(tmp_path, video_id, names):
    paths = tuple(_touch(tmp_path / name) for name in names)
    for other in ("GX050123.MP4", "GX020124.MP4", "elsewhere/GX040123.MP4", "GX040123.LRV"):
        _touch(tmp_path / other)
    assert find_videos(tmp_path, [video_id]) == {video_id: FileSeries(paths[0], paths, None)}


def test_chapter_that_is_a_video_of_the_annotations_is_no_chapter(tmp_path):
    paths = [_touch(tmp_path / f"GX0{number}0123.MP4") for number in (1, 2, 3)]
    assert find_videos(tmp_path, ["GX010123", "GX020123"]) == {"GX010123": paths[0], "GX020123": paths[1]}
    # Also where another task of an array does it.
    assert find_videos(tmp_path, ["GX010123"], known_ids=["GX020123"]) == {"GX010123": paths[0]}


# ---- several forms


def _in_all_forms(root: Path) -> dict[str, Path]:
    return {
        "video": _touch(root / "P01" / "videos" / "P01_01.MP4"),
        "frames": _touch(root / "P01" / "rgb_frames" / "P01_01.tar"),
        "chunks": _touch(root / "P01_01" / "0.mp4").parent,
    }


def test_video_in_several_forms_is_refused_with_all_of_them(tmp_path):
    paths = _in_all_forms(tmp_path)
    with pytest.raises(DataError, match="--input") as error:
        find_videos(tmp_path, ["P01_01"])
    assert all(str(path) in str(error.value) for path in paths.values())


@pytest.mark.parametrize("form", ["video", "frames", "chunks"])
def test_form_that_is_chosen_is_taken(tmp_path, form):
    path = _in_all_forms(tmp_path)[form]
    [source] = find_videos(tmp_path, ["P01_01"], form=form).values()
    assert (source if form == "video" else source.path) == path


def test_form_that_is_not_there_is_not_replaced_by_another(tmp_path):
    _touch(tmp_path / "P01_01.MP4")
    assert find_videos(tmp_path, ["P01_01"], form="frames") == {"P01_01": None}
    assert "--input frames" in missing_message("P01_01", "frames")


def test_unknown_form_is_refused(tmp_path):
    with pytest.raises(OptionError, match="--input: no form 'frame'; did you mean 'frames'"):
        find_videos(tmp_path, ["P01_01"], form="frame")


def test_folder_and_tar_of_the_same_frames_are_one_too_many(tmp_path):
    _touch(tmp_path / "P01_01" / "frame_0000000001.jpg")
    _touch(tmp_path / "P01_01.tar")
    with pytest.raises(DataError, match="twice"):
        find_videos(tmp_path, ["P01_01"])
