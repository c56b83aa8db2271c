"""Stage 2 from Python: the functions behind the commands of `heads`, called with plain values.

Paths may be strings, lists may be any sequence, and settings have the names and defaults of `heads train --help`, with
underscores. A value that cannot be meant raises OptionError, a file that is not what it should be DataError. Nothing
here prints.
"""

from __future__ import annotations

import dataclasses
import numbers
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from features.annotations import SplitFiles, find_splits, read_segments
from features.device import choose_device
from features.errors import OptionError, unknown_name
from features.predictions import read_predictions
from heads.config import GROUPS, TrainConfig, make_config, parse_seeds, with_current_names
from heads.data.load import TrainData, find_featuresets, load_train_data
from heads.ensembles.run import Ensemble, EnsembleConfig, write_ensemble
from heads.models.catalogue import head_config, parse_head
from heads.predict import run as prediction
from heads.registry import options_of
from heads.runs import find_last_ensemble, find_predicted, find_reported, find_runs, run_folder, runs_of
from heads.scoring.against import annotations_for, known_annotations
from heads.scoring.evaluation import Difference, ScoreRow, compare_sources, evaluate_sources
from heads.submission.check import check_file
from heads.submission.choose import levels_of, predictions_to_submit, training_list
from heads.submission.files import Submission, write_submission
from heads.sweep.grid import make_variants
from heads.sweep.run import SweepPlan, SweepResult, plan_sweep, run_sweep
from heads.training.announce import describe
from heads.training.fit import fit, score_again
from heads.training.state import Outcome

AnyPath = str | os.PathLike[str]


def train(
    *,
    head: str,
    features: AnyPath | Sequence[AnyPath],
    annotations: AnyPath,
    runs: AnyPath = "runs",
    name: str | None = None,
    seeds: str | int | Iterable[int] = (0,),
    device: str = "auto",
    head_options: Mapping[str, object] | None = None,
    split: str = "official",
    separate: bool = False,
    train: AnyPath | None = None,
    validation: AnyPath | None = None,
    test: AnyPath | None = None,
    allow_missing: bool = False,
    memory: float | None = None,
    on_start: Callable[[TrainConfig, TrainData, list[tuple[str, str]]], object] | None = None,
    on_epoch: Callable[[dict[str, float]], object] | None = None,
    on_end: Callable[[Outcome], object] | None = None,
    **settings: Any,
) -> list[Outcome]:
    """Return the outcome of each seed of a head that is trained on feature sets: its run folder, best epoch, metrics.

    A run that is finished already is only read, and one that was interrupted continues after its last whole epoch.

        outcomes = heads.train(
            head="bilstm:hidden=256", features=["features/a", "features/b"], annotations="annotations",
            seeds=range(5), loss="focal:gamma=1", lr=3e-4,
        )
        print(outcomes[0].folder, outcomes[0].metrics["val_action_top1"])

    Args:
        head: a name from `heads list`, with options as in "bilstm:hidden=64".
        features: a feature set, or the folder that holds the only one; a sequence where the head sees several.
        annotations: folder of the published annotation files.
        runs, name: the run folders are `runs`/`name`-seedN; the name is the head's by default.
        seeds: one run per seed; a string such as "0-4" as well.
        device: "auto", "cpu", "cuda" or "mps".
        head_options: options of the head, instead of or beside those in `head`, such as {"hidden": 64}.
        split: "official"; "all", training and validation together; or "fold:I/K", by participant.
        separate: one head for verbs and one for nouns, which share nothing.
        train, validation, test: CSV files instead of those in `annotations`.
        allow_missing: leave out segments that have no features, instead of raising DataError.
        memory: gigabytes that the features of one split may take; by default half of the machine's memory.
        on_start: called before the first epoch with the first seed's configuration, the data, and both in words.
        on_epoch: called after each epoch with its row of metrics.csv and the seconds that it took.
        on_end: called with the outcome of each seed.
        settings: any setting of heads/config.py, such as lr=1e-3 or context=10; `epochs=0` scores runs that are
            there.

    Raises:
        OptionError: a setting is unknown, is out of range, or does not fit the features.
        DataError: a file is missing or damaged, or a run folder holds another run.
    """
    spec = parse_head(head)
    configs = [
        make_config(
            spec.name,
            _with_head_options(spec.name, spec.options, head_options or {}),
            {**_settings(settings), "split": split, "separate": separate, "seed": seed},
        )
        for seed in _seeds(seeds)
    ]
    torch_device = choose_device(device)
    files = _split_files(annotations, train=train, validation=validation, test=test)
    data = _loader(features, files, allow_missing=allow_missing, memory=memory, device=device)(configs[0])
    teacher_file = configs[0].objective.teacher
    teacher = read_predictions(Path(teacher_file)) if teacher_file else None
    if on_start is not None:
        on_start(configs[0], data, list(describe(configs[0], data, torch_device)))
    outcomes = []
    for config in configs:
        folder = run_folder(Path(runs), name or spec.name, config.seed)
        if config.optimisation.epochs == 0:
            outcome = score_again(data, folder, device=torch_device)
        else:
            show = on_epoch if on_epoch is not None else lambda row: None
            outcome = fit(config, data, folder, device=torch_device, teacher=teacher, show=show)
        if on_end is not None:
            on_end(outcome)
        outcomes.append(outcome)
    return outcomes


