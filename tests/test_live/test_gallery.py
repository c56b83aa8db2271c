"""`heads report --videos` without a browser: videos that fail, other forms of videos, and the size of a page."""

from __future__ import annotations

import base64
import io
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from encode import cut, number_in, write_video
from forms import write_frames
from PIL import Image
from report_runs import write_run
from synthetic import Synthetic, write_synthetic

import live.gallery
from heads.cli import main
from live.frames import Frame, SegmentFrames

FPS, NUM_SECONDS = 10, 30


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Synthetic:
    return write_synthetic(tmp_path_factory.mktemp("gallery"), train=30, validation=16)


@pytest.fixture(scope="module")
def runs(dataset, tmp_path_factory) -> Path:
    """A folder with a single run."""
    return write_run(tmp_path_factory.mktemp("runs"), "mlp", dataset, head="mlp", seed=0, right=0.5).parent


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """A video that is long enough for every segment of validation."""
    path = tmp_path_factory.mktemp("videos") / "P01_02.mp4"
    return write_video(path, num_frames=FPS * NUM_SECONDS, fps=FPS)


@pytest.fixture
def report(runs, tmp_path):
    """Make a report with a gallery of `tmp_path / videos`."""

    def run(*arguments: object) -> Result:
        options = ("--runs", runs, "--videos", tmp_path / "videos", "--out", tmp_path / "report.html", *arguments)
        return CliRunner().invoke(main, ["report", *map(str, options)])

    (tmp_path / "videos").mkdir()
    return run


def _strips(page: str) -> dict[str, tuple[list[Image.Image], str]]:
    """Return the pictures of each strip, and why it has none."""
    strips = {}
    for template in re.findall(r"<template.*?</template>", page, flags=re.DOTALL):
        name = re.search(r'<p class="soft">(P\w+), ', template)[1]
        data = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', template)
        missing = re.search(r'<p class="absent">No frames: (.*?)</p>', template)
        images = [Image.open(io.BytesIO(base64.b64decode(jpeg))) for jpeg in data]
        strips[name] = images, missing[1] if missing else ""
    return strips


def test_videos_that_fail_have_strips_that_say_why(report, dataset, tmp_path):
    """One video is missing, the other ends in the middle of its segments: the page is there, and counts both."""
    write_video(tmp_path / "videos" / "P01_02.mp4", num_frames=FPS * 12, fps=FPS)
    result = report()
    assert result.exit_code == 0, result.output
    page = (tmp_path / "report.html").read_text()
    strips = _strips(page)
    table = dataset.segments("validation").table
    assert set(strips) == set(table.narration_id)
    reasons = {name: missing for name, (_, missing) in strips.items() if missing}
    late = table[(table.video_id == "P01_02") & (table.stop_s > 12.1)].narration_id
    assert len(late) > 0
    assert set(reasons) == {*late, *table[table.video_id == "P04_01"].narration_id}
    assert all("the video&#x27;s frames end at 12.00 s" in reasons[name] for name in late)
    assert all("nothing named P04_01" in reasons[name] for name in reasons if name.startswith("P04"))
    assert all(len(images) == 5 for name, (images, _) in strips.items() if name not in reasons)
    assert f"{len(reasons)} of 16 strips have no frames" in page
    assert "two runs disagree: no other row predicts the same segments" in page
    assert f"without frames: {len(reasons)} strips" in result.stderr


def test_a_file_that_is_no_video_and_a_damaged_one(report, tmp_path, video):
    (tmp_path / "videos" / "P04_01.mp4").write_bytes(b"not a video")
    (tmp_path / "videos" / "P01_02.mp4").write_bytes(video.read_bytes())
    cut(tmp_path / "videos" / "P01_02.mp4", share=0.5)
    result = report()
    assert result.exit_code == 0, result.output
    strips = _strips((tmp_path / "report.html").read_text())
    assert {not images for images, _ in strips.values()} == {True}
    assert all("P04_01.mp4: " in missing for name, (_, missing) in strips.items() if name.startswith("P04"))
    assert all("P01_02.mp4: " in missing for name, (_, missing) in strips.items() if name.startswith("P01"))


def test_jpeg_frames_show_the_same_moments(report, dataset, video, tmp_path):
    write_frames(video, tmp_path / "videos" / "P01_02", fps=FPS)
    result = report("--frames-fps", FPS)
    assert result.exit_code == 0, result.output
    strips = _strips((tmp_path / "report.html").read_text())
    table = dataset.segments("validation").table.set_index("narration_id")
    rows = table[table.video_id == "P01_02"]
    for name, row in rows.iterrows():
        moments = row.start_s + (np.arange(5) + 0.5) / 5 * (row.stop_s - row.start_s)
        numbers = [number_in(np.array(image.convert("L"))) for image in strips[name][0]]
        assert np.abs(np.array(numbers) / FPS - moments).max() <= 0.5 / FPS + 1e-9


def _rectangles(page: str) -> dict[str, list[dict[str, tuple[float, ...]]]]:
    """Return the boxes of each picture of each strip: name -> left, top, width, height."""
    side = r'x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"'
    boxes = {}
    for template in re.findall(r"<template.*?</template>", page, flags=re.DOTALL):
        frames = re.findall(r'<div class="frame">(.*?)</div>', template)
        boxes[re.search(r'<p class="soft">(P\w+), ', template)[1]] = [
            {name: tuple(map(float, rest)) for name, *rest in re.findall(rf'<rect class="(\w+)" {side}', frame)}
            for frame in frames
        ]
    return boxes


