"""Recipes: each runs end to end on the miniature from its own file; what is wrong in one is said before it runs."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import pytest
from cluster import ROOT, Cluster, needs_slurm, running_slurm
from published_features import write_mtcn
from shell import output_here

import extract.cli
import features.cli
import heads.cli
from extract.backbones import get
from extract.sampling import choose_clip, choose_sampling, frames_per_segment
from features.annotations import read_all_segments
from features.files import read_json
from heads.sweep.grid import make_variants

sys.path.insert(0, str(ROOT / "jobs"))  # scripts, and no package
from recipe import Places, Step, available, run_here, steps_of, submission
from recipe_file import Recipe, RecipeError, read_recipe, recipe_names

PROGRAMS: dict[str, click.Group] = {
    "extract": extract.cli.main,
    "features": features.cli.main,
    "heads": heads.cli.main,
}
NAMES = recipe_names()
# One with extraction and one with imports; the others are the same steps with other words.
_QUICK = ("probe", "mtcn")


def small(name: str) -> Recipe:
    return read_recipe(name, [ROOT / "recipes" / "miniature" / f"{name}.yaml"])


@pytest.fixture(scope="module")
def places(tmp_path_factory, miniature) -> Places:
    """The miniature with MTCN's files and boxes of hands for it; feature sets are shared by all recipes."""
    folder = tmp_path_factory.mktemp("recipes")
    segments = read_all_segments([miniature.annotations])
    write_mtcn(folder / "downloads" / "mtcn" / "audiovisual_slowfast_features.hdf5", list(segments.narration_id), dim=8)
    boxes = folder / "downloads" / "EPIC-KITCHENS"
    boxes.mkdir()
    for video_id in set(segments.table.video_id):
        rows = [f"{video_id},{second},hand,right,0.9,0.3,0.3,0.7,0.7" for second in range(20)]
        text = "\n".join(["video,second,kind,side,score,left,top,right,bottom", *rows])
        (boxes / f"{video_id}.csv").write_text(text, encoding="utf-8")
    return Places(
        bin=str(Path(sys.executable).parent),
        annotations=str(miniature.annotations),
        videos=str(miniature.videos),
        features=str(folder / "features"),
        runs=str(folder / "runs"),
        downloads=str(folder / "downloads"),
        weights=None,
        device="cpu",
    )


def do(step: Step) -> str:
    """Run a step in this process, where it is no shell's; return what it printed."""
    words = list(step.words)
    if words[0] == "bash":
        words = [path for word in shlex.split(words[2]) for path in (glob(word) if "*" in word else [word])]
    return output_here(PROGRAMS[Path(words[0]).name], *words[1:])


def glob(pattern: str) -> list[str]:
    return sorted(map(str, Path("/").glob(pattern.removeprefix("/"))))


@pytest.fixture(scope="module")
def finished(places) -> Callable[[str], Recipe]:
    """Do a recipe, once; return what of it could be done."""
    recipes: dict[str, Recipe] = {}

    def do_recipe(name: str) -> Recipe:
        if name not in recipes:
            recipe, lines = available(small(name), places)
            assert lines == []
            for step in steps_of(recipe, places):
                do(step)
            recipes[name] = recipe
        return recipes[name]

    return do_recipe


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in _QUICK else [pytest.mark.slow]) for name in NAMES]
)
def test_recipe_runs_end_to_end_from_its_own_file(name, places, finished):
    recipe = finished(name)
    runs = Path(places.runs, name)
    assert "ensemble" in (runs / "report.html").read_text(encoding="utf-8")
    members = read_json(runs / "ensemble" / "config.json")["members"]
    assert {Path(member).relative_to(runs).parts[0] for member in members} == {sweep.name for sweep in recipe.sweeps}
    assert (runs / "ensemble" / "test_predictions.pt").is_file()


def test_recipe_that_is_done_again_keeps_what_is_finished(places, finished):
    recipe = finished("probe")
    files = [*Path(places.features).rglob("*.h5"), *Path(places.runs, "probe").rglob("last.pth")]
    times = {path: path.stat().st_mtime_ns for path in files}
    assert len(times) > 7
    for step in steps_of(recipe, places):
        do(step)
    assert {path: path.stat().st_mtime_ns for path in files} == times


def test_probes_are_trained_in_one_pass_without_warm_up_and_joined_over_their_last_epochs(places):
    (sweep,) = read_recipe("probe").sweeps
    assert {key: sweep.options[key] for key in ("together", "warmup-epochs", "loss")} == {
        "together": "20",
        "warmup-epochs": "0",
        "loss": "sigmoid_focal",
    }
    settings = {"head": "probe", "warmup_epochs": 0, "epochs": 20}
    variants = make_variants(sweep.grid, settings, [0])
    assert len(variants) == 20
    lrs = [variant.config.optimisation.schedule.lr_at(0) for variant in variants]
    assert sorted(set(lrs)) == [1e-4, 3e-4, 1e-3, 3e-3, 5e-3]  # full from the first step on


