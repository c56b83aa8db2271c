"""Do a recipe step by step: on SLURM where it is installed, otherwise on this machine.

    python jobs/recipe.py NAME [OVERRIDES.yaml ...]

Every step is a command that can be typed, and is printed before it runs. All of them keep what is finished, so the same
call goes on after an interruption. The first step that fails ends the recipe with that step's exit code. With SLURM,
each step is submitted and waits for those before it. recipes/README.md lists the recipes, `make help` the options.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recipe_file import FeatureSet, Recipe, RecipeError, Sweep, read_recipe

_JOBS = Path(__file__).resolve().parent
_SWEEP_TASKS = 4


@dataclass(frozen=True)
class Places:
    """Where things are, and on what to compute; from the environment, as `make recipe` sets it."""

    bin: str
    annotations: str
    videos: str
    features: str
    runs: str
    downloads: str
    weights: str | None
    device: str

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Places:
        """Return the places that the environment names, or their defaults."""
        return cls(
            bin=environment.get("BIN", str(Path(sys.executable).parent)),
            annotations=environment.get("EPIC_ANNOTATIONS", "data/annotations"),
            videos=environment.get("EPIC_VIDEOS", "data/videos"),
            features=environment.get("EPIC_FEATURES", "data/features"),
            runs=environment.get("EPIC_RUNS", "runs"),
            downloads=environment.get("EPIC_DOWNLOADS", "downloads"),
            weights=environment.get("EPIC_WEIGHTS") or None,
            device=environment.get("DEVICE", "auto"),
        )


@dataclass(frozen=True)
class Step:
    """A command of a recipe.

    Attributes:
        kind: how a cluster runs it: "here" at once, where it is typed; "extract" or "sweep" as an array with GPUs;
            "light" as a job without.
        after: names of the steps that have to end well before it.
        tasks: of an array; None for what TASKS says.
    """

    name: str
    words: tuple[str, ...]
    kind: str
    after: tuple[str, ...] = ()
    tasks: int | None = None


# ---- a recipe's steps


def steps_of(recipe: Recipe, places: Places) -> list[Step]:
    """Return the steps of a recipe, in the order in which they run."""
    backbones = [
        feature_set.options["backbone"]
        for feature_set in recipe.features
        if feature_set.format is None and feature_set.options.get("weights", "default") == "default"
    ]
    steps = []
    if backbones:
        destination = ["--dest", places.weights] if places.weights else []
        words = [f"{places.bin}/extract", "weights", *dict.fromkeys(backbones), *destination]
        steps.append(Step("weights", tuple(words), "here"))
    # A mistake in a sweep shows now, and not after days of extraction.
    steps += [
        Step(f"check-{sweep.name}", (*_sweep_words(recipe, sweep, places), "--dry-run"), "here")
        for sweep in recipe.sweeps
    ]
    for feature_set in recipe.features:
        steps += _steps_of_set(feature_set, places)
    verified = {feature_set.name: f"verify-{feature_set.name}" for feature_set in recipe.features}
    for sweep in recipe.sweeps:
        after = tuple(verified[name] for name in sweep.features)
        sweep_words = _sweep_words(recipe, sweep, places)
        steps.append(Step(f"sweep-{sweep.name}", sweep_words, "sweep", after, _num_tasks(sweep)))
    sweeps = tuple(f"sweep-{sweep.name}" for sweep in recipe.sweeps)
    steps.append(Step("ensemble", _ensemble_words(recipe, places), "light", sweeps))
    runs = _runs(recipe, places)
    report = (f"{places.bin}/heads", "report", "--runs", runs, "--out", f"{runs}/report.html", runs)
    steps.append(Step("report", report, "light", ("ensemble",)))
    return steps


def _runs(recipe: Recipe, places: Places) -> str:
    return f"{places.runs}/{recipe.name}"


def _steps_of_set(feature_set: FeatureSet, places: Places) -> list[Step]:
    """Return the steps that make a feature set and look at every byte of it."""
    out = f"{places.features}/{feature_set.folder}"
    name = f"extract-{feature_set.name}" if feature_set.format is None else f"import-{feature_set.name}"
    options = [word for key, text in feature_set.options.items() for word in (f"--{key}", text)]
    if feature_set.format is None:
        words = [f"{places.bin}/extract", "run", "--annotations", places.annotations, "--videos", places.videos]
        words += [*options, *(["--boxes", _source(feature_set, places)] if feature_set.source else [])]
        words += [*(["--weights-dir", places.weights] if places.weights else []), "--device", places.device]
    else:
        words = [f"{places.bin}/features", "import", feature_set.format, _source(feature_set, places)]
        words += ["--annotations", places.annotations, *options]
    make = Step(name, (*words, "--out", out), "extract" if feature_set.format is None else "light")
    verify = Step(f"verify-{feature_set.name}", (f"{places.bin}/features", "verify", out), "light", (name,))
    is_made = feature_set.source is not None and not Path(_source(feature_set, places)).exists()
    return [verify] if is_made else [make, verify]


def _source(feature_set: FeatureSet, places: Places) -> str:
    return f"{places.downloads}/{feature_set.source}"


def _sweep_words(recipe: Recipe, sweep: Sweep, places: Places) -> tuple[str, ...]:
    folders = {feature_set.name: feature_set.folder for feature_set in recipe.features}
    words = [f"{places.bin}/heads", "sweep", "--grid"]
    words += [f"{setting}={','.join(values)}" for setting, values in sweep.grid.items()]
    for key, value in sweep.options.items():
        if value in ("true", "false"):
            words += [f"--{key}"] if value == "true" else []
        else:
            words += [word for text in ([value] if isinstance(value, str) else value) for word in (f"--{key}", text)]
    words += [word for name in sweep.features for word in ("--features", f"{places.features}/{folders[name]}")]
    words += ["--annotations", places.annotations, "--device", places.device]
    return (*words, "--runs", _runs(recipe, places), "--name", sweep.name)


def _num_tasks(sweep: Sweep) -> int:
    """Return the number of tasks of a sweep's array: halving compares all runs, and no task may be without a run."""
    if sweep.options.get("halving") == "true":
        return 1
    seeds = 0
    for part in str(sweep.options.get("seeds", "0")).split(","):
        first, _, last = part.partition("-")
        seeds += int(last or first) - int(first) + 1
    num_runs = seeds * math.prod(len(values) for values in sweep.grid.values())
    return min(sweep.tasks or _SWEEP_TASKS, num_runs)


