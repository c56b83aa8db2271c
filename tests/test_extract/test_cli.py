"""`extract run` as a user types it: whole runs, killed ones, and a clear line for whatever is wrong."""

from __future__ import annotations

import gzip
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from annotate import annotate
from click.testing import CliRunner, Result
from encode import repeat_video, write_video

from extract.cli import main
from features.annotations import read_all_segments
from features.check import info, verify
from features.failures import read_failures
from features.featureset import read_featureset
from features.store import read_video

SHARED = Path(__file__).resolve().parents[3] / "shared" / "videos"
TINY = ("--backbone", "tiny_cnn", "--weights", "random:0", "--device", "cpu")


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Two videos of 2 s; read them, never write there."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "P01" / "P01_101.mp4")
    write_video(folder / "P01" / "videos" / "P01_02.MP4", codec="libx265")
    return folder


@pytest.fixture
def segments(tmp_path) -> Path:
    return annotate(
        tmp_path / "segments.csv",
        {"P01_101_0": (0.1, 0.9), "P01_101_1": (0.5, 1.9), "P01_02_0": (0.0, 1.5)},
    )


@pytest.fixture
def run(videos, tmp_path):
    """Run `extract run` in this process, by default with tiny_cnn and 4 frames into out/; a later option wins."""

    def extract(*arguments: object, videos: Path = videos) -> Result:
        command_line = ["run", "--videos", videos, *TINY, "--frames", 4, "--out", tmp_path / "out", *arguments]
        return CliRunner().invoke(main, [str(argument) for argument in command_line])

    return extract


def _is_one_clear_line(result: Result, exit_code: int) -> bool:
    """Whether a command ended as a user may expect: by its exit code and a message, not by an exception of Python's."""
    return (
        result.exit_code == exit_code
        and isinstance(result.exception, SystemExit)
        and len(re.findall("^Error: ", result.stderr, re.MULTILINE)) == 1
        and "Traceback" not in result.stderr
    )


# ---- whole runs


def test_miniature_is_extracted_whole_and_sound(command, miniature, tmp_path):
    out = tmp_path / "out"
    process = command(
        "extract", "run", "--annotations", miniature.annotations, "--videos", miniature.videos, *TINY, "--out", out
    )
    assert process.returncode == 0, process.stderr
    counts = info(out, read_all_segments([miniature.annotations]))
    assert (counts.missing_segments, counts.failed_segments) == (0, 0)
    assert list(verify(out)) == []


def test_videos_that_others_encoded_are_extracted_whole_and_sound(command, tmp_path):
    if not SHARED.is_dir():
        pytest.skip(f"the real clips are not at {SHARED.name}/ beside the checkout")
    out = tmp_path / "out"
    process = command(
        "extract", "run", "--annotations", SHARED / "segments.csv", "--videos", SHARED, *TINY, "--out", out
    )
    assert process.returncode == 0, process.stderr
    assert info(out, read_all_segments([SHARED / "segments.csv"])).complete_segments == 5
    assert list(verify(out)) == []


def test_killed_run_is_completed_to_the_bytes_of_an_unbroken_one(command, miniature, tmp_path):
    def arguments(out: Path) -> list[object]:
        train = miniature.annotations / "EPIC_100_train.csv"
        settings = ["--annotations", train, "--videos", miniature.videos, *TINY, "--frames", 16]
        return ["extract", "run", *settings, "--out", out]

    killed_out, unbroken_out = tmp_path / "killed", tmp_path / "unbroken"
    assert command(*arguments(unbroken_out)).returncode == 0
    expected = {path.name: path.read_bytes() for path in unbroken_out.glob("*.h5")}

    program = Path(sys.executable).with_name("extract")
    with subprocess.Popen(
        [program, *map(str, arguments(killed_out)[1:])], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while not list(killed_out.glob("[!.]*.h5")):
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    files = {path.name: path.read_bytes() for path in killed_out.glob("[!.]*.h5")}
    assert 0 < len(files) < len(expected)
    assert files.items() <= expected.items()

    assert command(*arguments(killed_out)).returncode == 0
    assert {path.name: path.read_bytes() for path in killed_out.glob("*.h5")} == expected
    assert sorted(path.name for path in killed_out.iterdir() if path.name.endswith(".tmp")) == []


def test_results_go_to_stdout_and_progress_to_stderr(run, segments):
    result = run("--annotations", segments)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].endswith(
        "asked for 3 segments in 2 videos: 3 done, 0 there before, 0 failed."
    )
    assert len(result.stdout.splitlines()) == 1


def test_second_run_says_that_all_was_there(run, segments):
    run("--annotations", segments)
    assert "0 done, 3 there before, 0 failed" in run("--annotations", segments).stdout