@pytest.mark.parametrize("name", NAMES)
def test_recipe_as_it_is_published_is_one_that_the_commands_take(name, places):
    """Of sweeps by their own dry run; of extraction by the share of a task, which needs no weights."""
    for step in steps_of(read_recipe(name), places):
        if step.name.startswith("check-"):
            assert " runs in " in output_here_with_stderr(step)
        if step.kind == "extract":
            output_here(PROGRAMS["extract"], *step.words[1:], "--dry-run", "--shard", "0/1")


def output_here_with_stderr(step: Step) -> str:
    from click.testing import CliRunner

    result = CliRunner().invoke(PROGRAMS["heads"], list(step.words[1:]))
    assert result.exit_code == 0, result.output
    return result.output


# ---- make recipe


def make(places: Places, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "EPIC_ANNOTATIONS": places.annotations,
        "EPIC_VIDEOS": places.videos,
        "EPIC_FEATURES": places.features,
        "EPIC_RUNS": places.runs,
        "EPIC_DOWNLOADS": places.downloads,
        "DEVICE": "cpu",
    }
    command = ["make", "-s", "-C", str(ROOT), f"VENV={sys.prefix}", "recipe", *words]
    return subprocess.run(
        command, env={**os.environ, **environment, **variables}, capture_output=True, text=True, check=False
    )


def commands_in(output: str) -> list[list[str]]:
    return [shlex.split(line[2:]) for line in output.splitlines() if line.startswith("$ ")]


@pytest.fixture
def programs(tmp_path) -> str:
    """An environment whose programs print their own words, but for `heads report`, which fails; return its folder."""
    folder = tmp_path / "programs"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    for name in PROGRAMS:
        (folder / "bin" / name).write_text('#!/bin/bash\necho "did $1"\n[[ $1 != report ]] || exit 7\n')
        (folder / "bin" / name).chmod(0o755)
    (folder / "installed").touch()
    return str(folder)


def test_make_recipe_prints_each_command_before_it_runs_it_and_stops_where_one_fails(places, programs):
    words = (f"VENV={programs}", "NAME=tim", f"OVERRIDES={ROOT}/recipes/miniature/tim.yaml")
    planned = make(places, *words, LOCAL="1", DRY_RUN="1")
    process = make(places, *words, LOCAL="1")
    assert (planned.returncode, process.returncode) == (0, 2)
    assert commands_in(process.stdout) == commands_in(planned.stdout)
    lines = [line for line in process.stdout.splitlines() if line]
    kinds = ["sweep", "run", "verify", "run", "verify", "import", "verify", "sweep", "ensemble"]
    assert lines[2::2] == [f"did {kind}" for kind in [*kinds, "report"]]
    assert all(line.startswith(f"$ {programs}/bin/") for line in lines[1::2])
    assert "report: failed with exit code 7" in process.stderr
    assert "To submit" not in process.stdout


def test_first_step_that_fails_ends_the_recipe_with_its_exit_code(capfd, tmp_path):
    steps = [
        Step("first", ("bash", "-c", "echo one"), "here"),
        Step("second", ("bash", "-c", "exit 7"), "here"),
        Step("third", ("touch", str(tmp_path / "third")), "here"),
    ]
    assert run_here(steps) == 7
    output, errors = capfd.readouterr()
    assert output == "\n$ bash -c 'echo one'\none\n\n$ bash -c 'exit 7'\n"
    assert "second: failed with exit code 7" in errors
    assert not (tmp_path / "third").exists()
    assert run_here([Step("killed", ("bash", "-c", "kill -9 $$"), "here")]) == 128 + 9


def test_optional_set_that_cannot_be_had_is_left_out_with_a_line(places, tmp_path):
    without = replace(places, downloads=str(tmp_path), features=str(tmp_path))
    recipe, lines = available(small("tim"), without)
    assert lines == [
        f"features.sound: {tmp_path}/mtcn is not there. It is optional, and is left out.",
    ]
    assert [sweep.features for sweep in recipe.sweeps] == [("omnivore", "videomae")]
    assert not any("mtcn" in word for step in steps_of(recipe, without) for word in step.words)
    with pytest.raises(RecipeError, match=r"mtcn: features.visual: .*/mtcn is not there. docs/features.md says where"):
        available(small("mtcn"), without)