def plan_grid(
    *,
    grid: Mapping[str, Sequence[object]],
    annotations: AnyPath,
    head: str = "bilstm",
    runs: AnyPath = "runs",
    name: str = "sweep",
    seeds: str | int | Iterable[int] = (0,),
    samples: int | None = None,
    halving: bool = False,
    shard: str | None = None,
    split: str = "official",
    separate: bool = False,
    train: AnyPath | None = None,
    validation: AnyPath | None = None,
    test: AnyPath | None = None,
    **settings: Any,
) -> SweepPlan:
    """Return the runs of a grid of settings, without training any; all values are checked. `train_grid` trains them.

        plan = heads.plan_grid(grid={"loss": ["ce", "focal"], "lr": [1e-4, 3e-4]}, annotations="annotations")
        print([variant.name for variant in plan.variants])

    Arguments and errors are those of `train_grid`, without those that only training needs.
    """
    texts = {setting: _values_of(setting, values) for setting, values in grid.items()}
    shared = {**_settings(settings), "head": head, "split": split, "separate": separate}
    variants = make_variants(texts, shared, _seeds(seeds), samples=samples)
    files = _split_files(annotations, train=train, validation=validation, test=test)
    return plan_sweep(variants, files, Path(runs) / name, shard=shard, halving=halving)


def train_grid(
    *,
    grid: Mapping[str, Sequence[object]],
    features: AnyPath | Sequence[AnyPath],
    annotations: AnyPath,
    head: str = "bilstm",
    runs: AnyPath = "runs",
    name: str = "sweep",
    seeds: str | int | Iterable[int] = (0,),
    samples: int | None = None,
    halving: bool = False,
    together: int = 1,
    shard: str | None = None,
    device: str = "auto",
    split: str = "official",
    separate: bool = False,
    train: AnyPath | None = None,
    validation: AnyPath | None = None,
    test: AnyPath | None = None,
    allow_missing: bool = False,
    memory: float | None = None,
    on_start: Callable[[SweepPlan], object] | None = None,
    **settings: Any,
) -> list[SweepResult]:
    """Return the result of each combination of some settings, best first, after training what is not finished yet.

        results = heads.train_grid(
            grid={"head": ["bilstm:hidden=256", "attentive"], "lr": [1e-4, 3e-4]}, seeds=range(3),
            features="features/a", annotations="annotations", epochs=20,
        )
        print(results[0].name, results[0].mean)

    Args:
        grid: setting -> its values; a setting is one of heads/config.py, "head" (with options), "split" or "separate".
        features, annotations, device, split, separate, train, validation, test, allow_missing, memory: as for `train`.
        head: the head of all variants, where the grid does not vary it.
        runs, name: the run folders lie in `runs`/`name`.
        seeds: of every variant.
        samples: draw this many variants of the grid instead of all; the same ones each time.
        halving: after a quarter and half of the epochs, only the better half of the variants continues.
        together: the number of runs that are trained in one pass over the data, where their models have one shape.
        shard: "3/8" for the fourth of eight tasks, which takes every eighth run.
        on_start: called with the plan before anything is trained.
        settings: of all variants, as for `train`.

    Raises:
        OptionError: a setting or a value is unknown or out of range, or two variants would share a folder.
        DataError: a file or a feature set is missing. What goes wrong in one run is recorded in its result instead.
    """
    plan = plan_grid(
        grid=grid,
        annotations=annotations,
        head=head,
        runs=runs,
        name=name,
        seeds=seeds,
        samples=samples,
        halving=halving,
        shard=shard,
        split=split,
        separate=separate,
        train=train,
        validation=validation,
        test=test,
        **settings,
    )
    if on_start is not None:
        on_start(plan)
    load = _loader(features, plan.files, allow_missing=allow_missing, memory=memory, device=device)
    return run_sweep(plan, load, device=choose_device(device), together=together)


