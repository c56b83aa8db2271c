"""Progress: a bar that keeps its width on a terminal, whole lines in a log, and a pace that one can say aloud."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios

import pytest

pytestmark = pytest.mark.process

WORK = """
import time
from features.progress import progress
for label, unit, note in [
    ("extract timesformer_base_k400", "segments", "waiting 49% for decoding, 34% for the backbone"),
    ("head-multiscale_lstm.hidden.64_lr-1e-3-seed0", "epochs", "loss 8.164, action 34.5 %"),
    ("load {x}", "videos", ""),
]:
    with progress(total=89234, unit=unit, label=label, done_before=10000) as bar:
        bar.set_postfix_str(note, refresh=False)
        bar.update(1)
        bar.start_t -= 2.7
        bar.refresh()
        bar.update(89234 - 10001)
"""


def _shown_on_a_terminal(width: int) -> list[str]:
    """Return every state of the line that a terminal of so many columns showed, without what only blanks it."""
    terminal, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    with subprocess.Popen([sys.executable, "-c", WORK], stderr=theirs, stdout=theirs) as process:
        os.close(theirs)
        output = b""
        try:
            while block := os.read(terminal, 1 << 16):
                output += block
        except OSError:  # what Linux says at the end
            pass
    os.close(terminal)
    assert process.returncode == 0, output.decode()
    return [line for line in re.split(r"[\r\n]+", output.decode()) if line.strip()]


@pytest.fixture(scope="module", params=[80, 120])
def shown(request) -> tuple[int, list[str]]:
    """The width of a terminal, and what it showed."""
    return request.param, _shown_on_a_terminal(request.param)


def test_a_line_fills_the_terminal_and_never_wraps(shown) -> None:
    width, lines = shown
    assert {len(line) for line in lines} == {width - 1}


def test_words_make_room_for_the_bar(shown) -> None:
    _, lines = shown
    bars = [re.search(r"\|(.*)\|", line)[1] for line in lines]
    assert min(map(len, bars)) >= 12


def test_count_and_time_left_are_always_there_and_a_wide_terminal_has_the_pace(shown) -> None:
    width, lines = shown
    begun = [line for line in lines if "10,001/89,234" in line]
    assert len(begun) >= 3
    assert all(re.search(r"\| 10,001/89,234 (segments|epochs|videos), .*\d+:\d\d left", line) for line in begun)
    assert all(re.search(r", 2\.\d s per (segment|epoch|video), ", line) for line in begun if width == 120)


def test_a_long_label_keeps_the_end_that_tells_runs_apart(shown) -> None:
    _, lines = shown
    assert any(re.match(r"(head-multiscale)?…?.*\.64_lr-1e-3-seed0 \|", line) for line in lines)


def test_a_log_has_whole_lines_with_everything_and_no_bar() -> None:
    finished = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, check=True)
    assert finished.stdout == ""
    lines = finished.stderr.splitlines()
    assert lines[0] == "extract timesformer_base_k400: 10,000/89,234 segments"
    assert re.fullmatch(
        r"extract timesformer_base_k400: 10,001/89,234 segments, 2\.\d s per segment, \d+:\d\d:\d\d left, "
        "waiting 49% for decoding, 34% for the backbone",
        lines[1],
    )
    assert re.fullmatch(r"load \{x\}: 89,234/89,234 videos, [\d,]+ per second, in 00:0\d", lines[-1])
    assert not any("|" in line or "?" in line for line in lines)
