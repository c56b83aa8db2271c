"""How far an extraction has come is told right from its files, at any moment of it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from pathlib import Path

import pytest
from annotate import annotate
from click.testing import CliRunner
from encode import write_video

from extract.cli import main
from extract.extraction import extract_videos
from extract.tasks.running import STALE_S, StatusWriter, read_running_tasks
from extract.tasks.status import read_status
from features.annotations import Segments, read_segments
from features.check import info, verify
from features.errors import DataError

TIMES = {f"P01_{video:02}_{number}": (0.1 * number, 0.5 + 0.1 * number) for video in range(4) for number in range(3)}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Three of the four videos."""
    folder = tmp_path_factory.mktemp("videos")
    for video in range(3):
        write_video(folder / "P01" / f"P01_{video:02}.mp4", num_frames=40)
    return folder


@pytest.fixture
def segments(tmp_path) -> Segments:
    return read_segments(annotate(tmp_path / "segments.csv", TIMES))


@pytest.fixture
def extract(videos, tmp_path):
    """Extract the segments of some videos."""

    def run(segments: Segments, *video_ids: str, **options) -> Path:
        selection = segments.where(segments.table.video_id.isin(video_ids).to_numpy())
        settings = {"backbone": "tiny_cnn", "weights": "random:0", "num_frames": 2, "workers": 1, **options}
        extract_videos(selection, videos, tmp_path / "set", **settings)
        return tmp_path / "set"

    return run


@pytest.mark.parametrize("options", [{}, {"every_s": 0.2}], ids=["segment", "dense"])
def test_done_failed_and_missing_add_up(extract, segments, options):
    out = extract(segments, "P01_00", "P01_03", **options)  # there is no P01_03
    status = read_status(out, segments)
    assert (status.videos, status.done_videos, status.failed_videos, status.missing_videos) == (4, 1, 1, 2)
    assert (status.segments, status.done_segments, status.failed_segments, status.missing_segments) == (12, 3, 3, 6)


def test_rate_and_time_left_are_those_of_the_last_hour(extract, segments):
    out = extract(segments, "P01_00", "P01_01", "P01_02")
    for video, moment in {"P01_00": 1000.0, "P01_01": 9000.0, "P01_02": 9600.0}.items():
        os.utime(out / f"{video}.h5", (moment, moment))
    status = read_status(out, segments, now=9660.0)
    assert status.segments_per_hour == pytest.approx(3 * 6)  # P01_02's three in ten minutes
    assert status.hours_left == pytest.approx(3 / 18)
    assert status.last_finished_s_ago == pytest.approx(60)


def test_nothing_is_known_of_the_rate_before_a_second_video(extract, segments):
    status = read_status(extract(segments, "P01_00"), segments)
    assert status.segments_per_hour is None
    assert status.hours_left is None


@pytest.fixture
def keep_note():
    """Keep the note of a run that is at some videos."""
    with contextlib.ExitStack() as stack:

        def keep(out: Path, *video_ids: str) -> Path:
            notes = stack.enter_context(StatusWriter(out, (1, 8)))
            for video_id in video_ids:
                notes.begin(video_id)
            deadline = time.monotonic() + 1800
            while not any(set(video_ids) <= set(note.videos) for note in read_running_tasks(out, now=time.time())):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            return out / "running" / f"{socket.gethostname()}.{os.getpid()}.json"

        yield keep


def test_videos_that_a_run_is_at_are_running(extract, segments, tmp_path, keep_note):
    out = extract(segments, "P01_00", "P01_03")  # there is no P01_03
    keep_note(out, "P01_00", "P01_01", "P01_03")
    status = read_status(out, segments)
    assert (status.done_videos, status.running_videos, status.failed_videos, status.missing_videos) == (1, 2, 0, 1)
    assert (status.done_segments, status.running_segments, status.missing_segments) == (3, 6, 3)
    result = CliRunner().invoke(main, ["status", str(out), "--annotations", str(tmp_path / "segments.csv")])
    assert f"On {socket.gethostname()}, task 1 of 8: P01_00, P01_01, P01_03\n" in result.output


def test_note_that_is_no_longer_renewed_says_nothing(extract, segments, keep_note):
    out = extract(segments, "P01_00")
    note = keep_note(out, "P01_01")
    assert read_status(out, segments, now=time.time() + STALE_S + 60).running_videos == 0
    note.write_text("{")
    assert read_status(out, segments).running_videos == 0


def test_run_leaves_no_note(extract, segments):
    assert not (extract(segments, "P01_00") / "running").exists()


def test_set_with_notes_is_sound(extract, segments, keep_note):
    out = extract(segments, "P01_00")
    keep_note(out, "P01_01")
    assert list(verify(out)) == []
    assert info(out, segments).missing_videos == 3


def test_notes_that_cannot_be_written_stop_nothing(extract, segments):
    out = extract(segments, "P01_00")
    (out / "running").write_text("a file where the folder should be")
    extract(segments, "P01_01")
    assert read_status(out, segments).done_videos == 2


def test_folder_that_is_no_feature_set_is_an_error(tmp_path, segments):
    with pytest.raises(DataError, match="not a feature set"):
        read_status(tmp_path, segments)


def test_command_shows_a_table_and_what_is_left(extract, segments, tmp_path):
    out = extract(segments, "P01_00", "P01_01")
    for video, moment in {"P01_00": 1000.0, "P01_01": 1600.0}.items():
        os.utime(out / f"{video}.h5", (moment, moment))
    result = CliRunner().invoke(main, ["status", str(out), "--annotations", str(tmp_path / "segments.csv")])
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split()[1:] for line in result.output.splitlines()[1:6]}
    assert rows == {
        "done": ["2", "6"],
        "running": ["0", "0"],
        "failed": ["0", "0"],
        "missing": ["2", "6"],
        "all": ["4", "12"],
    }
    assert "18 segments per hour; 0.3 hours left" in result.output


def test_json_has_every_count(extract, segments, tmp_path):
    out = extract(segments, "P01_00")
    result = CliRunner().invoke(main, ["status", str(out), "--json", "--annotations", str(tmp_path / "segments.csv")])
    assert json.loads(result.output)["done_segments"] == 3


def test_slurm_that_is_not_there_is_a_clear_error(extract, segments, tmp_path, monkeypatch):
    out = extract(segments, "P01_00")
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(main, ["status", str(out), "--slurm", "--annotations", str(tmp_path / "segments.csv")])
    assert result.exit_code == 1
    assert "--slurm: there is no squeue on this machine" in result.output
