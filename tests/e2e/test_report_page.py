"""The page of `heads report` in a real browser: it renders by itself, its tables sort, and it fits a phone."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser, chromium
from report_runs import write_run, write_runs
from synthetic import write_synthetic

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine; on Debian: apt-get install chromium"
)

EVIL = '<img src=x onerror="window.harmed=1"><script>window.harmed=1<'
PHONE, DESK = 390, 1280


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A report of runs, one with a name as long as a sweep's and one whose name is HTML with a script."""
    folder = tmp_path_factory.mktemp("report")
    dataset = write_synthetic(folder / "made", train=90, validation=80)
    runs = write_runs(folder / "runs", dataset)
    write_run(runs, EVIL, dataset, head="mean_pool", seed=0, right=0.2)
    write_run(runs, "loss-focal.gamma.1_" * 6, dataset, head="mean_pool", seed=0, right=0.2)
    program = Path(sys.executable).with_name("heads")
    process = subprocess.run([program, "report"], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def desk(browser, page) -> Browser:
    browser.open(page, width=DESK)
    return browser


@pytest.fixture
def phone(browser, page) -> Browser:
    browser.open(page, width=PHONE)
    return browser


def test_it_renders_all_of_its_plots(desk):
    assert re.fullmatch(r"bilstm: [\d.]+ % action top-1", desk.run("document.title"))
    sizes = desk.run("[...document.images].map((image) => [image.complete, image.naturalWidth, image.alt.length])")
    assert len(sizes) > 10
    assert all(complete and width > 100 and alt > 40 for complete, width, alt in sizes)


def test_every_section_has_its_link(desk):
    anchors = desk.run("[...document.querySelectorAll('nav a')].map((link) => link.getAttribute('href').slice(1))")
    assert anchors == desk.run("[...document.querySelectorAll('section')].map((section) => section.id)")


def test_nothing_is_complained_of(desk):
    names = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    assert [desk.events_of(name) for name in names] == [[], [], []]


def test_nothing_is_asked_of_the_network(desk, page):
    urls = {event["request"]["url"] for event in desk.events_of("Network.requestWillBeSent")}
    assert {url for url in urls if not url.startswith("data:")} == {page.as_uri()}


def test_names_from_files_run_no_code(desk):
    assert desk.run("window.harmed") is None
    assert desk.run("document.querySelectorAll('img:not([src^=\"data:\"])').length") == 0
    assert desk.run("document.scripts.length") == 1
    assert EVIL in desk.run("document.querySelector('table').textContent")


def test_what_a_name_would_run_is_forbidden_as_well(desk):
    """The page's policy holds even where a name were not escaped."""
    desk.run("document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"window.harmed=1\">')")
    desk.run("new Promise((resolve) => setTimeout(resolve, 100))")
    assert desk.run("window.harmed") is None


# ---- tables

RANKING = "document.querySelector('#ranking table')"
HEADERS = f"[...{RANKING}.tHead.rows[0].cells]"


def _column(browser: Browser, name: str) -> list[float | str | None]:
    """Return the cells of a column of the ranking: numbers, text, or None where a cell is empty."""
    return browser.run(
        f"""(() => {{
            const index = {HEADERS}.findIndex((header) => header.textContent === {name!r});
            return [...{RANKING}.tBodies[0].rows].map((row) => row.cells[index]).map((cell) =>
                cell.dataset.value === undefined ? cell.textContent || null : Number(cell.dataset.value));
        }})()"""
    )


def _click(browser: Browser, name: str) -> None:
    browser.run(f"{HEADERS}.find((header) => header.textContent === {name!r}).querySelector('button').click()")


def _sort_order(browser: Browser) -> dict[str, str]:
    cells = f"{HEADERS}.filter((cell) => cell.ariaSort).map((cell) => [cell.textContent, cell.ariaSort])"
    return dict(browser.run(cells))


def test_a_click_on_a_header_sorts_by_number_the_highest_first(desk):
    _click(desk, "run")
    values_before = _column(desk, "action@1")
    _click(desk, "action@1")
    assert _column(desk, "action@1") == sorted(values_before, reverse=True) != values_before
    assert min(values_before) < 10 < max(values_before)  # in the order of words 9 would stand above 80
    assert _sort_order(desk) == {"action@1": "descending"}


def test_another_click_turns_it_round(desk):
    _click(desk, "noun@1")
    _click(desk, "noun@1")
    assert _column(desk, "noun@1") == sorted(_column(desk, "noun@1"))
    assert _sort_order(desk) == {"noun@1": "ascending"}


def test_words_are_sorted_from_a_to_z(desk):
    _click(desk, "run")
    names = [name[:4] for name in _column(desk, "run") if name[0].isalpha()]
    assert names == sorted(names)
    assert _sort_order(desk) == {"run": "ascending"}


@pytest.mark.parametrize("num_clicks", [1, 2])
def test_what_has_no_value_stays_below(desk, num_clicks):
    for _ in range(num_clicks):
        _click(desk, "std over seeds")
    values = _column(desk, "std over seeds")
    numbers = [value for value in values if value is not None]
    assert values[: len(numbers)] == sorted(numbers, reverse=num_clicks == 1)
    assert values[len(numbers) :] == [None] * (len(values) - len(numbers)) != []


def test_whole_rows_move(desk):
    def rows() -> set[str]:
        return set(desk.run(f"[...{RANKING}.tBodies[0].rows].map((row) => row.textContent)"))

    rows_before = rows()
    _click(desk, "verb@1")
    assert rows() == rows_before


def test_a_table_sorts_by_the_keyboard(desk):
    desk.run(f"{HEADERS}.find((header) => header.textContent === 'run').querySelector('button').focus()")
    desk.press("Tab")
    assert desk.run("document.activeElement.textContent") == "action@1"
    desk.press("Enter")
    assert _sort_order(desk) == {"action@1": "descending"}


def test_every_table_has_headers_to_click(desk):
    counts = desk.run(
        "[...document.querySelectorAll('table')].map((table) => [table.tHead.rows[0].cells.length,"
        " table.tHead.querySelectorAll('th[scope=col] > button[type=button]').length,"
        " new Set([...table.rows].map((row) => row.cells.length)).size])"
    )
    assert all(cells == buttons and widths == 1 for cells, buttons, widths in counts)


# ---- on a phone


def _too_wide(browser: Browser, width: int) -> list[str]:
    """Return the elements that reach beyond the window, except those that scroll in their own box."""
    return browser.run(
        f"""[...document.body.querySelectorAll("*")]
            .filter((element) => element.getBoundingClientRect().right > {width} + 0.5)
            .filter((element) => !element.parentElement.closest(".scroll, .wide"))
            .map((element) => element.outerHTML.slice(0, 80))"""
    )


@pytest.mark.parametrize("width", [320, PHONE, 768, DESK])
def test_the_page_is_never_wider_than_the_window(browser, page, width):
    browser.open(page, width=width)
    browser.run("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert _too_wide(browser, width) == []


def test_a_wide_table_scrolls_in_its_own_box(phone):
    box = "document.querySelector('#ranking .scroll')"
    assert phone.run(f"{box}.scrollWidth > {box}.clientWidth && {box}.clientWidth < {PHONE}")
    phone.run(f"{box}.scrollLeft = 200")
    assert phone.run(f"{box}.scrollLeft") == 200
    # The names stay in view beside whatever is scrolled to.
    assert phone.run(f"{box}.querySelector('td').getBoundingClientRect().left >= 0")


def test_plots_are_as_wide_as_the_phone_can_show(phone):
    widths = phone.run("[...document.querySelectorAll('figure:not(.wide) img')].map((image) => image.clientWidth)")
    assert widths
    assert all(250 < width <= PHONE for width in widths)


def test_words_are_large_enough_to_read(phone):
    sizes = phone.run(
        "[...document.querySelectorAll('p, td, th button, li, dd, dt, pre, small, summary')]"
        ".map((element) => parseFloat(getComputedStyle(element).fontSize))"
    )
    assert min(sizes) >= 11
