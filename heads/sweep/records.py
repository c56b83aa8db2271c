"""What a sweep writes beside its runs: which of them failed, and which were stopped early. Trains nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from features.dealing import parse_shard
from features.errors import DataError
from features.files import read_json, write_json
from heads.sweep.halving import Decision

HALVING = "halving.json"

# Variant -> seed -> why.
Failures = Mapping[str, Mapping[int, str]]


def write_failures(folder: Path, failures: Failures, shard: str | None) -> None:
    """Write what failed, if anything did; what was written when runs were dealt in another way is out of date.

    Args:
        shard: the task of an array that it failed in; each has a file of its own, as tasks may end at the same time.
    """
    task, num_tasks = parse_shard(shard)
    path = folder / ("failed.json" if num_tasks == 1 else f"failed-{task}of{num_tasks}.json")
    for old in set(folder.glob("failed*.json")) - set(folder.glob(f"failed-*of{num_tasks}.json")) | {path}:
        old.unlink(missing_ok=True)
    if failures:
        write_json(path, failures)


def read_failures(folder: Path) -> list[tuple[str, str, str]]:
    """Give what failed in a sweep, in all of its tasks, as variant, seed and why; nothing where no sweep was.

    Raises:
        DataError: a file is damaged.
    """
    found = []
    for path in sorted(folder.glob("failed*.json")):
        try:
            found += [(name, seed, str(why)) for name, seeds in read_json(path).items() for seed, why in seeds.items()]
        except AttributeError as error:
            raise DataError(f"{path}: not a list of what failed; delete it.") from error
    return found


def write_decisions(folder: Path, decisions: Sequence[Decision]) -> None:
    """Write how variants fared at each rung so far; without any, that nothing was stopped."""
    if decisions:
        write_json(folder / HALVING, [asdict(one) for one in decisions])
    else:
        (folder / HALVING).unlink(missing_ok=True)


def read_stopped(folder: Path) -> dict[str, int]:
    """Give variant -> the epoch after which --halving stopped it, of those that it did.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / HALVING
    if not path.is_file():
        return {}
    try:
        return {one["name"]: one["epoch"] for one in read_json(path) if one["stopped"]}
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not a list of decisions; delete it, and the same sweep makes them again.") from error