def predict_run(
    run: AnyPath,
    *,
    splits: Sequence[str] = (),
    annotations: AnyPath | None = None,
    out: AnyPath | None = None,
    features: AnyPath | Sequence[AnyPath] = (),
    tta: bool = False,
    allow_missing: bool = False,
    device: str = "auto",
) -> list[Path]:
    """Return the files that the predictions of a run's best model are written to.

        (path,) = heads.predict_run("runs/bilstm-seed0", splits=["train"])

    Args:
        run: a run folder.
        splits: of "train", "validation" and "test"; all that the run was trained with by default.
        annotations, out: CSV of other segments, and the file for their predictions, instead of `splits`.
        features: the run's feature sets, where they have moved.
        tta: average over all views of the features, and in dense sets over windows that are moved in time. These
            predictions have files of their own.
        allow_missing: leave out segments that have no features.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        OptionError: only one of `annotations` and `out` is given, or `splits` beside them.
        DataError: the run has no trained head or not this split, or its features are missing or other ones.
    """
    if (annotations is None) != (out is None) or (annotations is not None and splits):
        raise OptionError(None, "--annotations and --out go together, and not with --split.")
    return prediction.predict_run(
        Path(run),
        splits,
        roots=_paths(features),
        csv=_path(annotations),
        out=_path(out),
        tta=tta,
        allow_missing=allow_missing,
        device=choose_device(device),
    )


def evaluate(
    sources: Sequence[AnyPath] = (),
    *,
    annotations: AnyPath | None = None,
    runs: AnyPath = "runs",
    each: bool = False,
) -> list[ScoreRow]:
    """Return the validation scores of runs, ensembles or predictions files, one row per run with its seeds averaged.

        for row in heads.evaluate(["runs/bilstm-seed0", "runs/ensemble"]):
            print(row.name, row.figures["action@1"], row.intervals["action@1"])

    Rows of two baselines follow where the training list is known: the most frequent classes, and chance.

    Args:
        sources: a folder of runs stands for everything in it; everything in `runs` by default.
        annotations: validation CSV or folder of annotation files; by default those that the runs were trained with.
        runs: folder of the run folders.
        each: one row per seed.

    Raises:
        DataError: a run or a file is missing, or predicts segments that validation does not have.
    """
    paths = _sources(sources, runs, find_predicted)
    return evaluate_sources(paths, annotations_for(paths, _path(annotations)), each=each)


def compare(a: AnyPath, b: AnyPath, *, annotations: AnyPath | None = None) -> list[Difference]:
    """Return by how much each score of run `b` is above that of run `a`, on the segments that both predict.

        action = next(row for row in heads.compare("runs/a-seed0", "runs/b-seed0") if row.figure == "action@1")
        print(action.difference, action.low, action.high)

    Args:
        a, b: run folders or predictions files.
        annotations: as for `evaluate`.

    Raises:
        DataError: as for `evaluate`, or no segment is predicted by both.
    """
    return compare_sources(Path(a), Path(b), annotations_for([Path(a), Path(b)], _path(annotations)))


