"""Several files as one video: chunks by the seconds of their names, chapters one after the other."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from encode import cut, damage_packet, number_in, number_picture, write_video
from forms import write_chunks

from extract.decode import probing
from extract.decode.container import VideoError
from extract.decode.packets import needed_packets
from extract.decode.pieces import pieces
from extract.decode.reading import decode, decode_task, probe
from extract.decode.series import SeriesInfo
from extract.decode.sources import FileSeries, needed_until
from extract.videos import find_videos
from features.failures import FailureKind


def _probe(source: FileSeries) -> SeriesInfo:
    info = probe(source, on_packet=lambda: None)
    assert isinstance(info, SeriesInfo)
    return info


def _numbers(info: SeriesInfo, frames: object = None) -> dict[int, int]:
    wanted = np.arange(len(info.pts)) if frames is None else np.asarray(frames)
    return {frame: number_in(planes.y) for frame, planes in decode(decode_task(info, wanted), on_packet=lambda: None)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A video of 5 s that shows the numbers 0 to 149; read it, never write there."""
    return write_video(tmp_path_factory.mktemp("whole") / "P01_101.mp4", num_frames=150)


def _chunks(whole: Path, folder: Path, **options) -> FileSeries:
    write_chunks(whole, folder / "P01_101.MP4", **options)
    [source] = find_videos(folder, ["P01_101"]).values()
    assert isinstance(source, FileSeries)
    return source


@pytest.mark.parametrize("keep_clock", [False, True], ids=["from 0", "clock kept"])
@pytest.mark.parametrize("seconds", [0.5, 2])
def test_chunks_give_the_frames_of_the_whole_video_at_its_times(whole, tmp_path, seconds, keep_clock):
    info = _probe(_chunks(whole, tmp_path, seconds=seconds, keep_clock=keep_clock))
    np.testing.assert_allclose(info.seconds, probing.probe(whole).seconds, atol=1e-3)
    assert _numbers(info) == {number: number for number in range(150)}
    assert _numbers(info, [61, 100]) == {61: 61, 100: 100}
    assert info.remark == ""


def test_pieces_and_packets_of_chunks_count_as_those_of_one_video(whole, tmp_path):
    info = _probe(_chunks(whole, tmp_path, seconds=2))
    clips = np.arange(0, 150, 10)[:, None]
    assert sorted(np.concatenate(pieces(info.packets, info.pts, clips, num_packets=20))) == list(range(15))
    assert len(pieces(info.packets, info.pts, clips, num_packets=20)) > 1
    expected = sum(
        needed_packets(part.packets, part.pts[clips[(clips >= first) & (clips < stop)] - first]).sum()
        for part, first, stop in zip(info.parts, info.first[:-1], info.first[1:], strict=True)
    )
    assert needed_packets(info.packets, info.pts[clips]).sum() == expected


def test_where_chunks_overlap_the_later_has_the_frame(tmp_path):
    folder = tmp_path / "P01_101"
    # The first goes on for a second beyond the start of the second, and would show other numbers there.
    write_video(folder / "0.mp4", num_frames=90)
    write_video(folder / "2.mp4", num_frames=60, picture=lambda number: number_picture(1000 + number))
    [source] = find_videos(tmp_path, ["P01_101"]).values()
    info = _probe(source)
    assert (np.diff(info.seconds) > 0).all()
    assert list(_numbers(info).values()) == [*range(60), *range(1000, 1060)]


def test_chunk_that_is_missing_is_a_hole(whole, tmp_path):
    source = _chunks(whole, tmp_path, seconds=1)
    without = replace(source, files=(source.files[0], *source.files[3:]), starts=(source.starts[0], *source.starts[3:]))
    info = _probe(without)
    assert list(_numbers(info).values()) == [*range(30), *range(90, 150)]
    assert info.seconds[30] == pytest.approx(3.0)


def test_chunk_that_cannot_be_read_is_a_hole_with_a_reason(whole, tmp_path):
    source = _chunks(whole, tmp_path, seconds=1)
    source.files[1].write_bytes(b"<!doctype html>")
    info = _probe(source)
    assert list(_numbers(info).values()) == [*range(30), *range(60, 150)]
    assert "(1.MP4: it is a web page" in info.remark
    assert str(tmp_path) not in info.remark


def test_damage_in_a_chunk_costs_frames_of_that_chunk_only_and_is_said_by_its_name(whole, tmp_path):
    source = _chunks(whole, tmp_path, seconds=1)
    damage_packet(source.files[2], 5)
    info = _probe(source)
    numbers = _numbers(info)
    lost = set(range(150)) - set(numbers)
    assert 65 in lost
    assert lost <= set(range(60, 72))  # a group of pictures
    assert all(frame == number for frame, number in numbers.items())
    kind, reason = info.why_lost(65)
    assert (kind, reason) == (FailureKind.UNDECODABLE, "frame 65 at 2.17 s cannot be decoded (2.MP4)")


def test_chunks_of_which_none_can_be_read_are_no_video(whole, tmp_path):
    source = _chunks(whole, tmp_path, seconds=2)
    for file in source.files:
        file.write_bytes(b"")
    with pytest.raises(VideoError, match=r"P01_101\.MP4: 0\.MP4: it is empty.*2\.MP4"):
        _probe(source)


def test_chunk_of_other_colours_is_a_hole_with_a_reason(tmp_path):
    write_video(tmp_path / "P01_101" / "0.mp4", num_frames=30)
    write_video(tmp_path / "P01_101" / "1.mp4", num_frames=30, tags={"colorspace": 1})
    [source] = find_videos(tmp_path, ["P01_101"]).values()
    info = _probe(source)
    assert len(info.pts) == 30
    assert "1.mp4: its colours are coded otherwise than those of 0.mp4" in info.remark


# ---- chapters


@pytest.fixture
def chapters(tmp_path) -> FileSeries:
    for chapter in (1, 2, 3):
        write_video(
            tmp_path / f"GX0{chapter}0123.MP4",
            num_frames=50,
            fps=Fraction(30000, 1001),
            picture=lambda number, chapter=chapter: number_picture(number + 50 * (chapter - 1)),
        )
    [source] = find_videos(tmp_path, ["GX010123"]).values()
    return source


def test_chapters_follow_each_other_without_a_break(chapters):
    info = _probe(chapters)
    np.testing.assert_allclose(info.seconds, np.arange(150) * 1001 / 30000, atol=1e-4)
    assert _numbers(info, range(0, 150, 7)) == {number: number for number in range(0, 150, 7)}


@pytest.mark.parametrize(("second", "num_chapters"), [(0.5, 1), (1.6, 1), (1.7, 2), (3.4, 3), (99, 3)])
def test_chapters_are_read_as_far_as_the_annotations_go(chapters, second, num_chapters):
    assert len(_probe(needed_until(chapters, second)).parts) == num_chapters


def test_nothing_is_taken_from_behind_a_chapter_that_cannot_be_read(chapters):
    cut(chapters.files[1], share=0.5)
    info = _probe(chapters)
    assert len(info.pts) == 50
    assert "(GX020123.MP4: its index is missing" in info.remark