def _ensemble_words(recipe: Recipe, places: Places) -> tuple[str, ...]:
    runs = _runs(recipe, places)
    words = [f"{places.bin}/heads", "ensemble", "--runs", runs, "--force"]
    for key, text in recipe.ensemble.items():
        if key != "epochs":
            words += [] if text == "false" else [f"--{key}"] if text == "true" else [f"--{key}", text]
    members = [f"{runs}/{sweep.name}" for sweep in recipe.sweeps]
    if recipe.ensemble.get("epochs") != "true":
        return (*words, *members)
    # A shell finds the kept epochs once there are any.
    patterns = [f"{shlex.quote(folder)}/*/epoch*" for folder in members]
    return ("bash", "-c", " ".join([shlex.join(words), *patterns]))


def available(recipe: Recipe, places: Places) -> tuple[Recipe, list[str]]:
    """Return a recipe without the optional sets that cannot be had here, and lines that say what is left out and why.

    A sweep goes on without an optional set, and is left out if it has no other. A set that is there already needs its
    source no more.

    Raises:
        RecipeError: the source of a set that is not optional is missing, or nothing is left to train.
    """
    lines, left_out = [], set()
    for feature_set in recipe.features:
        source, out = _source(feature_set, places), f"{places.features}/{feature_set.folder}"
        if feature_set.source is None or Path(source).exists():
            continue
        problem = f"features.{feature_set.name}: {source} is not there"
        if Path(out, "featureset.json").exists():
            lines.append(f"{problem}, and {out} is used as it is.")
        elif feature_set.is_optional:
            lines.append(f"{problem}. It is optional, and is left out.")
            left_out.add(feature_set.name)
        else:
            raise RecipeError(
                f"{recipe.name}: {problem}. docs/features.md says where to look for it; EPIC_DOWNLOADS is the folder."
            )
    sweeps = []
    for sweep in recipe.sweeps:
        features = tuple(name for name in sweep.features if name not in left_out)
        if features:
            sweeps.append(replace(sweep, features=features))
        else:
            lines.append(f"sweeps.{sweep.name}: has no feature set left, and is left out.")
    if not sweeps:
        raise RecipeError(f"{recipe.name}: no sweep is left.")
    kept = tuple(feature_set for feature_set in recipe.features if feature_set.name not in left_out)
    return replace(recipe, features=kept, sweeps=tuple(sweeps)), lines


# ---- running them


def run_here(steps: Sequence[Step]) -> int:
    """Run steps one after the other; return the exit code of the first that fails, or 0."""
    for step in steps:
        _show(step.words)
        code = subprocess.run(step.words, check=False).returncode
        if code:
            return _failed(step, code)
    return 0


