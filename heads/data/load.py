"""Loading what a run trains on: its feature sets, its splits, and their features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from features.actions import pairs_of
from features.annotations import Segments, SplitFiles, read_segments
from features.errors import DataError, OptionError, first_few
from features.featureset import FILE_NAME
from features.files import sha256_of_json
from features.store import video_ids
from heads.config import InputSettings, TrainConfig
from heads.data.batches import statistics
from heads.data.chunks import BufferPool, Split, free_bytes
from heads.data.layout import Source, lay_out, open_sources, with_first_view
from heads.data.splits import choose_split


@dataclass(frozen=True, eq=False)
class TrainData:
    """The data of a run.

    Attributes:
        sources: the feature sets that all splits come from. All of their views are read for training, and the first
            for validation and test.
        train, validation: labelled; without validation the last epoch counts as the best.
        test: its predictions are written at the end.
        origin: the paths that everything came from, for config.json.
    """

    sources: tuple[Source, ...]
    train: Split
    validation: Split | None
    test: Split | None
    origin: dict[str, Any]

    @property
    def predicted(self) -> dict[str, Split | None]:
        """The splits that a run predicts at its end."""
        return {"validation": self.validation, "test": self.test}

    @property
    def num_validation(self) -> int:
        """The number of validation segments that have features; 0 without validation."""
        return 0 if self.validation is None else len(self.validation)

    def pairs(self, config: TrainConfig) -> np.ndarray:
        """Return the pairs of verb and noun that an action classifier tells apart, (A, 2); none without one.

        Raises:
            OptionError: pairs of validation are asked for, and there is no validation.
        """
        if not config.objective.action_head:
            return np.empty((0, 2), dtype=np.int64)
        if config.objective.actions == "train" or config.split == "all":
            return pairs_of(self.train.segments)
        if self.validation is None:
            raise OptionError("--actions", "train+val: there is no validation list.")
        return pairs_of(self.train.segments, self.validation.segments)

    @cached_property
    def statistics(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Mean and standard deviation of the training features; computed once for all runs, from every feature."""
        return statistics(self.train)

    @cached_property
    def labels_digest(self) -> str:
        """A digest of the labels that are trained on and scored; DataError where a list has none."""
        return _digest(
            [list(segments.narration_id), segments.verb_class.tolist(), segments.noun_class.tolist()]
            for segments in self._labelled
        )

    @cached_property
    def times_digest(self) -> str:
        """A digest of where the segments lie that are trained on and scored: the windows of dense sets follow them."""
        return _digest(
            [segments.table[name].tolist() for name in ("video_id", "start_s", "stop_s")] for segments in self._labelled
        )

    @property
    def _labelled(self) -> list[Segments]:
        return [split.segments for split in (self.train, self.validation) if split is not None]


def _digest(values: Iterable[list[Any]]) -> str:
    return sha256_of_json(list(values))[:12]


def find_featuresets(paths: Sequence[Path]) -> list[Path]:
    """Return the feature sets at `paths`; a path may be a folder with a single set in it.

    Raises:
        OptionError: a folder holds several sets.
        DataError: a folder holds none.
    """
    return [_find_featureset(Path(path)) for path in paths]


def _find_featureset(path: Path) -> Path:
    if (path / FILE_NAME).is_file():
        return path
    folders = sorted(inner.parent for inner in path.glob(f"*/{FILE_NAME}"))
    if not folders:
        raise DataError(f"{path}: no feature set in it; extract one first (make extract BACKBONE=...).")
    if len(folders) > 1:
        names = first_few(folder.name for folder in folders)
        raise OptionError("--features", f"{path} holds several feature sets ({names}); name those to train on.")
    return folders[0]


def load_split(
    sources: Sequence[Source],
    segments: Segments,
    inputs: InputSettings,
    *,
    allow_missing: bool,
    device: torch.device,
    memory_bytes: float | None = None,
    buffers: BufferPool | None = None,
) -> Split:
    """Load the features of segments from all feature sets.

    Args:
        allow_missing: if some segments lack features, continue with those that have features in every set.
        memory_bytes: the memory that features may take; by default half of the machine's memory.
        buffers: as for `Split`.

    Raises:
        DataError: as for `lay_out` and `Split`.
    """
    layout = lay_out(tuple(sources), segments, inputs, allow_missing=allow_missing)
    memory_bytes = free_bytes(torch.device("cpu")) if memory_bytes is None else memory_bytes
    return Split(layout, device, memory_bytes=memory_bytes, buffers=buffers)


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

    Segments of the test list without features are left out: the list may not have been extracted yet, and training
    does not need it.

    Args:
        roots: feature sets.
        memory_bytes: for each split, as for `load_split`.

    Raises:
        OptionError: the configuration does not fit the feature sets.
        DataError: there is no training list, or features are missing or damaged.
    """
    sources = open_sources(roots, config.inputs)
    _need_kinds(sources, config)
    evaluated = with_first_view(sources)
    chosen = choose_split(config.split, files)
    buffers = BufferPool()

    def load(sources: tuple[Source, ...], segments: Segments, *, allow_missing: bool = allow_missing) -> Split:
        return load_split(
            sources,
            segments,
            config.inputs,
            allow_missing=allow_missing,
            device=device,
            memory_bytes=memory_bytes,
            buffers=buffers,
        )

    test = None if files.test is None else read_segments(files.test)
    has_features = test is not None and all(set(video_ids(root)) & set(test.table.video_id) for root in roots)
    origin = {f"{split}_csv": str(path.resolve()) if path else None for split, path in asdict(files).items()}
    return TrainData(
        sources=sources,
        train=load(sources, chosen.train),
        validation=None if chosen.validation is None else load(evaluated, chosen.validation),
        test=load(evaluated, test, allow_missing=True) if test is not None and has_features else None,
        origin={"features": [str(root.resolve()) for root in roots], **origin},
    )


def _need_kinds(sources: Sequence[Source], config: TrainConfig) -> None:
    """Check that times can be changed, or steps drawn; with early fusion, the steps of the first set are those of all.

    Raises:
        OptionError: no feature set is of the kind that an option needs.
    """
    clocks = sources[:1] if config.inputs.fusion == "early" else sources
    for option in ("jitter", "speed"):
        if getattr(config.augmentation, option) and not any(source.is_dense for source in clocks):
            first = " as the first one" if len(sources) > 1 and clocks != sources else ""
            raise OptionError(f"--{option}", f"needs a dense feature set{first} (extract run --every 0.2).")
    if config.augmentation.draw_steps and all(source.is_dense for source in clocks):
        raise OptionError("--draw-steps", "needs a feature set by segment; dense sets have --step-dropout.")
