"""The records of a sweep beside its runs: which runs failed, and which were stopped early. Trains nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from features.dealing import parse_shard
from features.errors import DataError
from features.files import read_json, write_json
from heads.sweep.halving import Decision

HALVING = "halving.json"

# Variant -> seed -> reason.
Failures = Mapping[str, Mapping[int, str]]


def write_failures(folder: Path, failures: Failures, shard: str | None) -> None:
    """Write which runs failed, and delete the records of sweeps with another number of tasks, which are out of date.

    Args:
        shard: the task of a job array; each task has its own file, because tasks may end at the same time.
    """
    task, num_tasks = parse_shard(shard)
    path = folder / ("failed.json" if num_tasks == 1 else f"failed-{task}of{num_tasks}.json")
    for old in set(folder.glob("failed*.json")) - set(folder.glob(f"failed-*of{num_tasks}.json")) | {path}:
        old.unlink(missing_ok=True)
    if failures:
        write_json(path, failures)


def read_failures(folder: Path) -> list[tuple[str, str, str]]:
    """Return the runs that failed in a sweep, in all of its tasks, as variant, seed and reason; none without a sweep.

    Raises:
        DataError: a file is damaged.
    """
    failures = []
    for path in sorted(folder.glob("failed*.json")):
        try:
            failures += [
                (name, seed, str(reason)) for name, seeds in read_json(path).items() for seed, reason in seeds.items()
            ]
        except AttributeError as error:
            raise DataError(f"{path}: not a list of failed runs; delete it.") from error
    return failures


def write_decisions(folder: Path, decisions: Sequence[Decision]) -> None:
    """Write the decisions at each rung so far; without decisions, delete the record."""
    if decisions:
        write_json(folder / HALVING, [asdict(decision) for decision in decisions])
    else:
        (folder / HALVING).unlink(missing_ok=True)


def read_stopped(folder: Path) -> dict[str, int]:
    """Read variant -> the epoch after which --halving stopped it, for the variants that it stopped.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / HALVING
    if not path.is_file():
        return {}
    try:
        return {decision["name"]: decision["epoch"] for decision in read_json(path) if decision["stopped"]}
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not a list of decisions; delete it, and run the same sweep again to write it."
        ) from error