def test_crops_of_hands_are_left_out_where_there_are_no_boxes(places, tmp_path):
    words = [word for step in steps_of(small("nouns"), places) for word in step.words]
    assert words[words.index("--boxes") + 1] == f"{places.downloads}/EPIC-KITCHENS"
    without = replace(places, downloads=str(tmp_path), features=str(tmp_path / "features"))
    recipe, lines = available(small("nouns"), without)
    assert lines == [f"features.hands: {tmp_path}/EPIC-KITCHENS is not there. It is optional, and is left out."]
    assert [sweep.features for sweep in recipe.sweeps] == [("siglip", "dino", "pe")]


def test_imported_set_needs_its_source_no_more(places, tmp_path):
    featureset = tmp_path / "features" / "mtcn-audio" / "featureset.json"
    featureset.parent.mkdir(parents=True)
    featureset.write_text("{}")
    without = replace(places, downloads=str(tmp_path), features=str(tmp_path / "features"))
    recipe, (line,) = available(small("tim"), without)
    assert line.endswith("mtcn-audio is used as it is.")
    names = [step.name for step in steps_of(recipe, without)]
    assert "verify-sound" in names
    assert "import-sound" not in names


# ---- on a cluster


def test_each_step_waits_for_those_it_needs(places):
    steps = {step.name: step for step in steps_of(small("baseline"), places)}
    assert steps["sweep-bilstm16"].after == ("verify-frames16",)
    assert steps["ensemble"].after == ("sweep-bilstm16", "sweep-bilstm32")
    assert steps["report"].after == ("ensemble",)
    words = submission(steps["sweep-bilstm16"], ["12"])
    assert words[:5] == ("env", "AFTER=12", "TASKS=1", "bash", str(ROOT / "jobs" / "sweep.sh"))
    assert words[5:] == steps["sweep-bilstm16"].words
    assert submission(steps["ensemble"], ["1", "2"])[:5] == (
        *("env", "AFTER=1:2", "bash", str(ROOT / "jobs" / "run.sh"), "ensemble"),
    )


def test_tasks_of_a_sweep_are_no_more_than_its_runs_and_one_with_halving(places):
    tasks = {name: {s.name: s.tasks for s in steps_of(read_recipe(name), places)} for name in ("baseline", "best")}
    assert tasks["baseline"]["sweep-bilstm16"] == 3
    assert (tasks["best"]["sweep-probe"], tasks["best"]["sweep-context"]) == (2, 4)
    probe = {step.name: step.tasks for step in steps_of(read_recipe("probe"), places)}
    assert probe["sweep-probe"] == 1


@pytest.fixture
def scripts(tmp_path) -> dict[str, str]:
    """Stand-ins of sbatch and scancel, which note their words; the job that REFUSED names is not taken."""
    calls = tmp_path / "calls"
    calls.touch()
    (tmp_path / "bin").mkdir()
    note = f'#!/bin/bash\nprintf \'%q \' "$(basename $0)" "$@" >>{calls}\necho >>{calls}\nnumber=$(wc -l <{calls})\n'
    for name, script in {
        "sbatch": f'{note}[[ $number != "${{REFUSED:-}}" ]] && echo $number\n',
        "scancel": note,
    }.items():
        (tmp_path / "bin" / name).write_text(script)
        (tmp_path / "bin" / name).chmod(0o755)
    return {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "LOGS": str(tmp_path / "logs")}


def calls_in(tmp_path: Path) -> list[list[str]]:
    return [shlex.split(line) for line in (tmp_path / "calls").read_text().splitlines()]


def test_recipe_is_submitted_as_jobs_that_wait_for_one_another(places, programs, scripts, tmp_path):
    overrides = f"OVERRIDES={ROOT}/recipes/miniature/baseline.yaml"
    process = make(places, f"VENV={programs}", "NAME=baseline", overrides, **scripts)
    assert process.returncode == 0, process.stderr
    jobs = calls_in(tmp_path)
    dependencies = [[word for word in words if word.startswith("--dependency")] for words in jobs]
    # extract, verify, extract, verify, two sweeps, ensemble, report
    after = [None, "1", None, "3", "2", "4", "5:6", "7"]
    assert dependencies == [[f"--dependency=afterok:{ids}"] if ids else [] for ids in after]
    names = [next(Path(word).name for word in words if word.endswith(".sbatch")) for words in jobs]
    assert names == ["extract.sbatch", "run.sbatch"] * 2 + ["sweep.sbatch"] * 2 + ["run.sbatch"] * 2
    assert "report 8" in process.stdout