def submit(steps: Sequence[Step], environment: Mapping[str, str]) -> int:
    """Submit steps, each after those it needs, and cancel them all if one is refused; return an exit code."""
    submitted: dict[str, str] = {}
    cluster: str | None = None
    try:
        for step in steps:
            jobs = [submitted[name] for name in step.after if name in submitted]
            words = submission(step, jobs)
            _show(words)
            process = subprocess.run(words, check=False, text=True, stdout=_stdout_of(step), env=dict(environment))
            sys.stdout.write(process.stdout or "")
            job = re.search(r"^Submitted job (\d+),", process.stdout or "", flags=re.MULTILINE)
            if process.returncode or (step.kind != "here" and job is None):
                return _failed(step, process.returncode or 1)
            if job is not None:
                submitted[step.name] = job[1]
                named = re.search(r"^  squeue --clusters=(\S+) --jobs", process.stdout, flags=re.MULTILINE)
                cluster = named[1] if named else cluster
        done = dict(submitted)
        submitted.clear()
        print("\nSubmitted:", ", ".join(f"{name} {job}" for name, job in done.items()), flush=True)
        return 0
    finally:  # also where Ctrl-C ends it
        _cancel(list(submitted.values()), cluster)


def submission(step: Step, jobs: Sequence[str]) -> tuple[str, ...]:
    """Return the command that submits a step after some jobs."""
    if step.kind == "here":
        return step.words
    variables = [f"AFTER={':'.join(jobs)}"] if jobs else []
    variables += [f"TASKS={step.tasks}"] if step.tasks is not None else []
    script = {"extract": "extract.sh", "sweep": "sweep.sh", "light": "run.sh"}[step.kind]
    name = [step.name] if step.kind == "light" else []
    return (*(["env", *variables] if variables else []), "bash", str(_JOBS / script), *name, *step.words)


def _stdout_of(step: Step) -> int | None:
    return None if step.kind == "here" else subprocess.PIPE


def _cancel(jobs: Sequence[str], cluster: str | None) -> None:
    if jobs:
        words = ["scancel", *([f"--clusters={cluster}"] if cluster else []), *jobs]
        print(f"The jobs before it are cancelled: {shlex.join(words)}", file=sys.stderr, flush=True)
        subprocess.run(words, check=False)


def _show(words: Sequence[str]) -> None:
    print(f"\n$ {shlex.join(words)}", flush=True)


def _failed(step: Step, code: int) -> int:
    message = f"\n{step.name}: failed with exit code {code}; why is said above. The same command goes on from here."
    print(message, file=sys.stderr, flush=True)
    return code if code > 0 else 128 - code  # a signal, as a shell has it


def is_submitted(environment: Mapping[str, str]) -> bool:
    """Return whether steps go to SLURM, or would on a site that has it (DRY_RUN); as jobs/site.sh decides it."""
    if environment.get("LOCAL", "0") == "1":
        return False
    is_planned = environment.get("DRY_RUN", "0") == "1" and (environment.get("SITE") or "generic") != "generic"
    return is_planned or shutil.which("sbatch") is not None


def _dry_run(steps: Sequence[Step], *, is_on_slurm: bool) -> Iterator[tuple[str, ...]]:
    for step in steps:
        yield submission(step, [f"JOB-OF-{name}" for name in step.after]) if is_on_slurm else step.words


def main() -> int:
    """Read the command line and do a recipe; return an exit code."""
    parser = argparse.ArgumentParser(description="Do a recipe step by step.")
    parser.add_argument("name", metavar="NAME", help="a recipe in recipes/, or the path of a YAML file of your own")
    parser.add_argument("overrides", metavar="OVERRIDES.yaml", nargs="*", type=Path, help="changes to the recipe")
    arguments = parser.parse_args()
    places = Places.of(os.environ)
    try:
        recipe, lines = available(read_recipe(arguments.name, arguments.overrides), places)
    except RecipeError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    steps = steps_of(recipe, places)
    print(f"{recipe.name}: {recipe.title}, {len(steps)} steps", *lines, sep="\n", flush=True)
    is_on_slurm = is_submitted(os.environ)
    if os.environ.get("DRY_RUN", "0") == "1":
        for words in _dry_run(steps, is_on_slurm=is_on_slurm):
            _show(words)
        return 0
    code = submit(steps, os.environ) if is_on_slurm else run_here(steps)
    if not code:
        runs = _runs(recipe, places)
        print(f"\nThe report: {runs}/report.html. To submit: {places.bin}/heads submit {runs}/ensemble", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
