"""What README, docs and CONTRIBUTING name is there: paths, functions, links, and tables that equal the registries."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from extract import backbones
from extract.backbones.table import clip_text
from extract.backbones.tokens import choose_tokens
from extract.videos import ENDINGS
from features.formats.registry import FORMATS
from heads.losses.catalogue import describe_losses
from heads.models.catalogue import describe_heads

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "recipes/README.md")]
PAGES += sorted(ROOT.glob("docs/*.md"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
_FENCED = re.compile(r"^```.*?^```$", flags=re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^    .*$", flags=re.MULTILINE)
_PACKAGES = "extract|features|heads|live"
_FOLDERS = "extract|features|heads|jobs|live|recipes|tests|docs|benchmarks|examples"


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def words_of(text: str) -> list[str]:
    """Return the words that are read as text: without code blocks, tables and the addresses of links."""
    text = _INDENTED.sub("", _FENCED.sub("", text))
    text = "\n".join(line for line in text.splitlines() if not line.startswith("|"))
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return [word for word in text.split() if re.search(r"\w", word)]


def paths_in(text: str) -> set[str]:
    """Return the paths of the repository that stand in backquotes."""
    return set(re.findall(rf"`((?:{_FOLDERS})/[\w./-]*)`", text))


def tree_in(text: str) -> Iterator[str]:
    """Yield the paths of indented trees of folders: `name/  other/   what they are`, deeper by two blanks per level."""
    folders: list[tuple[int, str]] = []
    for line in _INDENTED.findall(text):
        names = []
        for part in re.split(r"\s{2,}", line.strip()):
            if not re.fullmatch(r"[\w.-]+(/|\.\w+)", part):
                break
            names.append(part)
        if not names:
            continue
        depth = len(line) - len(line.lstrip())
        folders = [(indent, folder) for indent, folder in folders if indent < depth]
        parent = folders[-1][1] if folders else ""
        yield from (parent + name for name in names)
        folders.append((depth, parent + names[0]))


def names_in(text: str) -> set[str]:
    """Return the dotted names of functions, classes and methods that stand in backquotes."""
    return set(re.findall(rf"`((?:{_PACKAGES})(?:\.\w+)+)`", text))


def resolve(name: str) -> object:
    """Return what a dotted name stands for: the longest module that can be imported, then its attributes."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        try:
            value = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            continue
        for part in parts[length:]:
            value = getattr(value, part)
        return value
    raise ModuleNotFoundError(name)


def test_readme_has_at_most_900_words():
    assert len(words_of(README)) <= 900


def test_words_are_those_outside_code_and_tables():
    text = "Two words\n\n    make demo\n\n```python\nimport heads\n```\n\n| a | table |\n[A link](docs/x.md) - end.\n"
    assert words_of(text) == ["Two", "words", "[A", "link]", "end."]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_that_a_page_names_exist(page):
    assert [path for path in sorted(paths_in(page.read_text(encoding="utf-8"))) if not (ROOT / path).exists()] == []


def test_paths_of_the_tree_of_the_readme_exist():
    tree = list(tree_in(README))
    assert len(tree) >= 12
    assert [path for path in tree if not (ROOT / path).exists()] == []


def test_a_tree_is_read_with_its_folders():
    text = "    heads/          stage 2\n      data/         batches\n      a/  b.py      both\n    jobs/\n"
    assert list(tree_in(text)) == ["heads/", "heads/data/", "heads/a/", "heads/b.py", "jobs/"]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_functions_that_a_page_names_exist(page):
    for name in sorted(names_in(page.read_text(encoding="utf-8"))):
        resolve(name)


def test_the_walk_names_functions():
    assert len(names_in(_text("docs/structure.md"))) > 30
    with pytest.raises(AttributeError):
        resolve("features.annotations.no_such_function")


@pytest.mark.parametrize("package", ["features", "extract", "heads", "live"])
def test_the_map_shows_every_module_and_folder(package):
    page = _text("docs/structure.md")
    modules = {path for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    named_paths = {path.rstrip("/") for path in paths_in(page)}
    missing = {path.relative_to(ROOT).as_posix() for path in modules if path.name != "__init__.py"} - named_paths
    assert missing == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_into_the_repository_resolve(page):
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target.read_text(encoding="utf-8")), link