def test_step_that_slurm_refuses_cancels_those_before_it(places, programs, scripts, tmp_path):
    overrides = f"OVERRIDES={ROOT}/recipes/miniature/baseline.yaml"
    process = make(places, f"VENV={programs}", "NAME=baseline", overrides, **scripts, REFUSED="3")
    assert process.returncode != 0
    assert "extract-frames32: failed with exit code" in process.stderr
    assert calls_in(tmp_path)[-1] == ["scancel", "1", "2"]


@needs_slurm
@pytest.mark.slow
def test_recipe_on_a_real_slurm_ends_with_its_report(places, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    with running_slurm(folder, nodes=1) as environment:
        cluster = Cluster(folder, environment)
        variables = {
            **{f"EPIC_{name}": getattr(places, name.lower()) for name in ("ANNOTATIONS", "VIDEOS", "DOWNLOADS")},
            **{"EPIC_FEATURES": folder / "features", "EPIC_RUNS": folder / "runs", "DEVICE": "cpu", "TASKS": 2},
        }
        overrides = f"OVERRIDES={ROOT}/recipes/miniature/baseline.yaml"
        make_recipe = ("make", "-s", "-C", ROOT, f"VENV={sys.prefix}", "recipe", "NAME=baseline", overrides)
        output = cluster.run(*make_recipe, **variables, LOGS=folder / "logs")
        report = re.findall(r"\breport (\d+)", output)[-1]
        assert cluster.finish(report) == {"COMPLETED"}
    assert (folder / "runs" / "baseline" / "report.html").is_file()


# ---- what is wrong in a file

_SWEEP = "sweeps: {s: {features: [a], grid: {lr: [1e-3]}}}"
_SOUND = f"title: t\npublished: none\nfeatures: {{a: {{backbone: b}}}}\n{_SWEEP}\nensemble: {{}}\n"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("", ""),
        (("title: t\n", ""), "title is missing (a recipe has title, published, features, sweeps, ensemble)."),
        (("title", "titel"), "the file has no 'titel'; did you mean 'title'? Known: title, published, features,"),
        (("backbone: b", "bakbone: b"), "features.a has no 'bakbone'; did you mean 'backbone'?"),
        (("backbone: b", "frames: 16"), "features.a.backbone is missing"),
        (("backbone: b", "backbone: b, frames: 1, every: 1"), "features.a has frames and every; keep one of them."),
        (("backbone: b", "import: mtcn"), "features.a.source is missing (the folder or file to import"),
        (("backbone: b", "import: m, source: s, optional: yes"), "features.a.optional is 'yes', neither true nor"),
        (("backbone: b", "backbone: b, regions: hands"), "features.a has one of regions and boxes"),
        (("backbone: b", "backbone: b, optional: true"), "features.a is optional, but needs nothing"),
        (("features: [a]", "features: [c]"), "sweeps.s.features has no 'c'; Known: a."),
        (("features: [a], ", ""), "sweeps.s.features is missing (names of feature sets)."),
        (("grid: {lr: [1e-3]}", "lr: 1e-3"), "sweeps.s.grid is missing"),
        (("[1e-3]}", "[]}"), "sweeps.s.grid.lr is an empty list"),
        (("[1e-3]}", "[1e-3]}, tasks: 0"), "sweeps.s.tasks is '0', not a number of tasks above 0."),
        (("[1e-3]}", "[1e-3]}, seeds: x-y"), "sweeps.s.seeds is 'x-y', not numbers of seeds"),
        (("ensemble: {}", "ensemble: {gredy: true}"), "ensemble has no 'gredy'; did you mean 'greedy'?"),
        (("published: none", "published: {action: 1}"), "published.system is missing (`published: none` says"),
        (("title: t", "title: [t]"), "title is ['t'], not a single value."),
        ((_SWEEP, "sweeps: 3"), "sweeps: is not a mapping"),
        (("title: t", "title: {"), "not a YAML file"),
    ],
)
def test_what_is_wrong_with_a_recipe_names_file_and_field(changed, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(_SOUND.replace(*changed) if changed else _SOUND)
    with pytest.raises(RecipeError) if changed else contextlib.nullcontext() as caught:
        assert read_recipe(str(path)).name == "mine"
    if changed:
        assert str(caught.value).startswith(str(path))
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("backbones: {resnet51: tiny_cnn}", "backbones has no 'resnet51'; did you mean 'resnet50'?"),
        ("sweeps: {bilstm: {epochs: 1}}", "sweeps has no 'bilstm'; did you mean 'bilstm32'?"),
        ("titles: x", "the file has no 'titles'"),
        ("features: {'*': {frame: 1}}", "features.frames16 has no 'frame'; did you mean 'frames'?"),
    ],
)
def test_what_is_wrong_with_overrides_is_said(overrides, message, tmp_path):
    path = tmp_path / "overrides.yaml"
    path.write_text(overrides)
    with pytest.raises(RecipeError, match=re.escape(message)):
        read_recipe("baseline", [path])


