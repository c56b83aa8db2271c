"""Runs: train a head, and predict with its best model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from features.device import choose_device
from features.errors import OptionError
from heads.api.arguments import AnyPath, data_loader, optional_path, paths_of, seeds_of, settings_of, split_files
from heads.config import TrainConfig, make_config
from heads.data.load import TrainData
from heads.locks import need_unlocked
from heads.models.catalogue import head_config, parse_head
from heads.predict import run as prediction
from heads.registry import options_of
from heads.runs import run_folder
from heads.training.announce import describe
from heads.training.fit import fit, score_again
from heads.training.state import Outcome


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
        DataError: a file is missing or damaged, or a run folder holds another run or is in use by another process.
    """
    spec = parse_head(head)
    configs = [
        make_config(
            spec.name,
            _with_head_options(spec.name, spec.options, head_options or {}),
            {**settings_of(settings), "split": split, "separate": separate, "seed": seed},
        )
        for seed in seeds_of(seeds)
    ]
    torch_device = choose_device(device)
    files = split_files(annotations, train=train, validation=validation, test=test)
    folders = [run_folder(Path(runs), name or spec.name, config.seed) for config in configs]
    for folder in folders:
        need_unlocked(folder)
    data = data_loader(features, files, allow_missing=allow_missing, memory=memory, device=device)(configs[0])
    if on_start is not None:
        on_start(configs[0], data, list(describe(configs[0], data, torch_device)))
    outcomes = []
    for config, folder in zip(configs, folders, strict=True):
        if config.optimisation.epochs == 0:
            outcome = score_again(data, folder, device=torch_device)
        else:
            show = on_epoch if on_epoch is not None else lambda row: None
            outcome = fit(config, data, folder, device=torch_device, show=show)
        if on_end is not None:
            on_end(outcome)
        outcomes.append(outcome)
    return outcomes


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
        tta: average over the views of the features, without random augmentations, and in dense sets over windows that
            are moved in time. These predictions have files of their own.
        allow_missing: leave out segments that have no features.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        OptionError: only one of `annotations` and `out` is given, or `splits` beside them.
        DataError: the run has no trained head or not this split, its features are missing or other ones, or another
            process is writing its folder.
    """
    if (annotations is None) != (out is None) or (annotations is not None and splits):
        raise OptionError(None, "--annotations and --out go together, and not with --split.")
    return prediction.predict_run(
        Path(run),
        splits,
        roots=paths_of(features),
        csv=optional_path(annotations),
        out=optional_path(out),
        tta=tta,
        allow_missing=allow_missing,
        device=choose_device(device),
    )


def _with_head_options(
    name: str, in_text: Mapping[str, int | float], given: Mapping[str, object]
) -> dict[str, int | float]:
    """Return all options of a head: those of its text, such as "bilstm:hidden=64", overridden by those given apart."""
    checked = options_of(head_config(name, {option: str(value) for option, value in given.items()}))
    return {**in_text, **{option: checked[option] for option in given}}