def ensemble(
    members: Sequence[AnyPath] = (),
    *,
    runs: AnyPath = "runs",
    name: str = "ensemble",
    annotations: AnyPath | None = None,
    mean: Literal["probabilities", "logits"] = "probabilities",
    weights: str | Sequence[float] = "uniform",
    per_task: bool = False,
    temperature: bool = False,
    adjust: bool = False,
    pairs: bool = False,
    tta: bool = False,
    force: bool = False,
) -> Ensemble:
    """Return the ensemble of some runs, after writing its averaged predictions into `runs`/`name`.

        best = heads.ensemble(["runs/sweep"], weights="greedy", per_task=True, name="best")
        print(best.gains, best.weights["noun"])

    Args:
        members: run folders or predictions files; a folder of runs stands for all finished runs in it. All finished
            runs in `runs` by default.
        annotations: what weights and corrections are fitted to and what is scored against, as for `evaluate`.
        mean: average "probabilities" or "logits".
        weights: "uniform"; "fitted" to validation; "greedy", members chosen one by one; or one number per member.
            Whatever is fitted is cross-validated over videos.
        per_task: weights for verbs and other ones for nouns, where they are fitted.
        temperature, adjust, pairs: corrections to fit afterwards (heads/ensembles/posthoc.py).
        tta: average what `predict_run(..., tta=True)` wrote.
        force: replace an ensemble of other members.

    Raises:
        OptionError: a member is given twice, or the weights make no sense.
        DataError: a member has no predictions, members predict different segments, or the folder holds something else.
    """
    config = EnsembleConfig(
        kind=mean,
        weights=weights if isinstance(weights, str) else tuple(float(weight) for weight in weights),
        per_task=per_task,
        temperature=temperature,
        adjust=adjust,
        pairs=pairs,
        tta=tta,
    )
    paths = _sources(members, runs, find_runs)
    known = known_annotations(paths, _path(annotations))
    return write_ensemble(paths, Path(runs) / name, settings=config, annotations=known, force=force)


def make_report(
    sources: Sequence[AnyPath] = (),
    *,
    form: Literal["html", "md"] = "html",
    annotations: AnyPath | None = None,
    runs: AnyPath = "runs",
) -> str:
    """Return a report of runs as the text of a page: ranking, learning curves, settings that mattered, mistakes.

        Path("report.html").write_text(heads.make_report(["runs/sweep"]))

    Args:
        sources: a folder of runs stands for everything in it; everything in `runs` and in folders of runs there by
            default. Runs that are not finished have a learning curve.
        form: "html" for one page with plots that needs no network, "md" for its tables as Markdown.
        annotations, runs: as for `evaluate`.

    Raises:
        DataError: as for `evaluate`.
    """
    # Not at the top: plots load matplotlib, which nothing else here needs.
    from heads.report.compute import compute_report

    paths = _sources(sources, runs, find_reported)
    content = compute_report(paths, annotations_for(paths, _path(annotations)))
    if form == "md":
        from heads.report.markdown import as_markdown

        return as_markdown(content)
    from heads.report.html import as_page
    from heads.report.plots import draw

    return as_page(content, draw(content))


def submit(
    run: AnyPath | None = None,
    *,
    annotations: AnyPath | None = None,
    runs: AnyPath = "runs",
    out: AnyPath | None = None,
    sls_pt: int | None = None,
    sls_tl: int = 3,
    sls_td: int | None = None,
    expect: int | None = None,
    missing: Literal["error", "omit", "prior"] = "error",
    force: bool = False,
) -> Submission:
    """Return the files for the challenge's servers, after writing them and checking them against the test list.

        submission = heads.submit("runs/ensemble", out="submissions")
        print(submission.num_segments, submission.paths)

    Args:
        run: a run, an ensemble or a predictions file; the ensemble in `runs` that was written last by default.
        annotations: CSV of the segments that the server scores; by default the test list the run was trained with.
        out: folder for the files; submission/ in the run by default.
        sls_pt, sls_tl, sls_td: levels of supervision of pretraining, training labels and training data, 0 to 5
            (epic-kitchens/SLS). By default, the first is read from the feature sets' records of their backbones, and
            the last is 3, or 4 where the run was trained on validation too.
        expect: the number of segments that there have to be.
        missing: for segments without a prediction, "error", "omit" them, or predict the class frequencies of the
            training list ("prior").
        force: replace files that are there.

    Raises:
        OptionError: a level is not from 0 to 5.
        DataError: segments are missing or too many, or a file is there already.
    """
    source = find_last_ensemble(Path(runs)) if run is None else Path(run)
    given = _path(annotations)
    predictions, segments = predictions_to_submit(source, given)
    written = write_submission(
        predictions,
        segments,
        _path(out) or (source if source.is_dir() else source.parent) / "submission",
        levels=levels_of(source, pretraining=sls_pt, training_labels=sls_tl, training_data=sls_td),
        expect=expect,
        missing=missing,
        train=training_list(source, given) if missing == "prior" else None,
        force=force,
    )
    return replace(written, run=source)


