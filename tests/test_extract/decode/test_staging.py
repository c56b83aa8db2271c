"""Videos that are copied to a disk of the machine before they are read: the same features, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from annotate import annotate
from encode import write_video
from holding import held_pids, hold_variables

from extract.decode import staging
from extract.decode.staging import Staged, staged, staging_folder
from extract.extraction import Summary, extract_videos
from extract.sampling import plan_video
from extract.videos import find_videos
from features.annotations import read_segments
from features.errors import DataError
from features.failures import read_failures

SEGMENTS = {"P01_01_0": (0.1, 0.9), "P01_01_1": (0.5, 1.5), "P01_02_0": (0.0, 1.0)}


@pytest.fixture(scope="module")
def original_videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name in ("P01_01.mp4", "P01_02.MP4"):
        write_video(folder / name)
    return folder


@pytest.fixture
def videos(original_videos, tmp_path) -> Path:
    return shutil.copytree(original_videos, tmp_path / "videos")


@pytest.fixture
def extract(videos, tmp_path):
    """Extract into out/, by default by way of scratch/."""

    def run(out: str = "out", **options) -> Summary:
        segments = read_segments(annotate(tmp_path / "segments.csv", SEGMENTS))
        settings = {"backbone": "tiny_cnn", "weights": "random:0", "num_frames": 4, "workers": 2, **options}
        return extract_videos(segments, videos, tmp_path / out, **{"stage": tmp_path / "scratch", **settings})

    return run


def _features(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.glob("*.h5"))}


def test_features_are_those_of_videos_read_where_they_lie(extract, tmp_path, capfd):
    assert extract().done == 3
    assert extract("plain", stage=None).done == 3
    assert _features(tmp_path / "out") == _features(tmp_path / "plain")
    assert list((tmp_path / "scratch").iterdir()) == []
    assert "read where it lies" not in capfd.readouterr().err


def test_decoders_read_the_copies(extract, videos, tmp_path, monkeypatch):
    copies = []

    def plan_and_remove(*arguments):
        # A video is planned once it has been copied and probed; nothing of it has been decoded.
        copies.append(list((tmp_path / "scratch").glob("*/*")))
        shutil.rmtree(videos, ignore_errors=True)
        return plan_video(*arguments)

    monkeypatch.setattr("extract.extraction.plan_video", plan_and_remove)
    monkeypatch.setattr(staging, "SPARE_BYTES", 0)
    segments = {name: times for name, times in SEGMENTS.items() if name.startswith("P01_01")}
    csv_path = annotate(tmp_path / "segments.csv", segments)
    options = {"backbone": "tiny_cnn", "weights": "random:0", "num_frames": 4, "workers": 1}
    summary = extract_videos(read_segments(csv_path), videos, tmp_path / "out", stage=tmp_path / "scratch", **options)
    assert (summary.done, summary.failed) == (2, 0)
    assert [path.name for path in copies[0]] == ["P01_01.mp4"]


def test_video_that_is_damaged_is_recorded_by_its_own_path(extract, videos, tmp_path):
    (videos / "P01_01.mp4").write_bytes(b"no video" * 1000)
    assert extract().failed == 2
    failures = read_failures(tmp_path / "out", "P01_01")
    assert {failure.error for failure in failures} == {"UnreadableVideo"}
    assert all(str(videos / "P01_01.mp4") in failure.message for failure in failures)
    assert all("scratch" not in failure.message for failure in failures)


def _staged(video: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return staged(Staged(video, folder / video.name), lambda: None)


def test_video_without_room_for_its_copy_is_read_where_it_lies(videos, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(staging, "SPARE_BYTES", 2**60)
    video = videos / "P01_01.mp4"
    assert _staged(video, tmp_path / "scratch") == video
    assert f"{video}: read where it lies, as it cannot be copied to {tmp_path / 'scratch'} (No space left" in (
        capfd.readouterr().err
    )


_LIMITED = """
import resource, signal, sys
from pathlib import Path
from extract.decode.staging import Staged, staged

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
print(staged(Staged(Path(sys.argv[1]), Path(sys.argv[2])), lambda: None))
"""


def test_copy_that_breaks_off_is_removed_and_the_video_read_where_it_lies(videos, tmp_path):
    copy = tmp_path / "copy.mp4"
    program = [sys.executable, "-c", _LIMITED, videos / "P01_01.mp4", copy]
    process = subprocess.run(program, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == str(videos / "P01_01.mp4")
    assert "(File too large)" in process.stderr
    assert not copy.exists()


def test_video_that_vanishes_before_it_is_copied_is_recorded(extract, videos, tmp_path, monkeypatch):
    def find_and_remove(*arguments, **options):
        files = find_videos(*arguments, **options)
        files["P01_02"].unlink()
        return files

    monkeypatch.setattr("extract.extraction.find_videos", find_and_remove)
    summary = extract()
    assert (summary.done, summary.failed) == (2, 1)
    (failure,) = read_failures(tmp_path / "out", "P01_02")
    assert failure.error == "UnreadableVideo"
    assert str(videos / "P01_02.MP4") in failure.message


def test_folder_that_cannot_be_is_an_error(extract, tmp_path):
    (tmp_path / "scratch").write_text("a file")
    with pytest.raises(DataError, match=r"--stage: .*scratch: no place for copies of videos"):
        extract()


_KILLED = """
import sys, time
from pathlib import Path
from extract.decode.staging import staging_folder

with staging_folder(Path(sys.argv[1])) as folder:
    (folder / "P01_01.mp4").write_text("part of a video")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_run_left_goes_with_the_next_and_what_is_in_use_stays(tmp_path):
    def start() -> tuple[subprocess.Popen, Path]:
        process = subprocess.Popen([sys.executable, "-c", _KILLED, tmp_path], stdout=subprocess.PIPE, text=True)
        return process, Path(process.stdout.readline().strip())

    (killed, killed_folder), (running, running_folder) = start(), start()
    killed.kill()
    killed.communicate()
    assert killed_folder.is_dir()
    with staging_folder(tmp_path) as own_folder:
        assert not killed_folder.exists()
        assert running_folder.is_dir()
        assert own_folder.is_dir()
    assert not own_folder.exists()
    running.kill()
    running.communicate()


def test_run_that_is_stopped_leaves_no_copies(videos, tmp_path):
    annotate(tmp_path / "segments.csv", SEGMENTS)
    words = ["run", "--annotations", tmp_path / "segments.csv", "--videos", videos, "--backbone", "tiny_cnn"]
    words += ["--weights", "random:0", "--device", "cpu", "--out", tmp_path / "out", "--stage", tmp_path / "scratch"]
    program = Path(sys.executable).with_name("extract")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **hold_variables(tmp_path / "held", "os.remove:.mp4:1")}
    process = subprocess.Popen(list(map(str, [program, *words])), env=environment)
    held_pids(tmp_path / "held", go_on=lambda: process.poll() is None)
    assert list((tmp_path / "scratch").glob("*/*"))
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    assert process.wait() == 128 + signal.SIGTERM
    assert list((tmp_path / "scratch").iterdir()) == []
