"""The page of `heads report` in a real browser: it renders by itself, its tables sort, and it fits a phone."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser
from report_runs import write_run, write_runs
from synthetic import write_synthetic

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine; on Debian: apt-get install chromium"
)

EVIL = '<img src=x onerror="window.harmed=1"><script>window.harmed=1<'
LONG = {"num_epochs": 19, "epochs": 19, "patience": 19}
PHONE, DESK, WALL = 390, 1280, 1920


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A report of runs, one with a name as long as a sweep's and one whose name is HTML with a script."""
    folder = tmp_path_factory.mktemp("report")
    dataset = write_synthetic(folder / "made", train=90, validation=80)
    runs = write_runs(folder / "runs", dataset)
    write_run(runs, EVIL, dataset, head="mean_pool", seed=0, right=0.2)
    write_run(runs, "loss-focal.gamma.1_" * 6, dataset, head="mean_pool", seed=0, right=0.2)
    write_run(
        runs, "head-multiscale_lstm.hidden.64_lr-3e-3_weight-decay-1e-5", dataset, head="tcn", seed=0, right=0.9, **LONG
    )
    program = Path(sys.executable).with_name("heads")
    process = subprocess.run([program, "report"], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    return folder / "report.html"


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
            .filter((element) => !element.parentElement.closest(".scroll"))
            .map((element) => element.outerHTML.slice(0, 80))"""
    )


@pytest.mark.parametrize("width", [320, PHONE, 768, DESK, WALL])
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
    widths = phone.run("[...document.querySelectorAll('figure > img')].map((image) => image.clientWidth)")
    assert widths
    assert all(250 < width <= PHONE for width in widths)


def test_words_are_large_enough_to_read(phone):
    sizes = phone.run(
        "[...document.querySelectorAll('p, td, th button, li, dd, dt, pre, small, summary')]"
        ".map((element) => parseFloat(getComputedStyle(element).fontSize))"
    )
    assert min(sizes) >= 11


# ---- nothing is cut or broken without a sign


@pytest.mark.parametrize("width", [PHONE, DESK, WALL])
def test_what_scrolls_sideways_shows_that_it_does(browser, page, width):
    browser.open(page, width=width)
    browser.run("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    browser.run("new Promise((resolve) => setTimeout(resolve, 100))")
    boxes = browser.run(
        """[...document.querySelectorAll(".scroll")].map((box) => [
            box.scrollWidth > box.clientWidth + 1,
            box.parentElement.classList.contains("right"),
            box.parentElement.nextElementSibling.offsetHeight > 0,
            box.scrollHeight > box.clientHeight + 1,
            box.parentElement.classList.contains("below")])"""
    )
    assert all(scrolls == is_marked == says_so for scrolls, is_marked, says_so, _, _ in boxes)
    assert all(scrolls == is_marked for _, _, _, scrolls, is_marked in boxes)
    assert len(boxes) > 10
    assert any(scrolls for scrolls, *_ in boxes) or width == WALL


def test_the_sign_goes_where_the_end_is_reached(phone):
    box = "document.querySelector('#ranking .scroll')"
    phone.run(f"{box}.scrollLeft = 1e6")
    phone.run("new Promise((resolve) => setTimeout(resolve, 100))")
    assert phone.run(f"{box}.parentElement.classList.contains('right')") is False


@pytest.mark.parametrize("width", [PHONE, DESK, WALL])
def test_no_line_breaks_inside_a_number_or_an_option(browser, page, width):
    browser.open(page, width=width)
    browser.run("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    found = browser.run(
        r"""(() => {
            const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            while (walker.nextNode()) {
                const node = walker.currentNode;
                if (node.parentElement.closest("script, style, .notes")) continue;
                for (const match of node.data.matchAll(/\d[\d.]*(e-?\d+)?|--[a-z][a-z-]*/g)) {
                    const range = document.createRange();
                    range.setStart(node, match.index);
                    range.setEnd(node, match.index + match[0].length);
                    found.push([match[0], new Set([...range.getClientRects()].map((box) => box.top)).size]);
                }
            }
            return found;
        })()"""
    )
    assert {"3e-3", "1e-5", "--features", "--annotations"} <= {text for text, _ in found}
    assert [text for text, num_lines in found if num_lines > 1] == []


@pytest.fixture(scope="module")
def svgs(page) -> dict[str, str]:
    """What each plot says in words -> its SVG."""
    images = re.findall(r'<img src="data:image/svg\+xml;base64,([^"]*)" alt="([^"]*)">', page.read_text())
    return {alt: base64.b64decode(data).decode() for data, alt in images}


def test_no_text_of_a_plot_is_clipped(browser, svgs, tmp_path):
    inline = "".join(svg[svg.index("<svg") :] for svg in svgs.values())
    (tmp_path / "plots.html").write_text(f'<!DOCTYPE html><meta charset="utf-8"><body>{inline}</body>')
    browser.open(tmp_path / "plots.html", width=WALL)
    texts, clipped = browser.run(
        """(() => {
            const texts = [...document.querySelectorAll("svg g[id^=text_]")];
            const clipped = texts.filter((text) => {
                const [inner, outer] = [text, text.ownerSVGElement].map((element) => element.getBoundingClientRect());
                return inner.left < outer.left - 0.5 || inner.right > outer.right + 0.5 ||
                    inner.top < outer.top - 0.5 || inner.bottom > outer.bottom + 0.5;
            });
            return [texts.length, clipped.map((text) => text.innerHTML.slice(0, 60))];
        })()"""
    )
    assert texts > 100
    assert clipped == []


def _ticks(svg: str, axis: str) -> list[str]:
    return re.findall(rf'<g id="{axis}tick_\d+">.*?<g id="text_\d+">\s*<!-- (.*?) -->', svg, flags=re.DOTALL)


def test_epochs_and_members_are_counted_in_whole_numbers(svgs):
    counted = [svg for alt, svg in svgs.items() if " by epoch, " in alt or "by their size" in alt]
    assert len(counted) == 4
    for svg in counted:
        assert len(_ticks(svg, "x")) >= 2
        assert all(re.fullmatch(r"\d+", tick) for tick in _ticks(svg, "x"))


def test_every_axis_of_accuracies_begins_at_0(svgs):
    horizontal = ("Action top-1 in percent with intervals", "Mean action", "Action top-1 in percent by participant")
    vertical = ("action@1, % by epoch", "Top-1 in percent by how often", "Action top-1 in percent by segment")
    axes = {alt: _ticks(svg, "x") for alt, svg in svgs.items() if alt.startswith(horizontal)}
    axes |= {alt: _ticks(svg, "y") for alt, svg in svgs.items() if alt.startswith((*vertical, "Reliability"))}
    assert len(axes) >= 10
    assert {ticks[0] for ticks in axes.values()} == {"0"}


def test_the_curves_share_one_legend_with_whole_names(desk):
    legends = desk.run(
        "[...document.querySelectorAll('#curves .legend')].map((list) => [...list.children].map((key) => "
        "key.textContent))"
    )
    assert len(legends) == 1
    assert "head-multiscale_lstm.hidden.64_lr-3e-3_weight-decay-1e-5" in legends[0]
    assert desk.run("document.querySelectorAll('#curves figure').length") == 3


def test_no_plot_leaves_half_of_a_desk_empty(desk):
    """Something is to the left or to the right of each plot."""
    alone = desk.run(
        """[...document.querySelectorAll("section")].flatMap((section) => {
            const box = (part) => part.getBoundingClientRect();
            const boxes = [...section.querySelectorAll("figure, .table, p")].map(box);
            return [...section.querySelectorAll("figure")].filter((figure) => {
                const plot = box(figure);
                return !boxes.some((box) => box.top < plot.bottom && box.bottom > plot.top &&
                    (box.left >= plot.right || box.right <= plot.left));
            }).map((figure) => `${section.id}: ${figure.innerHTML.slice(-120)}`);
        })"""
    )
    assert desk.run("document.querySelectorAll('figure').length") > 10
    assert alone == []
