"""What a run keeps on disk to go on from, and to predict with. Knows no loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from features.errors import DataError, OptionError
from features.tensors import load_safely, save_tensors
from heads.config import Look, TrainConfig
from heads.data.chunks import Source
from heads.models.model import Model, Recipe, StreamSpec

BEST = "best_model.pth"


def stream_specs(sources: Sequence[Source]) -> tuple[StreamSpec, ...]:
    """Give feature sets as a model takes them."""
    return tuple(StreamSpec(one.featureset.digest, one.featureset.dim, one.cells) for one in sources)


def recipe_of(config: TrainConfig, sources: Sequence[Source]) -> Recipe:
    """Give what a run's model is made of."""
    return Recipe(config.head, config.head_options, config.separate, stream_specs(sources), config.look)


def save_model(path: Path, recipe: Recipe, model: torch.nn.Module) -> None:
    """Write a trained model whole."""
    save_tensors(path, {"recipe": {**asdict(recipe), "options": dict(recipe.options)}, "model": model.state_dict()})


def load_model(path: Path, *, device: torch.device) -> tuple[Model, Recipe]:
    """Load a trained model onto a device, whichever it was trained on, in evaluation mode.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        content = load_safely(path, device=device)
        recipe = _recipe(content["recipe"])
        model = Model(recipe).to(device)
        model.load_state_dict(content["model"])
    except (DataError, OptionError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: not a trained head ({error}); delete its folder and train again.") from error
    return model.eval(), recipe


def _recipe(record: dict[str, Any]) -> Recipe:
    streams = tuple(StreamSpec(**spec) for spec in record["streams"])
    look = Look(**{**record["look"], "view": tuple(record["look"]["view"])})
    return Recipe(**{**record, "streams": streams, "look": look})


def need_same_streams(path: Path, recipe: Recipe, sources: Sequence[Source]) -> None:
    """Check that feature sets are those that a model was trained on, in their order.

    Raises:
        DataError: one is another.
    """
    found = stream_specs(sources)
    if len(found) != len(recipe.streams):
        raise DataError(f"{path}: trained on {len(recipe.streams)} feature sets; {len(found)} are given.")
    for source, ours, theirs in zip(sources, recipe.streams, found, strict=True):
        if ours.digest != theirs.digest:
            raise DataError(
                f"{path}: trained on other features than {source.root} (digest {ours.digest[:8]} against "
                f"{theirs.digest[:8]})."
            )
