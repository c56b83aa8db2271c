"""Test-time augmentation: the mean of a head's predictions over several test views of the same segments.

A test view is a view of every feature set and, with dense sets, a position of their windows: at the segment, or a
little before or after. Annotators' starts and stops scatter by more than that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from features.predictions import Predictions
from features.views import is_random
from heads.config import InputSettings
from heads.data.batches import TtaView
from heads.data.chunks import Split
from heads.data.layout import Source
from heads.ensembles.blend import blend, uniform
from heads.models.model import Model
from heads.predict.predicting import predict


def with_all_views(sources: Sequence[Source], chosen: Sequence[str] = ()) -> tuple[Source, ...]:
    """Return feature sets with their test views to read, the view of plain predictions first.

    Args:
        chosen: names of the views that the run was told to read. Random augmentations are for training, and are test
            views only if they are among these.
    """

    def views(source: Source) -> tuple[str, ...]:
        plain, own = source.views[0], source.featureset.views
        return (plain, *(view for view in own if view != plain and (view in chosen or not is_random(view))))

    return tuple(replace(source, views=views(source)) for source in sources)


def tta_views(sources: Sequence[Source], inputs: InputSettings) -> list[TtaView]:
    """Return all test views: each view by name, of all sets that have it, at each position of the windows.

    A set or a video without that view contributes its view of plain predictions. The first test view is that of plain
    predictions.
    Windows move in dense sets; with early fusion, they move if the first set is dense. Windows that segments share do
    not: segments are in many of them already.
    """
    names = [source.views for source in sources]
    plain = tuple(0 for _ in sources)
    named = [
        tuple(own.index(name) if name in own else 0 for own in names)
        for name in dict.fromkeys(name for own in names for name in own)
    ]
    clocks = sources[:1] if inputs.fusion == "early" else sources
    shifts = (0, -1, 1) if inputs.window is None and any(source.is_dense for source in clocks) else (0,)
    return [TtaView(views, shift) for views in dict.fromkeys([plain, *named]) for shift in shifts]


def predict_tta(model: Model, split: Split, *, source: str, device: torch.device) -> Predictions:
    """Return the mean of a model's probabilities over all test views of a split of sources `with_all_views`."""
    views = tta_views(split.sources, model.settings)

    def by_view() -> Iterator[Predictions]:
        for tta_view in views:
            yield predict(model, split, source=source, device=device, tta_view=tta_view)

    if len(views) == 1:
        return next(by_view())
    return blend(by_view(), uniform(len(views)), "probabilities", source=source)