def test_overrides_replace_fields_and_delete_them(tmp_path):
    path = tmp_path / "overrides.yaml"
    path.write_text("features: {vjepa: {tokens: ~}}\nsweeps: {'*': {halving: ~, grid: {lr: [1e-3]}}}\n")
    recipe = read_recipe("probe", [path])
    assert recipe.features[0].folder == "vjepa21_large_384-seg32"
    assert "halving" not in recipe.sweeps[0].options
    assert recipe.sweeps[0].grid == {"lr": ("1e-3",), "weight_decay": ("1e-4", "1e-3", "1e-2", "1e-1")}


def test_unknown_recipe_and_missing_files_are_one_line(places, tmp_path):
    process = make(places, "NAME=tam")
    assert process.stderr.startswith(f"Error: NAME: no recipe 'tam'; there are: {', '.join(NAMES)}.\n")
    with pytest.raises(RecipeError, match=r"mine.yaml: cannot be read \(No such file"):
        read_recipe(str(tmp_path / "mine.yaml"))


def test_places_come_from_the_environment():
    assert Places.of({}).downloads == "downloads"
    assert Places.of({"EPIC_WEIGHTS": ""}).weights is None
    places = Places.of({"EPIC_WEIGHTS": "/w", "BIN": "bin"})
    weights, *_, make_set = [step for step in steps_of(read_recipe("baseline"), places) if step.name[0] in "we"][:2]
    assert weights.words == ("bin/extract", "weights", "resnet50", "--dest", "/w")
    assert make_set.words[make_set.words.index("--weights-dir") + 1] == "/w"


# ---- the table of recipes/README.md

PAGE = ROOT / "recipes" / "README.md"
# Of the published annotation files, as `extract plan` counts them: segments, and clips every 0.2 s.
_SEGMENTS, _CLIPS_EVERY = 89_977, {"0.2": 1_800_487}
_ROW = r"^\| `([\w-]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$"


def rows_of_the_page() -> dict[str, list[str]]:
    rows = re.findall(_ROW, PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: [cell.strip() for cell in cells] for name, *cells in rows}


def cost_of(recipe: Recipe) -> tuple[float, float]:
    """Return GPU hours of arithmetic at 100 TFLOP/s and bytes of a recipe's sets; an imported one needs no GPU."""
    gpu_hours = 0.0
    size = sum(_SEGMENTS * 10 * (2 * 2304 + 12.0) for feature_set in recipe.features if feature_set.format == "mtcn")
    for options in (feature_set.options for feature_set in recipe.features if feature_set.format is None):
        entry = get(options["backbone"])
        every = float(options["every"]) if "every" in options else None
        frames = int(options["frames"]) if "frames" in options else None
        shape = choose_clip(options.get("clip"), entry.clip, every)
        sampling = choose_sampling(frames_per_segment(frames, every), every, shape)
        clips, steps = _CLIPS_EVERY.get(options.get("every", ""), 0), 1
        if every is None:
            clips = _SEGMENTS * -(-sampling.num_frames // shape.num_frames)
            steps = sampling.steps_per_clip
        views = 1 + 3 * ("augment:3" in options.get("views", ""))
        cells = {"grid4": 16}.get(options.get("tokens", ""), 1)
        gpu_hours += views * clips * entry.gflops * 2 / 1e5 / 3600
        size += clips * steps * (2 * entry.dim * cells * views + 12)
    return gpu_hours, size


def test_table_has_a_row_for_every_recipe():
    assert sorted(rows_of_the_page()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_row_of_the_table_is_what_the_file_says(name):
    recipe = read_recipe(name)
    inputs, gpu_hours, gigabytes, published, measured = rows_of_the_page()[name]
    sets = [
        f"`{feature_set.folder}`" + (" (optional)" if feature_set.is_optional else "")
        for feature_set in recipe.features
    ]
    assert inputs == ", ".join(sets)
    hours, size = cost_of(recipe)
    assert (gpu_hours, gigabytes) == (f"{hours:.2g}" if hours < 10 else f"{hours:.0f}", f"{size / 1e9:.1f}")
    figure = recipe.published
    expected = f"{figure['action']} ({figure['system']}: {figure['source']})" if figure else "none"
    assert published == expected
    assert re.fullmatch(r"[\d.]+|-", measured)