def check_submission(path: AnyPath, *, annotations: AnyPath | None = None, expect: int | None = None) -> str:
    """Return a sentence that says what a file for the servers holds, once it has been checked.

        heads.check_submission("submissions/epic_submission.zip", annotations="EPIC_100_test_timestamps.csv")

    Args:
        path: submission.pt, or either of the zip files that `submit` writes.
        annotations: CSV of the segments that the server scores; without it, only the file itself is checked.
        expect: the number of segments that there have to be.

    Raises:
        DataError: the file is damaged, or a server would refuse it.
    """
    segments = None if annotations is None else read_segments(Path(annotations))
    return check_file(Path(path), segments, expect=expect)


def _path(given: AnyPath | None) -> Path | None:
    return None if given is None else Path(given)


def _paths(given: AnyPath | Sequence[AnyPath]) -> list[Path]:
    return [Path(given)] if isinstance(given, str | os.PathLike) else [Path(path) for path in given]


def _sources(given: Sequence[AnyPath], runs: AnyPath, find: Callable[[Path], list[Path]]) -> list[Path]:
    """Return the runs that are meant: those given, with folders of runs replaced by the runs in them, or all."""
    return runs_of(_paths(given), find) if given else find(Path(runs))


def _split_files(annotations: AnyPath, **given: AnyPath | None) -> SplitFiles:
    return find_splits(Path(annotations), **{split: _path(csv) for split, csv in given.items()})


def _loader(
    features: AnyPath | Sequence[AnyPath], files: SplitFiles, *, allow_missing: bool, memory: float | None, device: str
) -> Callable[[TrainConfig], TrainData]:
    """Return the function that loads the data of a configuration."""
    if memory is not None and not memory >= 0:  # NaN as well
        raise OptionError("--memory", f"{memory} is no number of gigabytes.")
    return partial(
        load_train_data,
        find_featuresets(_paths(features)),
        files,
        allow_missing=allow_missing,
        device=choose_device(device),
        memory_bytes=None if memory is None else memory * 1e9,
    )


def _seeds(given: str | int | Iterable[int]) -> list[int]:
    if isinstance(given, str | int):
        return parse_seeds(str(given))
    return parse_seeds(",".join(str(seed) for seed in given))


def _with_head_options(
    name: str, in_text: Mapping[str, int | float], given: Mapping[str, object]
) -> dict[str, int | float]:
    """Return all options of a head: those of its text, such as "bilstm:hidden=64", overridden by those given apart."""
    checked = options_of(head_config(name, {option: str(value) for option, value in given.items()}))
    return {**in_text, **{option: checked[option] for option in given}}


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by name as heads/config.py takes them: a single text as a list of texts, an integer as a float.

    Raises:
        OptionError: a setting is unknown, or its value is of another type.
    """
    known = {field.name: field.default for record in GROUPS.values() for field in dataclasses.fields(record)}
    settings = {}
    for name, value in with_current_names(given).items():
        if name not in known:
            raise unknown_name(None, "setting", name, known)
        settings[name] = _as_type_of(known[name], value, name)
    return settings


def _as_type_of(default: Any, value: Any, name: str) -> Any:
    """Return a setting's value in the type of its default; a setting without a default is a text."""
    if value is None and default is None:
        return None
    if isinstance(default, tuple):
        return (value,) if isinstance(value, str) else tuple(value)
    if isinstance(default, str) or default is None:
        return str(value)
    if isinstance(default, float) and isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, int) and isinstance(value, numbers.Real) and float(value).is_integer():
        return int(float(value))
    expected = "a whole number" if isinstance(default, int) else "a number"
    raise OptionError(f"--{name.replace('_', '-')}", f"{value!r} is not {expected}.")


def _values_of(setting: str, values: Sequence[object]) -> list[str]:
    """Return the values of a grid's setting as texts; a single text would be taken for its letters."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise OptionError("--grid", f"{setting} is {values!r}, not a list of values.")
    return [_as_typed(value) for value in values]


def _as_typed(value: object) -> str:
    """Return a value as one types it after an option.

    >>> _as_typed(True), _as_typed(1e-4), _as_typed("bilstm:hidden=64")
    ('true', '0.0001', 'bilstm:hidden=64')
    """
    return str(value).lower() if isinstance(value, bool) else str(value)
