"""Grids: every combination of some settings, planned and trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from features.device import choose_device
from features.errors import OptionError
from heads.api.arguments import AnyPath, data_loader, seeds_of, settings_of, split_files
from heads.sweep.grid import make_variants
from heads.sweep.run import SweepPlan, SweepResult, plan_sweep, run_sweep


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

        plan = heads.plan_grid(
            grid={"head": ["bilstm:hidden=256", "attentive"], "lr": [1e-4, 3e-4]}, seeds=range(3),
            annotations="annotations", epochs=20,
        )
        print([variant.name for variant in plan.variants])

    Args:
        grid: setting -> its values; a setting is one of heads/config.py, "head" (with options), "split" or "separate".
        annotations, split, separate, train, validation, test: as for `train`.
        head: the head of all variants, where the grid does not vary it.
        runs, name: the run folders lie in `runs`/`name`.
        seeds: of every variant.
        samples: draw this many variants of the grid instead of all; the same ones each time.
        halving: after a quarter and half of the epochs, only the better half of the variants continues.
        shard: "3/8" for the fourth of eight tasks, which takes every eighth run.
        settings: of all variants, as for `train`.

    Raises:
        OptionError: a setting or a value is unknown or out of range, or two variants would share a folder.
        DataError: an annotation file is missing.
    """
    texts = {setting: _values_of(setting, values) for setting, values in grid.items()}
    shared = {**settings_of(settings), "head": head, "split": split, "separate": separate}
    variants = make_variants(texts, shared, seeds_of(seeds), samples=samples)
    files = split_files(annotations, train=train, validation=validation, test=test)
    return plan_sweep(variants, files, Path(runs) / name, shard=shard, halving=halving)


def train_grid(
    plan: SweepPlan,
    *,
    features: AnyPath | Sequence[AnyPath],
    together: int = 1,
    device: str = "auto",
    allow_missing: bool = False,
    memory: float | None = None,
) -> list[SweepResult]:
    """Return the result of each variant of a plan, best first, after training what is not finished yet.

        results = heads.train_grid(plan, features="features/a")
        print(results[0].name, results[0].mean)

    Args:
        plan: what `plan_grid` returned.
        features, device, allow_missing, memory: as for `train`.
        together: the number of runs that are trained in one pass over the data, where their models have one shape.

    Raises:
        OptionError: the device is unknown, or the memory is no number of gigabytes.
        DataError: a feature set is missing, or another process does the same task of this sweep. What goes wrong in one
            run is recorded in its result instead.
    """
    load = data_loader(features, plan.files, allow_missing=allow_missing, memory=memory, device=device)
    return run_sweep(plan, load, device=choose_device(device), together=together)


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