@pytest.mark.parametrize("option", [[], ["--annotations"]], ids=["as arguments", "as options"])
def test_several_annotation_files_are_taken_together(run, tmp_path, option):
    first = annotate(tmp_path / "a.csv", {"P01_101_0": (0.1, 0.9)})
    second = annotate(tmp_path / "b.csv", {"P01_02_0": (0.1, 0.9)})
    assert "asked for 2 segments in 2 videos: 2 done" in run("--annotations", first, *option, second).stdout


def test_annotations_may_be_the_published_folder(run, tmp_path):
    folder = tmp_path / "annotations"
    folder.mkdir()
    annotate(folder / "EPIC_100_train.csv", {"P01_101_0": (0.1, 0.9)})
    annotate(folder / "EPIC_100_test_timestamps.csv", {"P01_02_0": (0.1, 0.9)})
    assert "asked for 2 segments in 2 videos: 2 done" in run("--annotations", folder).stdout


def test_annotations_may_be_compressed(run, segments):
    compressed = segments.with_suffix(".csv.gz")
    compressed.write_bytes(gzip.compress(segments.read_bytes()))
    assert "3 done" in run("--annotations", compressed).stdout


def test_dry_run_shows_the_shares_from_the_annotations_alone_and_does_nothing(run, segments, tmp_path):
    result = run("--annotations", segments, "--dry-run", "--shard", "0/2", videos=tmp_path / "nowhere")
    assert result.exit_code == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[:3] for row in rows[1:4]] == [["0", "1", "2"], ["1", "1", "1"], ["all", "2", "3"]]
    # 22 frames decoded of each second up to the last segment's end, and 4 seen of each segment.
    costs = [42 + 8, 33 + 4]
    assert [row[3] for row in rows[1:3]] == [f"{cost / sum(costs):.2%}" for cost in costs]
    assert f"The heaviest of 2 tasks is expected to cost {2 * costs[0] / sum(costs):.3f} x the mean" in result.stdout
    assert not (tmp_path / "out").exists()


def test_dry_run_refuses_what_no_task_could_do(run, segments):
    for wrong in (("--tokens", "cls"), ("--layers", "3")):
        result = run("--annotations", segments, "--dry-run", "--shard", "0/2", *wrong)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"Error: {wrong[0]}: tiny_cnn has no ")


# ---- what is wrong is said


def test_failures_end_in_exit_code_1_with_the_place_of_the_reasons(run, tmp_path):
    segments = annotate(
        tmp_path / "segments.csv",
        {"P01_101_0": (0.1, 0.9), "P01_101_1": (0.1, 9.0), "P09_01_0": (0.1, 9.0)},
    )
    result = run("--annotations", segments)
    assert result.exit_code == 1
    assert "asked for 3 segments in 2 videos: 1 done, 0 there before, 2 failed" in result.stdout
    assert f"Failed in 2 videos: P01_101, P09_01. The reasons are in {tmp_path / 'out' / 'failures'}" in (result.stderr)
    assert read_failures(tmp_path / "out", "P09_01")[0].error == "MissingVideo"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backbone", "resnet51"], r"no backbone 'resnet51'; did you mean 'resnet50'\? Known: .*tiny_cnn"),
        (["--frames", "0"], "--frames: 0 is not a number of frames above 0"),
        (["--frames", "many"], "'many' is not a valid integer"),
        (["--clip", "spread"], "--clip: spread is of no use: this backbone sees single frames, not clips"),
        (
            ["--backbone", "r3d_18", "--clip", "wide"],
            "--clip: wide is neither spread nor a number of frames per second",
        ),
        (["--device", "tpu"], "--device: no tpu on this machine; available: .*cpu"),
        (["--weights", "random:x"], "--weights: 'random:x' is no file or folder, nor 'default', nor 'random:SEED'"),
        (["--weights", "default"], "--weights: nobody published weights for tiny_cnn"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_option_ends_in_exit_code_2(run, segments, arguments, message):
    result = run("--annotations", segments, *arguments)
    assert _is_one_clear_line(result, 2)
    assert re.search(message, result.stderr)


def test_missing_weights_end_in_exit_code_1_with_the_command_that_fetches_them(run, segments, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    result = run("--annotations", segments, "--backbone", "resnet50", "--weights", "default")
    assert _is_one_clear_line(result, 1)
    assert result.stderr.endswith("\n  extract weights resnet50\n")


def test_folder_of_videos_that_is_missing_ends_in_exit_code_1(run, segments, tmp_path):
    result = run("--annotations", segments, videos=tmp_path / "nowhere")
    assert _is_one_clear_line(result, 1)
    assert "nowhere: no such folder of videos" in result.stderr


def test_video_that_is_there_twice_ends_in_exit_code_1(run, segments, videos, tmp_path):
    copies = shutil.copytree(videos, tmp_path / "videos")
    shutil.copy(copies / "P01" / "P01_101.mp4", copies / "P01_101.mp4")
    result = run("--annotations", segments, videos=copies)
    assert _is_one_clear_line(result, 1)
    assert "P01_101 is there twice" in result.stderr


def test_folder_below_a_file_ends_in_exit_code_1(run, segments, tmp_path):
    (tmp_path / "file").write_text("")
    result = run("--annotations", segments, "--out", tmp_path / "file" / "out")
    assert _is_one_clear_line(result, 1)
    assert "cannot be written" in result.stderr


def test_file_in_place_of_the_folder_ends_in_exit_code_1(run, segments):
    result = run("--annotations", segments, "--out", segments)
    assert _is_one_clear_line(result, 1)
    assert "segments.csv" in result.stderr


def test_other_settings_in_the_same_folder_end_in_exit_code_1(run, segments):
    run("--annotations", segments)
    result = run("--annotations", segments, "--frames", 8)
    assert _is_one_clear_line(result, 1)
    assert "holds other features" in result.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a CSV file"),
        ("narration_id,participant_id,video_id,start_timestamp,stop_timestamp\n", "no segments"),
        ("a,b\n1,2\n", "no column narration_id"),
    ],
    ids=["nothing", "no rows", "other columns"],
)
def test_empty_annotations_end_in_exit_code_1(run, tmp_path, content, message):
    path = tmp_path / "empty.csv"
    path.write_text(content)
    result = run("--annotations", path)
    assert _is_one_clear_line(result, 1)
    assert message in result.stderr


