"""The gallery of `heads report --videos` in a real browser: right moments, filters, arrow keys, and a phone's width."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import CHROMIUM, Browser
from click.testing import CliRunner
from encode import HEIGHT, WIDTH, number_in, number_picture, write_video
from report_runs import write_run
from synthetic import NOUNS, VERBS, Synthetic, write_synthetic

from heads.cli import main
from heads.report.gallery import FRAMES_PER_STRIP

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine; on Debian: apt-get install chromium"
)

EVIL = '<img src=x onerror="window.harmed=1">'
FPS, NUM_SECONDS, NUM_STRIPS = 10, 130, 50
# The first number that is painted in each video.
FIRST = {"P01_02": 0, "P04_01": 2048}
PHONE, DESK = 390, 1280


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Synthetic:
    """A dataset with named classes, and narrations that are HTML."""
    dataset = write_synthetic(tmp_path_factory.mktemp("gallery"), train=30, validation=80)
    for task, keys in (("verb", VERBS), ("noun", NOUNS)):
        names = pd.DataFrame({"id": keys.keys(), "key": keys.values()})
        names.to_csv(dataset.annotations / f"EPIC_100_{task}_classes.csv", index=False)
    rows = pd.read_csv(dataset.csv("validation"), dtype=str)
    rows["narration"] += f" {EVIL}"
    rows.to_csv(dataset.csv("validation"), index=False)
    return dataset


@pytest.fixture(scope="module")
def page(dataset, tmp_path_factory) -> Path:
    """A report of two runs with a gallery of videos whose frames say their number."""
    folder = tmp_path_factory.mktemp("page")
    for head, right in (("bilstm", 0.7), ("mean_pool", 0.5)):
        write_run(folder / "runs", head, dataset, head=head, seed=0, right=right)
    for video_id, first in FIRST.items():
        write_video(
            folder / "videos" / f"{video_id}.mp4",
            num_frames=FPS * NUM_SECONDS,
            fps=FPS,
            picture=lambda number, first=first: number_picture(first + number),
        )
    options = ("--runs", folder / "runs", "--videos", folder / "videos", "--gallery", NUM_STRIPS)
    out = folder / "report.html"
    result = CliRunner().invoke(main, ["report", *map(str, options), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1:] == [f"gallery: {NUM_STRIPS} strips"]
    return out


def _show_all(browser: Browser) -> None:
    browser.run("(() => { const more = document.querySelector('.more'); while (!more.hidden) more.click(); })()")


def _strips(browser: Browser) -> list[dict[str, Any]]:
    """Return what each shown strip says."""
    return browser.run(
        """[...document.querySelectorAll(".strips article")].map((strip) => ({
            words: strip.querySelector(".words").innerText,
            id: strip.querySelector(".words p").textContent.split(",")[0],
            right: strip.className,
            participant: strip.querySelector(".words p").textContent.split("_")[0],
            verb: strip.querySelectorAll("dd")[0].innerText.split("\\n")[1],
            noun: strip.querySelectorAll("dd")[1].innerText.split("\\n")[1],
            times: [...strip.querySelectorAll(".frames p")].map((time) => time.textContent)}))"""
    )


PIXELS = """Promise.all([...document.querySelectorAll(".strips article")].map((strip) =>
    Promise.all([...strip.querySelectorAll("img")].map(async (image) => {
        await image.decode();
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        return [...context.getImageData(0, 0, canvas.width, canvas.height).data].filter((_, i) => i % 4 == 1);
    }))))"""


def test_strips_show_the_moments_of_their_segments(desk, dataset):
    """The number in each picture is that of the frame nearest to the middle of its fifth of the segment."""
    _show_all(desk)
    segments = dataset.segments("validation").table.set_index("narration_id")
    strips, pixels = _strips(desk), desk.run(PIXELS)
    assert len(strips) == len(pixels) == NUM_STRIPS
    assert {strip["id"].rsplit("_", 1)[0] for strip in strips} == set(FIRST)
    for strip, pictures in zip(strips, pixels, strict=True):
        row = segments.loc[strip["id"]]
        parts = (np.arange(FRAMES_PER_STRIP) + 0.5) / FRAMES_PER_STRIP
        moments = row.start_s + parts * (row.stop_s - row.start_s)
        numbers = [number_in(np.array(green).reshape(HEIGHT, WIDTH)) for green in pictures]
        seconds = (np.array(numbers) - FIRST[row.video_id]) / FPS
        assert np.abs(seconds - moments).max() <= 0.5 / FPS + 1e-9
        written = [60 * int(minutes) + float(rest) for minutes, rest in (time.split(":") for time in strip["times"])]
        assert written == pytest.approx(seconds.tolist(), abs=0.0051)


def test_nothing_is_complained_of_and_nothing_runs(desk, page):
    _show_all(desk)
    names = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    assert [desk.events_of(name) for name in names] == [[], [], []]
    urls = {event["request"]["url"] for event in desk.events_of("Network.requestWillBeSent")}
    assert {url for url in urls if not url.startswith("data:")} == {page.as_uri()}
    assert desk.run("window.harmed") is None
    assert all(EVIL in strip["words"] for strip in _strips(desk))


def test_pictures_are_decoded_once_their_strip_is_shown(desk):
    """So that a page with 200 strips opens as quickly as one with few."""
    counts = "[document.querySelectorAll('.strips article').length, document.querySelectorAll('.strips img').length]"
    assert desk.run(counts) == [20, 20 * FRAMES_PER_STRIP]
    assert desk.run("document.querySelectorAll('template').length") == NUM_STRIPS
    desk.run("document.querySelector('.more').click()")
    assert desk.run(counts) == [40, 40 * FRAMES_PER_STRIP]


def _choose(browser: Browser, **chosen: str) -> None:
    for name, value in chosen.items():
        browser.run(
            f"""(() => {{
                const select = document.querySelector('.filters select[name={name}]');
                select.value = {value!r};
                select.dispatchEvent(new Event('change'));
            }})()"""
        )


def _status(browser: Browser) -> str:
    return browser.run("document.querySelector('.gallery [role=status]').textContent")


def _options(browser: Browser, name: str) -> dict[str, int]:
    texts = browser.run(
        f"[...document.querySelectorAll('.filters select[name={name}] option')].slice(1).map((one) => "
        "[one.value, one.textContent])"
    )
    return {value: int(re.search(r"\((\d+)\)$", text)[1]) for value, text in texts}


@pytest.mark.parametrize("name", ["right", "verb", "noun", "participant", "reason"])
def test_a_filter_leaves_what_it_says(desk, name):
    _show_all(desk)
    key = "words" if name == "reason" else name
    in_all = [strip[key] for strip in _strips(desk)]
    options = _options(desk, name)
    assert len(options) > 1
    for value, count in options.items():
        _choose(desk, **{name: value})
        _show_all(desk)
        shown = [strip[key] for strip in _strips(desk)]
        assert shown == [text for text in in_all if re.search(rf"\b{value}\b", text)]
        assert len(shown) == count
        assert _status(desk) == f"{count} of {NUM_STRIPS} strips"


def test_filters_hold_together(desk):
    _choose(desk, participant="P01", right="wrong")
    _show_all(desk)
    strips = _strips(desk)
    assert 0 < len(strips) < NUM_STRIPS
    assert {(strip["participant"], strip["right"]) for strip in strips} == {("P01", "wrong")}
    _choose(desk, right="right", reason="confident mistake")
    assert _status(desk) == f"None of {NUM_STRIPS} strips matches these filters."
    _choose(desk, participant="", right="", reason="")
    assert _status(desk) == f"{NUM_STRIPS} of {NUM_STRIPS} strips"


def test_arrow_keys_step_from_strip_to_strip(desk):
    focused = (
        "[...document.querySelectorAll('.strips > li')].findIndex((item) => item.contains(document.activeElement))"
    )
    desk.press("ArrowRight")
    assert desk.run(focused) == -1, "the gallery is not in sight"
    desk.run("document.querySelector('#gallery').scrollIntoView({ behavior: 'instant' })")
    places = []
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        desk.press(key)
        places.append(desk.run(focused))
    assert places == [0, 1, 2, 1]
    for _ in range(25):
        desk.press("ArrowRight")
    assert desk.run(focused) == 26, "beyond the first 20"
    box = desk.run("(() => { const b = document.activeElement.getBoundingClientRect(); return [b.top, b.bottom]; })()")
    assert 0 <= box[0] < box[1] <= 900


@pytest.mark.parametrize("width", [320, PHONE, DESK])
def test_the_page_is_never_wider_than_the_window(browser, page, width):
    browser.open(page, width=width)
    _show_all(browser)
    assert browser.run("document.documentElement.scrollWidth") <= width
    too_wide = (
        f"[...document.querySelectorAll('.gallery *')].filter((part) => part.getBoundingClientRect().right > {width}"
        " + 0.5).length"
    )
    assert browser.run(too_wide) == 0
    smallest = "Math.min(...[...document.querySelectorAll('.frame img')].map((image) => image.clientWidth))"
    assert browser.run(smallest) >= 110


def test_the_picture_of_the_docs_is_taken_from_the_gallery(desk, tmp_path):
    desk.picture_from("#gallery", tmp_path / "gallery.jpg")
    assert desk.run("Math.abs(document.querySelector('#gallery').getBoundingClientRect().top) < 20")
    assert (tmp_path / "gallery.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_tables_still_sort(desk):
    desk.run("document.querySelectorAll('#ranking th button')[1].click()")
    assert desk.run("document.querySelectorAll('#ranking th')[1].ariaSort") == "descending"
