"""Where a command finds what it reads when it is not told: annotation files and feature sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from features.annotations import (
    Segments,
    SplitFiles,
    read_segments,
)
from features.errors import DataError, OptionError, first_few
from features.featureset import FILE_NAME
from features.store import video_ids
from heads.config import InputSettings, TrainConfig
from heads.data.batches import statistics
from heads.data.chunks import Split, free_bytes
from heads.data.layout import Source, lay_out, open_sources
from heads.data.splits import choose_split


@dataclass(frozen=True, eq=False)
class TrainData:
    """What a run trains and is scored on.

    Attributes:
        sources: the feature sets that all splits come from.
        train, validation: labelled; without validation the last epoch counts as the best.
        test: its predictions are written at the end.
        origin: where it all came from, for config.json.
    """

    sources: tuple[Source, ...]
    train: Split
    validation: Split | None
    test: Split | None
    origin: dict[str, object]

    @property
    def predicted(self) -> dict[str, Split | None]:
        """The splits that a run predicts at its end."""
        return {"validation": self.validation, "test": self.test}

    @cached_property
    def statistics(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Mean and standard deviation of the training features: once for all runs, as each looks at every feature."""
        return statistics(self.train)


def find_featuresets(paths: Sequence[Path]) -> list[Path]:
    """Give the feature sets at `paths`; for a folder of sets, the only one in it.

    Raises:
        OptionError: there are several in one.
        DataError: there is none.
    """
    return [_find_featureset(Path(path)) for path in paths]


def _find_featureset(path: Path) -> Path:
    if (path / FILE_NAME).is_file():
        return path
    found = sorted(inner.parent for inner in path.glob(f"*/{FILE_NAME}"))
    if not found:
        raise DataError(f"{path}: no feature set in it; extract one first (make extract BACKBONE=...).")
    if len(found) > 1:
        names = first_few(folder.name for folder in found)
        raise OptionError("--features", f"{path} holds several feature sets ({names}); name those to train on.")
    return found[0]


def load_split(
    sources: Sequence[Source],
    segments: Segments,
    inputs: InputSettings,
    *,
    allow_missing: bool,
    device: torch.device,
    memory_bytes: float | None = None,
    rooms: list[np.ndarray] | None = None,
) -> Split:
    """Load the features of segments from all feature sets.

    Args:
        allow_missing: go on with the segments that have features in all of them, where some have not.
        memory_bytes: what they may take, by default half of the machine's memory.
        rooms: as for `Split`.

    Raises:
        DataError: as for `lay_out` and `Split`.
    """
    layout = lay_out(tuple(sources), segments, inputs, allow_missing=allow_missing)
    memory_bytes = free_bytes(torch.device("cpu")) if memory_bytes is None else memory_bytes
    return Split(layout, device, memory_bytes=memory_bytes, rooms=rooms)


def load_train_data(
    roots: Sequence[Path],
    files: SplitFiles,
    config: TrainConfig,
    *,
    allow_missing: bool,
    device: torch.device,
    memory_bytes: float | None = None,
) -> TrainData:
    """Load the features of all splits that there are.

    Of the test list, what has features is taken: it may not have been extracted yet, and training does not need it.

    Args:
        roots: feature sets.
        memory_bytes: of each split, as for `load_split`.

    Raises:
        OptionError: the configuration does not fit the feature sets.
        DataError: there is no training list, or features are missing or damaged.
    """
    sources = open_sources(roots, config.inputs)
    _need_dense(sources, config)
    chosen = choose_split(config.split, files)

    rooms: list[np.ndarray] = []

    def load(segments: Segments | None, *, allow_missing: bool = allow_missing) -> Split | None:
        if segments is None:
            return None
        how = {"allow_missing": allow_missing, "device": device, "memory_bytes": memory_bytes, "rooms": rooms}
        return load_split(sources, segments, config.inputs, **how)

    test = files.test and read_segments(files.test)
    has_test = test is not None and all(set(video_ids(root)) & set(test.table.video_id) for root in roots)
    origin = {f"{split}_csv": str(path.resolve()) if path else None for split, path in asdict(files).items()}
    return TrainData(
        sources=sources,
        train=load(chosen.train),
        validation=load(chosen.validation),
        test=load(test, allow_missing=True) if has_test else None,
        origin={"features": [str(root.resolve()) for root in roots], **origin},
    )


def _need_dense(sources: Sequence[Source], config: TrainConfig) -> None:
    """Check that there is time to change: where sets are fused early, that of the first one is every set's."""
    clocks = sources[:1] if config.inputs.fusion == "early" else sources
    for option in ("jitter", "speed"):
        if getattr(config.augmentation, option) and not any(source.is_dense for source in clocks):
            first = " as the first one" if len(sources) > 1 and clocks != sources else ""
            raise OptionError(f"--{option}", f"needs a dense feature set{first} (extract run --every 0.2).")
