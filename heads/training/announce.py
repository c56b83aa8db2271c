"""What a run is going to do, in words, before it begins."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from features.annotations import NUM_CLASSES
from features.console import human_size
from features.errors import first_few
from heads.config import TrainConfig
from heads.data.chunks import Split
from heads.data.layout import Source
from heads.data.load import TrainData
from heads.data.splits import note_on_shared
from heads.losses.class_counts import class_counts
from heads.models.catalogue import is_fitted
from heads.models.model import Model
from heads.models.saved import model_config_of
from heads.training.defaults import complete

# Value of --select -> which epoch's weights a run keeps, in words.
_KEPT = {
    "action": "the epoch of the best action accuracy",
    "loss": "the epoch of the lowest validation loss",
    "last": "the last epoch",
}


def describe(config: TrainConfig, data: TrainData, device: torch.device) -> Iterator[tuple[str, str]]:
    """Return the plan of a run, as pairs of a name and a text."""
    config = complete(config, len(data.train), data.num_validation)
    model_config = model_config_of(config, data)
    with torch.device("meta"):
        model = Model(model_config)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    of_actions = ", one for actions" if model.pairs else ""
    separate = f", one for verbs{of_actions} and one for nouns" if config.separate else ""
    yield "head", f"{config.head}{separate}, {num_parameters:,} parameters"
    for number, source in enumerate(data.sources):
        yield "features", _describe_source(source)
        if source.has_regions:
            yield "regions", _describe_regions(source, data.train.num_without_regions(number))
        if len(source.views) > 1:
            yield "views", _describe_views(source, data.train.num_without_all_views(number))
    yield "training", _describe_split(data.train)
    yield "", _describe_classes(data.train)
    if model.pairs:
        which = "training and validation" if config.objective.actions == "train+val" else "training"
        yield "actions", f"a classifier over the {len(model.pairs):,} pairs of verb and noun in {which}"
    yield "optimising", _describe_length(config, len(data.train))
    if data.validation is not None:
        yield "validation", _describe_split(data.validation)
        unseen = _unseen_classes(data.train, data.validation)
        if unseen:
            yield "", unseen
        shared = note_on_shared(data.train.segments, data.validation.segments)
        if shared:
            yield "warning", shared
    if data.test is not None:
        yield "test", _describe_split(data.test)
    streamed = "read a chunk of videos at a time, as they do not fit into memory"
    yield "device", f"{device.type}, features {'in memory' if data.train.is_resident else streamed}"


def _describe_length(config: TrainConfig, num_segments: int) -> str:
    """Return how long a run trains, and the settings that depend on the numbers of segments."""
    if is_fitted(config.head):
        return "fitted to convergence"
    settings, updates = config.optimisation, math.ceil(num_segments / config.optimisation.batch_size)
    schedule = settings.schedule
    kept = _KEPT[settings.selection]
    mixup = f", mixup {config.augmentation.mixup:g}" if config.augmentation.mixup else ""
    inputs = config.inputs
    shown = "segment" if inputs.window is None else f"set in a window of {inputs.window:g} s"
    return (
        f"{schedule.epochs} epochs of {updates:,} updates, {schedule.warmup_epochs} of them warm-up; learning rate "
        f"{schedule.lr:g}{mixup}; at most {inputs.max_steps} steps per {shown}; keeps {kept}"
    )


def _describe_source(source: Source) -> str:
    featureset = source.featureset
    return f"{source.root}: {featureset.backbone}, {featureset.sampled}, D {featureset.dim}"


def _describe_regions(source: Source, num_without: int) -> str:
    """Return which cells can be absent, and how many training segments have none of them."""
    cells = ", ".join(source.featureset.cells)
    return f"{cells}; {num_without:,} training segments have none of them and are seen as plain centre crops"


def _describe_views(source: Source, num_without_all: int) -> str:
    """Return which views training draws from, which one is scored, and how many training segments lack a view."""
    lacking = f"; {num_without_all:,} segments have only some of them" if num_without_all else ""
    return (
        f"one of {', '.join(source.views)} at random in training{lacking}; validation and test with {source.views[0]}"
    )


def _describe_split(split: Split) -> str:
    num_segments = len(split) + split.num_missing
    missing = (
        f" of {num_segments:,} ({split.num_missing:,} have no features and are left out)" if split.num_missing else ""
    )
    size = human_size(split.size_bytes)
    return f"{len(split):,} segments{missing} of {split.segments.source}; their features take {size}"


def _describe_classes(split: Split) -> str:
    """Return how many classes there are, and how uneven they are."""
    parts = []
    for task, num_classes in NUM_CLASSES.items():
        counts = class_counts(split.segments, task)
        seen = counts[counts > 0]
        parts.append(f"{len(seen)} of {num_classes} {task}s, {seen.min():,} to {seen.max():,} segments each")
    return "; ".join(parts)


def _unseen_classes(train: Split, validation: Split) -> str:
    """Return which classes of validation do not occur in training; nothing if all of them do."""
    parts = []
    for task in NUM_CLASSES:
        trained, validated = (getattr(split.segments, f"{task}_class") for split in (train, validation))
        unseen = np.setdiff1d(validated, trained)
        if len(unseen):
            num_segments = int(np.isin(validated, unseen).sum())
            parts.append(f"{len(unseen)} {task}s ({first_few(map(str, unseen))}; {num_segments} segments)")
    return f"never seen in training: {', '.join(parts)}" if parts else ""