def anchors_of(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", _FENCED.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_recommended_backbones_are_as_the_registry_says():
    form = r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| (\d+) \| (\d+) \| ([\d,.]+) \|$"
    rows = re.findall(form, README, flags=re.MULTILINE)
    assert len(rows) == 8
    for name, pretraining, clip, num_steps, dim, gflops in rows:
        entry = backbones.get(name)
        shape = entry.clip
        expected = clip_text(shape.num_frames, shape.fps, spread=shape.spread)
        assert (pretraining, clip) == (entry.pretraining, expected)
        num_cells = len(choose_tokens(None, None, entry).cells)
        assert (int(num_steps), int(dim)) == (shape.num_steps, entry.dim * num_cells)
        assert float(gflops.replace(",", "")) == entry.gflops


def test_readme_counts_the_backbones():
    assert f"out of the {len(backbones.names())} in" in README


def test_readme_names_every_head_and_loss():
    lists = re.findall(r"\*\*(Heads|Losses)\.\*\* ((?:`\w+`,?\s)+)", README)
    assert {kind: re.findall(r"\w+", names) for kind, names in lists}.keys() == {"Heads", "Losses"}
    registry_names = {
        "Heads": {head.name for head in describe_heads()},
        "Losses": {loss.name for loss in describe_losses()},
    }
    for kind, names in lists:
        assert set(re.findall(r"\w+", names)) == registry_names[kind]


def test_table_of_heads_is_that_of_the_registry():
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| `([^`]+)` \|$", _text("docs/heads.md"), flags=re.MULTILINE)
    expected = {
        head.name: " ".join(f"{key}={value}" for key, value in head.options.items()) for head in describe_heads()
    }
    assert dict(rows) == expected


def test_table_of_losses_names_every_loss():
    table = _text("docs/heads.md").partition("| loss | what it is |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)", table, flags=re.MULTILINE)) == {loss.name for loss in describe_losses()}


def test_endings_of_videos_are_those_that_are_looked_for():
    [row] = re.findall(r"^\| a file \|.*$", _text("docs/extract.md"), flags=re.MULTILINE)
    assert tuple(re.findall(r"`(\.\w+)`", row)) == ENDINGS


def test_the_page_on_feature_sets_names_every_format():
    table = _text("docs/features.md").partition("| publication |")[2].partition("\n\n")[0]
    assert [name for name in FORMATS if f"`{name}`" not in table] == []


def test_times_of_starting_are_those_that_were_measured_and_under_half_a_second():
    seconds = json.loads(_text("benchmarks/results/start.json"))["seconds"]
    section = _text("docs/performance.md").partition("## Starting")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(.*?)` \| ([\d.]+) \|", section, flags=re.MULTILINE)
    assert {"heads list", "extract backbones"} <= {command for command, _ in rows}
    for command, taken in rows:
        assert float(taken) == round(seconds[command], 2) < 0.5


def test_costs_of_training_are_those_that_were_measured():
    records = json.loads(_text("benchmarks/results/heads.json"))["heads"]
    rows = re.findall(r"^\| `(\w+)` \| ([\d,.]+) \| ([\d.]+) % \|", _text("docs/performance.md"), flags=re.MULTILINE)
    assert rows
    for name, epoch_s, share in rows:
        record = records[f"{name} on cpu"]
        assert float(epoch_s.replace(",", "")) == round(record["epoch_s"], 1)
        assert float(share) == round(100 * (1 - record["in_place_s"] / record["epoch_s"]), 1)


def test_delays_of_a_camera_are_those_that_were_measured_and_under_half_a_second():
    record = json.loads(_text("benchmarks/results/watch.json"))
    (row,) = re.findall(
        r"^\| `tiny_cnn` \| (\d+) \| (\d+) \| (\d+) \| ([\d,]+) of ([\d,]+) \|$", _text("docs/watch.md"), re.M
    )
    names = ("median_delay_ms", "delay_ms_95_percent", "longest_delay_ms", "dropped", "pictures")
    assert [int(figure.replace(",", "")) for figure in row] == [round(record[name]) for name in names]
    assert record["longest_delay_ms"] < 500
