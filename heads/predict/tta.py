"""Test-time augmentation: the mean of what a head says of several glances at the same segments. Knows no file.

A glance is a view of every feature set, and where there are dense ones a place of their windows: where the segment is,
or a little before or after. Annotators' starts and stops scatter by more than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from features.predictions import Predictions
from heads.config import InputSettings
from heads.data.batches import TtaView
from heads.data.chunks import Split
from heads.data.layout import Source
from heads.ensembles.blend import blend, uniform
from heads.models.model import Model
from heads.predict.predicting import predict_logits


def with_all_views(sources: Sequence[Source]) -> tuple[Source, ...]:
    """Give feature sets with all of their views to read, that of plain predictions first."""
    return tuple(
        replace(each, views=(each.views[0], *(set(range(len(each.featureset.views))) - {each.views[0]})))
        for each in sources
    )


def tta_views(sources: Sequence[Source], inputs: InputSettings) -> list[TtaView]:
    """Give all glances at feature sets: each view by name, of all sets that have it, at each place of the windows.

    A set without that view shows the one of plain predictions. The first glance is that of plain predictions. Windows
    move where there are dense sets; where sets are fused early, the first one says when a step is.
    """
    names = [[each.featureset.views[view] for view in each.views] for each in sources]
    plain = tuple(0 for _ in sources)
    named = [
        tuple(known.index(name) if name in known else 0 for known in names)
        for name in dict.fromkeys(name for known in names for name in known)
    ]
    clocks = sources[:1] if inputs.fusion == "early" else sources
    shifts = (0, -1, 1) if any(each.is_dense for each in clocks) else (0,)
    return [TtaView(views, shift) for views in dict.fromkeys([plain, *named]) for shift in shifts]


def predict_tta(model: Model, split: Split, *, source: str, device: torch.device) -> Predictions:
    """Give the mean of a model's probabilities over all glances at a split of sources `with_all_views`."""
    found = []
    for tta_view in tta_views(split.sources, model.settings):
        logits = predict_logits(model, split, device=device, tta_view=tta_view)
        found.append(Predictions(tuple(split.segments.narration_id), logits["verb"], logits["noun"], source))
    if len(found) == 1:
        return found[0]
    return blend(found, uniform(len(found)), "probabilities", source=source)
