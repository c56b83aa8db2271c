"""A sweep that is written down: the same as if it had been typed, and what is wrong in it is named with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from features.errors import DataError, OptionError
from heads.sweep.options_file import read_options_file

KNOWN = {"seeds": False, "features": True, "batch_size": False, "separate": False}


@pytest.fixture
def spec(tmp_path):
    def read(text: str | bytes):
        path = tmp_path / "sweep.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_options_file(path, KNOWN)

    return read


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("1e-4", "1e-4"),
        ("1.0e-4", "1.0e-4"),
        ("3", "3"),
        ("0123", "0123"),
        ("1_000", "1_000"),
        ("true", "true"),
        ("True", "true"),
        ("on", "on"),
        ("2026-01-01", "2026-01-01"),
        ("12:30", "12:30"),
        ("focal:gamma=1", "focal:gamma=1"),
        ("'null'", "null"),
        (".5", ".5"),
    ],
)
def test_a_value_is_its_text(text, word, spec):
    file_options = spec(f"grid: {{lr: [{text}]}}\nseeds: {text}\nfeatures: [a, {text}]\n")
    assert file_options.grid == (f"lr={word}",)
    assert file_options.options == {"seeds": word, "features": ("a", word)}


def test_dashes_and_single_values_are_taken_as_on_the_command_line(spec):
    file_options = spec("batch-size: 8\nfeatures: a\ngrid:\n  batch-size: 8,16\n")
    assert file_options.options == {"batch_size": "8", "features": ("a",)}
    assert file_options.grid == ("batch_size=8,16",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: 0\nseed: 1\n", "sweep.yaml, line 2: no option 'seed'; did you mean 'seeds'?"),
        ("seeds: 0\n\nseeds: 1\n", "sweep.yaml, line 3: seeds is given twice"),
        ("batch-size: 1\nbatch_size: 2\n", "sweep.yaml, line 2: batch_size is given twice"),
        ("grid: {lr: [1], lr: [2]}\n", "sweep.yaml, line 1: lr is given twice"),
        ("seeds: [0, 1]\n", "sweep.yaml, line 1: seeds is a list, not a single value"),
        ("seeds: {a: 1}\n", "sweep.yaml, line 1: seeds is a mapping, not a single value"),
        ("features: [[a]]\n", "sweep.yaml, line 1: features is a list, not a single value"),
        ("seeds:\n", "sweep.yaml, line 1: seeds has no value"),
        ("seeds: ~\n", "sweep.yaml, line 1: seeds has no value"),
        ("features: [a, null]\n", "sweep.yaml, line 1: features has no value"),
        ("grid: [lr]\n", "sweep.yaml, line 1: grid is not a mapping of settings to lists"),
        ("grid:\n  lr: {a: 1}\n", "sweep.yaml, line 2: lr is a mapping, not a single value"),
        ("[a]: 1\n", "sweep.yaml, line 1: a key is a list, not a single value"),
        ("", "sweep.yaml: not a mapping of options"),
        ("- a\n", "sweep.yaml: not a mapping of options"),
        ("just words\n", "sweep.yaml: not a mapping of options"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(text, message, spec):
    with pytest.raises(OptionError) as error:
        spec(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "seeds: [0\n",
        "a: b: c\n",
        "\tseeds: 0\n",
        b"seeds: \xff\xfe\n",
        b"\x00\x01",
        "a: 1\n---\nb: 2\n",
        "features: &a [*a]\n",
        "[" * 5000,
    ],
    ids=["open", "colons", "tab", "latin", "binary", "two", "recursive", "deep"],
)
def test_a_file_that_is_not_yaml_is_refused_in_one_line(text, spec):
    with pytest.raises(DataError, match=r"sweep\.yaml: not a YAML file") as error:
        spec(text)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.yaml: cannot be read: No such file"):
        read_options_file(tmp_path / "none.yaml", KNOWN)


def test_a_tag_of_python_makes_no_object(spec, tmp_path):
    with pytest.raises(OptionError, match="seeds is a list"):
        spec(f"seeds: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    assert not (tmp_path / "made").exists()


# ---- by the command line


@pytest.fixture
def sweep(heads, synthetic, tmp_path):
    """Write a file and say what a sweep with it would do."""

    def run(text: str, *options: object):
        (tmp_path / "sweep.yaml").write_text(f"annotations: {synthetic.annotations}\n{text}")
        return heads("sweep", "sweep.yaml", *options)

    return run


def _runs(result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [line.split()[0] for line in result.stdout.splitlines()[1:]]


GRID = "grid:\n  loss: [ce, focal]\n  lr: [1e-4]\n"


def test_a_file_trains_what_the_command_line_would(heads, synthetic, tmp_path):
    (tmp_path / "sweep.yml").write_text(
        f"{GRID}  separate: [true, False]\n"
        f"annotations: {synthetic.annotations}\nfeatures: [{synthetic.featureset}]\n"
        "head: mean_pool\nepochs: 2\nbatch-size: 8\ndevice: cpu\n"
        "name: file\nseeds: 0-1\nsamples: 3\nallow_missing: yes\n"
    )
    assert heads("sweep", "sweep.yml").exit_code == 0
    paths = ("--annotations", synthetic.annotations, "--features", synthetic.featureset)
    size = (
        "--head",
        "mean_pool",
        "--epochs",
        2,
        "--batch-size",
        8,
        "--device",
        "cpu",
        "--seeds",
        "0-1",
        "--samples",
        3,
    )
    grid = ("--grid", "loss=ce,focal", "lr=1e-4", "separate=true,false")
    assert heads("sweep", *grid, *size, *paths, "--name", "typed").exit_code == 0
    metrics = {path.parent.name: path.read_bytes() for path in (tmp_path / "runs" / "file").glob("*/metrics.csv")}
    assert metrics == {
        path.parent.name: path.read_bytes() for path in (tmp_path / "runs" / "typed").glob("*/metrics.csv")
    }
    assert len(metrics) == 6


def test_what_is_typed_wins_over_the_file(sweep):
    assert "in other/sweep" in sweep(f"{GRID}runs: there\n", "--runs", "other", "--dry-run").stderr
    assert len(_runs(sweep(f"{GRID}seeds: 0-4\n", "--seeds", "7", "--dry-run"))) == 2


def test_the_file_wins_over_the_environment(sweep, monkeypatch):
    monkeypatch.setenv("EPIC_RUNS", "environment")
    assert "in there/sweep" in sweep(f"{GRID}runs: there\n", "--dry-run").stderr
    assert "in environment/sweep" in sweep(GRID, "--dry-run").stderr


def test_settings_that_are_typed_replace_those_of_the_file_in_their_place_and_add_to_them(sweep):
    assert _runs(sweep(GRID, "loss=cb", "epochs=2,3", "--dry-run")) == [
        "loss-cb_lr-1e-4_epochs-2-seed0",
        "loss-cb_lr-1e-4_epochs-3-seed0",
    ]


def test_a_switch_of_the_file_is_one(sweep):
    assert "compared after" in sweep(f"{GRID}halving: true\n", "--dry-run").stderr
    assert "compared after" not in sweep(f"{GRID}halving: false\n", "--dry-run").stderr


@pytest.mark.parametrize(
    ("text", "options", "code", "message"),
    [
        ("epoch: 3\n", (), 2, "sweep.yaml, line 5: no option 'epoch'; did you mean 'epochs'?"),
        ("epochs: many\n", (), 2, "sweep.yaml, line 5: --epochs: 'many' is not a valid integer"),
        ("halving: perhaps\n", (), 2, "sweep.yaml, line 5: --halving: 'perhaps' is not a valid boolean"),
        ("seeds: some\n", (), 2, "sweep.yaml, line 5: --seeds: 'some' is not a list of seeds"),
        ("lr-scale: [classifier]\n", (), 2, "sweep.yaml, line 5: --lr-scale: 'classifier' is not NAME=FACTOR"),
        ("head: bilstn\n", (), 2, "sweep.yaml, line 5: --head: no head 'bilstn'; did you mean 'bilstm'?"),
        ("epochs: 1\nhalving: true\n", (), 2, "sweep.yaml, line 6: --halving: runs of 1 epoch"),
        ("seeds: 1\nseeds: 2\n", (), 2, "sweep.yaml, line 6: seeds is given twice"),
        ("seeds: 0\n", ("--seeds", "some"), 2, "Error: --seeds: 'some' is not a list"),
        ("seeds: 0\n", ("los=ce",), 2, "Error: --grid: no setting 'los'"),
        ("seeds: [0\n", (), 1, "sweep.yaml: not a YAML file"),
        ("seeds: 0\n", ("other.yaml",), 2, "one file of options at a time, not sweep.yaml, other.yaml"),
        ("help: true\n", (), 2, "no option 'help'"),
    ],
)
def test_an_error_names_the_file_where_it_is_the_files(text, options, code, message, sweep):
    result = sweep(f"{GRID}{text}", *options, "--dry-run")
    assert message in result.stderr
    assert result.exit_code == code


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("{los: [ce]}", "--grid: no setting 'los'; did you mean 'loss'?"),
        ("{lr: [fast]}", "--grid: lr is 'fast', not a number"),
        ("{lr: []}", "--grid: 'lr=' is not NAME=VALUE"),
        ("{lr: [1, 1]}", "names a setting or a value twice"),
        ("{head: [bilstn]}", "--grid: no head 'bilstn'"),
        ("{}", "--grid: nothing to vary"),
    ],
)
def test_a_grid_of_the_file_that_cannot_be_meant_is_refused(grid, message, sweep):
    result = sweep(f"grid: {grid}\n", "--dry-run")
    assert message in result.stderr.partition("sweep.yaml, line 2: ")[2]
    assert result.exit_code == 2


def test_a_file_without_a_grid_needs_one_that_is_typed(sweep):
    assert "--grid: nothing to vary" in sweep("seeds: 0\n", "--dry-run").stderr
    assert len(_runs(sweep("seeds: 0\n", "lr=1,2", "--dry-run"))) == 2


def test_the_example_of_the_guide_is_one(heads, synthetic, tmp_path):
    guide = (Path(__file__).resolve().parents[3] / "docs" / "heads.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^    # sweep\.yaml\n(?:    .*\n)+", guide, flags=re.MULTILINE)
    (tmp_path / "sweep.yaml").write_text(example.replace("\n    ", "\n").lstrip())
    result = heads(
        "sweep", "sweep.yaml", "lr=1e-3", "clip_grad=0,1", "--annotations", synthetic.annotations, "--dry-run"
    )
    assert len(_runs(result)) == 2 * 1 * 2 * 2 * 3


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        ("clip: 2\ngrid:\n  lr: [1]\n", (), 2.0),
        ("clip: 2\ngrid:\n  lr: [1]\n", ("--clip-grad", 3), 3.0),
        ("clip_grad: 2\ngrid:\n  lr: [1]\n", ("--clip", 3), 3.0),
        ("clip_grad: 2\ngrid:\n  clip: [3]\n", (), 3.0),
    ],
)
def test_the_old_name_of_a_setting_works_with_a_note(text, arguments, expected, sweep, monkeypatch):
    variants = []
    monkeypatch.setattr("heads.sweep.table.describe_sweep", lambda plan: variants.extend(plan.variants) or [])
    result = sweep(text, "--dry-run", *arguments)
    assert (result.exit_code, [variant.config.optimisation.clip_grad for variant in variants]) == (0, [expected])
    assert "--clip is called --clip-grad now" in result.stderr


def test_a_grid_with_the_old_and_the_new_name_of_a_setting_is_refused(sweep):
    result = sweep("grid:\n  clip: [1]\n", "--grid", "clip=1", "--grid", "clip_grad=2", "--dry-run")
    assert "'clip_grad=2' names a setting or a value twice" in result.stderr