def test_missing_annotations_end_in_exit_code_1(run, tmp_path):
    result = run("--annotations", tmp_path / "nowhere.csv")
    assert _is_one_clear_line(result, 1)
    assert "nowhere.csv: no such file" in result.stderr


def test_same_annotations_twice_end_in_exit_code_1(run, segments):
    result = run("--annotations", segments, segments)
    assert _is_one_clear_line(result, 1)
    assert "P01_101_0" in result.stderr


@pytest.mark.parametrize("missing_option", ["--annotations", "--videos", "--backbone", "--out"])
def test_option_that_is_left_out_ends_in_exit_code_2_with_its_name(segments, videos, tmp_path, missing_option):
    options = {"--annotations": segments, "--videos": videos, "--backbone": "tiny_cnn", "--out": tmp_path / "out"}
    del options[missing_option]
    result = CliRunner().invoke(main, ["run", *(str(part) for option in options.items() for part in option)])
    assert _is_one_clear_line(result, 2)
    assert missing_option in result.stderr


def test_wrong_option_leaves_no_traceback_in_a_process_of_its_own(command, segments, tmp_path):
    process = command(
        "extract", "run", "--annotations", segments, "--videos", tmp_path, "--backbone", "resnet5", "--out", "out"
    )
    assert process.returncode == 2
    assert "did you mean" in process.stderr
    assert "Traceback" not in process.stderr


def test_help_names_every_option():
    result = CliRunner().invoke(main, ["run", "--help"])
    assert result.exit_code == 0
    for option in ("--annotations", "--videos", "--backbone", "--weights", "--frames", "--device", "--out"):
        assert option in result.stdout


@pytest.mark.parametrize("package", ["av", "torchvision"])
def test_without_the_extraction_extra_it_says_what_to_install(package):
    words = ["run", "--annotations", "a.csv", "--videos", "v", "--backbone", "tiny_cnn", "--out", "o"]
    program = f"import sys; sys.modules[{package!r}] = None; from extract.cli import main; main({words!r})"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert process.stderr == f"Error: {package} is not installed, and extraction needs it: pip install '.[extract]'\n"


# ---- long videos

_MEASURED = """
import resource, sys
from pathlib import Path
from extract.extraction import extract_videos
from features.annotations import read_segments

root = Path(sys.argv[1])
segments = read_segments(root / "segments.csv")
extract_videos(segments, root, root / "out", backbone="tiny_cnn", weights="random:0", every_s=1.0, workers=2)
print(max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
"""


def _peak_memory(folder: Path, minutes: int) -> int:
    """Extract a video of this length; give the most memory that a process of it had, in units of the system."""
    folder.mkdir()
    short_video = write_video(folder.with_suffix(".mp4"), gop=50, num_frames=500, fps=50)
    repeat_video(short_video, folder / "P01_101.mp4", 6 * minutes)
    annotate(folder / "segments.csv", {"P01_101_0": (1.0, 5.0)})
    process = subprocess.run(
        [sys.executable, "-c", _MEASURED, folder], capture_output=True, text=True, timeout=300, check=False
    )
    assert process.returncode == 0, process.stderr
    featureset = read_featureset(folder / "out")
    assert len(read_video(folder / "out", "P01_101", digest=featureset.digest).seconds) == 60 * minutes
    return int(process.stdout)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path):
    short_peak, long_peak = _peak_memory(tmp_path / "1", 1), _peak_memory(tmp_path / "20", 20)
    assert long_peak < 1.15 * short_peak
