"""What a run or a sweep is going to do, in words, before it does it."""

from __future__ import annotations

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
from heads.models.model import Model
from heads.models.saved import model_config_of


def describe(config: TrainConfig, data: TrainData, device: torch.device) -> Iterator[tuple[str, str]]:
    """Give the plan of a run, as names and what is to be said of them."""
    with torch.device("meta"):
        model = Model(model_config_of(config, data.sources))
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    separate = ", one for verbs and one for nouns" if config.separate else ""
    yield "head", f"{config.head}{separate}, {num_parameters:,} parameters"
    for source in data.sources:
        yield "features", _of_source(source)
    yield "training", _of_split(data.train)
    yield "", _of_classes(data.train)
    if data.validation is not None:
        yield "validation", _of_split(data.validation)
        strangers = _unseen_classes(data)
        if strangers:
            yield "", strangers
    if data.test is not None:
        yield "test", _of_split(data.test)
    place = "in memory" if data.train.is_resident else "read a chunk of videos at a time: they do not fit into memory"
    yield "device", f"{device.type}, features {place}"


def _of_source(source: Source) -> str:
    kind = source.featureset.sampling
    sampled = f"every {kind.every_s:g} s" if source.is_dense else f"{kind.num_frames} frames a segment"
    views = "" if source.views == (0,) else f", {len(source.views)} views"
    return f"{source.root}: {source.featureset.backbone}, {sampled}, D {source.featureset.dim}{views}"


def _of_split(split: Split) -> str:
    known = len(split) + split.num_missing
    missing = f" of {known:,} ({split.num_missing:,} have no features and are left out)" if split.num_missing else ""
    return f"{len(split):,} segments{missing} of {split.segments.source}, {human_size(split.size_bytes)}"


def _of_classes(split: Split) -> str:
    """Say how many classes there are, and how uneven they are."""
    parts = []
    for task, num_classes in NUM_CLASSES.items():
        counts = np.bincount(getattr(split.segments, f"{task}_class"), minlength=num_classes)
        seen = counts[counts > 0]
        parts.append(f"{len(seen)} of {num_classes} {task}s, {seen.min():,} to {seen.max():,} segments each")
    return "; ".join(parts)


def _unseen_classes(data: TrainData) -> str:
    """Say which classes of validation training never shows; nothing where it shows all of them."""
    parts = []
    for task in NUM_CLASSES:
        trained, asked = (getattr(split.segments, f"{task}_class") for split in (data.train, data.validation))
        strangers = np.setdiff1d(asked, trained)
        if len(strangers):
            num_segments = int(np.isin(asked, strangers).sum())
            parts.append(f"{len(strangers)} {task}s ({first_few(map(str, strangers))}; {num_segments} segments)")
    return f"never seen in training: {', '.join(parts)}" if parts else ""