def test_boxes_are_drawn_where_they_are_known(report, dataset, video, tmp_path):
    """Until second 12 a table knows a left hand and what it holds, then a right hand; of the other video nothing."""
    rows = []
    for number in range(FPS * NUM_SECONDS):
        side, left = ("left", 0.1) if number < 12 * FPS else ("right", 0.6)
        rows.append(f"P01_02,{number / FPS},hand,{side},0.9,{left},0.5,{left + 0.2},0.8")
        rows.append(f"P01_02,{number / FPS},hand,{side},0.1,0,0,1,1")  # too unsure to count
    rows += [f"P01_02,{number / FPS},object,left,0.9,0.2,0.4,0.4,0.6" for number in range(12 * FPS)]
    header = "video,second,kind,side,score,left,top,right,bottom"
    (tmp_path / "boxes.csv").write_text("\n".join([header, *rows, ""]))
    for video_id in ("P01_02", "P04_01"):
        shutil.copy(video, tmp_path / "videos" / f"{video_id}.mp4")
    result = report("--boxes", tmp_path / "boxes.csv")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "report.html").read_text()
    assert "without boxes: " in result.stderr
    assert "holds no boxes of P04_01" in page
    left = {"left": (0.1, 0.5, 0.2, 0.3), "held": (0.2, 0.4, 0.2, 0.2)}
    right = {"right": (0.6, 0.5, 0.2, 0.3)}
    table = dataset.segments("validation").table.set_index("narration_id")
    seen = set()
    for name, frames in _rectangles(page).items():
        row = table.loc[name]
        moments = row.start_s + (np.arange(5) + 0.5) / 5 * (row.stop_s - row.start_s)
        for moment, boxes in zip(moments, frames, strict=True):
            if row.video_id == "P04_01":
                assert boxes == {}
            elif abs(moment - 12.2) > 0.6:  # a box that is gone is held for a while
                assert boxes == (left if moment < 12 else right)
                seen.update(boxes)
    assert seen == {"left", "held", "right"}


@pytest.fixture(scope="module")
def plain_page(runs, tmp_path_factory) -> str:
    """A report without --videos."""
    out = tmp_path_factory.mktemp("plain") / "report.html"
    result = CliRunner().invoke(main, ["report", "--runs", str(runs), "-o", str(out)])
    assert result.exit_code == 0, result.output
    return out.read_text()


def test_a_full_page_says_what_it_leaves_out(report, plain_page, tmp_path, monkeypatch):
    write_video(tmp_path / "videos" / "P01_02.mp4", num_frames=2 * NUM_SECONDS, fps=2, picture=lambda _: _noise())
    most = len(plain_page) + 250_000
    monkeypatch.setattr(live.gallery, "MAX_PAGE_BYTES", most)
    result = report()
    assert result.exit_code == 0, result.output
    page = (tmp_path / "report.html").read_text()
    num_left_out = 16 - len(_strips(page))
    assert 0 < num_left_out < 16
    assert most - 150_000 < len(page) <= most
    assert f"{num_left_out} more strips were left out" in page
    assert f"too large: {num_left_out} strips" in result.stderr


def _noise() -> np.ndarray:
    """A picture that no encoder makes small."""
    return np.random.default_rng(0).integers(0, 256, (288, 512, 3), dtype=np.uint8)


def test_pictures_look_as_good_as_there_is_room_for():
    frames = tuple(Frame(_noise()[:216, :384], float(second)) for second in range(5))
    segment = SegmentFrames("P01_02", "P01_02_0", frames)
    sizes, heights = [], []
    for max_bytes in (10**9, 300_000, 150_000, 100_000, 0):
        pictures = list(live.gallery._pictures(segment, max_bytes))
        sizes.append(sum(len(picture.jpeg) for picture in pictures))
        heights.append(pictures[0].height)
        assert sizes[-1] <= max_bytes or max_bytes == 0
        assert [picture.second for picture in pictures] == [0, 1, 2, 3, 4]
        for picture in pictures:
            assert Image.open(io.BytesIO(picture.jpeg)).size == (picture.width, picture.height)
            assert picture.width / picture.height == pytest.approx(384 / 216, rel=0.01)
    assert sizes == sorted(sizes, reverse=True)
    assert (heights[0], heights[-1]) == (216, 160)


def test_without_videos_the_page_has_no_trace_of_a_gallery(plain_page):
    traces = ('id="gallery"', "<template", ".strips", "ArrowRight")
    assert [trace for trace in traces if trace in plain_page] == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--videos", "nowhere"), 1, "nowhere: no such folder of videos."),
        (("--videos", ".", "--format", "md"), 2, "--videos adds pictures to a page; with --format md there are none."),
        (("--gallery", 9), 2, "--gallery, --input, --frames-fps and --boxes are of use with --videos only."),
        (("--videos", ".", "--gallery", 0), 2, "Invalid value for '--gallery'"),
    ],
)
def test_what_cannot_be_meant_is_said(runs, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["report", "--runs", str(runs), *map(str, arguments)])
    assert result.exit_code == code, result.output
    assert message in result.output
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("package", ["av", "PIL"])
def test_without_stage_1_it_says_what_to_install(runs, tmp_path, monkeypatch, package):
    for name in [name for name in sys.modules if name.split(".")[0] in (package, "live") or "extract.decode" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    result = CliRunner().invoke(main, ["report", "--runs", str(runs), "--videos", str(tmp_path)])
    assert result.exit_code == 1
    assert f"{package} is not installed, and --videos needs it: pip install '.[extract]'" in result.output
