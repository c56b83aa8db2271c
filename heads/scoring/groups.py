"""Which runs and files are scored as one row, on which list, and under which name. Computes no score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from features.annotations import Annotations
from features.console import short_names
from features.errors import DataError
from features.prediction_copies import are_same, fingerprint
from features.predictions import Predictions
from heads.runs import PREDICTIONS, TTA_PREDICTIONS, group_of, read_record
from heads.scoring.against import ScoredList
from heads.scoring.folds import Member, join_folds


@dataclass(frozen=True)
class Members:
    """Runs or predictions files that are scored as one, such as the seeds of a run.

    Attributes:
        name: tells the row apart from all others.
        scored: the list that they are scored on.
        tta: whether the runs' predictions with test-time augmentation are scored.
        copies: names of sources with the predictions of a member, which are not counted.
    """

    name: str
    members: tuple[Member, ...]
    scored: ScoredList
    tta: bool = False
    copies: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The run folders and files of all members."""
        return tuple(path for member in self.members for path in member.paths)

    @property
    def num_folds(self) -> int:
        """The number of folds that a member joins; 0 where it joins none."""
        return len(self.members[0].paths) if self.members[0].is_joined else 0

    def predictions(self) -> Iterator[Predictions]:
        """Read the predictions of each member for validation, one after the other, so that few are in memory.

        Raises:
            DataError: a member has no predictions, or it predicts other segments than the first one.
        """
        first: set[str] = set()
        for member in self.members:
            predictions = member.predictions(tta=self.tta)
            names = set(predictions.narration_id)
            first = first or names
            if names != first:
                numbers = f"{len(first)} and, in {member.path.name}, {len(names)}"
                raise DataError(
                    f"{self.name}: its seeds predict different segments ({numbers}); score each by itself (heads "
                    "evaluate --each), or train them again."
                )
            yield predictions


def alone(name: str, member: Member, annotations: Annotations, *, tta: bool = False) -> Members:
    """Return a member as a group by itself that is scored on the validation split of annotations."""
    return Members(name, (member,), ScoredList("validation", annotations, member.paths), tta=tta)


def groups_of(lists: Sequence[ScoredList], *, each: bool) -> list[Members]:
    """Group the seeds of each run, and join the runs of all folds of a list.

    Where all seeds of a run have predictions with test-time augmentation, these are another group after it. A source
    with the predictions of another one is left out.

    Args:
        each: make a group of every seed.
    """
    groups: dict[_Key, Members] = {}
    for scored in lists:
        kept, copies = without_copies(scored.sources, by_settings=True)
        for member in join_folds(kept, scored.scores):
            key = _key(member, scored, each=each)
            group = groups.setdefault(key, Members("", (), scored))
            also = tuple(name for source in member.paths for name in copies.get(source, ()))
            groups[key] = replace(group, members=(*group.members, member), copies=(*group.copies, *also))
    named = []
    for key, name in zip(groups, _names(list(groups)), strict=True):
        group = replace(groups[key], name=name)
        named.append(group)
        if all((path / TTA_PREDICTIONS["validation"]).is_file() for path in group.paths):
            named.append(replace(group, name=f"{name} +tta", tta=True, copies=()))
    return named


class _Key(NamedTuple):
    """What the members of a group share: their path without the seed, whether there was one, the split, the list."""

    path: Path
    is_seed: bool
    split: str
    scored_on: str


def _key(member: Member, scored: ScoredList, *, each: bool) -> _Key:
    path = member.path
    without_seed = path.with_name(group_of(path))
    is_seed = not each and without_seed != path and member.paths[0].is_dir()
    return _Key(without_seed if is_seed else path, is_seed, member.split, scored.name)


def _names(keys: Sequence[_Key]) -> list[str]:
    """Return names that tell groups apart: ends of their paths; where paths are equal, what else differs."""
    names = short_names(key.path for key in keys)
    for addition in (
        lambda key: "-seed*" if key.is_seed else "",  # beside an ensemble of the same name
        lambda key: f" {key.split}",
        lambda key: f" on {key.scored_on}",
    ):
        times = Counter(names)
        names = [name + addition(key) if times[name] > 1 else name for name, key in zip(names, keys, strict=True)]
    return names


def without_copies(sources: Iterable[Path], *, by_settings: bool) -> tuple[list[Path], dict[Path, tuple[str, ...]]]:
    """Return the sources that differ, and the names of those left out: source -> sources with its predictions.

    A path that is given twice, in whatever spelling, is no copy; it is just there once. A predictions file of a run is
    a copy of the run, whichever comes first.

    Args:
        by_settings: count two runs with the same predictions as different where their records differ, as in a setting
            that had no effect, or in the seed of a head that needs none.

    Raises:
        DataError: a file cannot be read.
    """
    different = list(dict.fromkeys(Path(source).resolve() for source in sources))
    names = dict(zip(different, short_names(different), strict=True))
    known: dict[Hashable, list[_File]] = {}  # by fingerprint
    copies: dict[Path, tuple[str, ...]] = {}
    for source in sorted(different, key=lambda source: not source.is_dir()):
        files = [_File(path, source, index == 0) for index, path in enumerate(_files_of(source))]
        prints = [fingerprint(file.path) for file in files]
        alike = known.get(prints[0], []) if prints else []
        original = next((file.source for file in alike if _is_copy(files[0], file, by_settings=by_settings)), None)
        if original is not None:
            copies[original] = (*copies.get(original, ()), names.pop(source))
            continue
        for file, print_ in zip(files, prints, strict=True):
            known.setdefault(print_, []).append(file)
    return list(names), copies


class _File(NamedTuple):
    """A file with predictions of a source, and whether they are those that the source is scored by."""

    path: Path
    source: Path
    is_scored: bool


def _is_copy(file: _File, original: _File, *, by_settings: bool) -> bool:
    """Whether a source is no other than one that is known, by the files that it and that one are scored by."""
    if file.source.is_dir():
        if not original.is_scored:  # the augmented predictions of one run are no other run
            return False
        if by_settings and read_record(file.source).values != read_record(original.source).values:
            return False
    return are_same(file.path, original.path)


def _files_of(source: Path) -> list[Path]:
    """Return a source's files with predictions, the one that is scored first; none of a run that has not predicted."""
    if not source.is_dir():
        return [source]
    names = (PREDICTIONS["validation"], PREDICTIONS["test"], TTA_PREDICTIONS["validation"])
    return [source / name for name in names if (source / name).is_file()]
