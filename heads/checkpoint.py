"""What a run keeps on disk to go on from, and to predict with. Knows no loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from features.errors import DataError
from features.tensors import load_safely, save_tensors
from heads.models import build_head
from heads.models.standardised import Standardised

BEST, LAST = "best_model.pth", "last.pth"


@dataclass(frozen=True)
class HeadRecipe:
    """What a model is made of, beside its weights.

    Attributes:
        dim: D of the features it takes.
        featureset: digest of the feature set it was trained on.
    """

    head: str
    options: Mapping[str, Any]
    dim: int
    featureset: str


def build_model(recipe: HeadRecipe) -> Standardised:
    """Build a head with its standardisation, weights random, statistics 0 and 1."""
    head = build_head(recipe.head, recipe.dim, recipe.options)
    return Standardised(head, torch.zeros(recipe.dim), torch.ones(recipe.dim))


def save_model(path: Path, recipe: HeadRecipe, model: nn.Module) -> None:
    """Write a trained model whole."""
    save_tensors(path, {"recipe": {**vars(recipe), "options": dict(recipe.options)}, "model": model.state_dict()})


def load_model(path: Path, *, device: torch.device, featureset: str) -> Standardised:
    """Load a trained model onto a device, whichever it was trained on.

    Raises:
        DataError: the file is missing or damaged, or the model was trained on another feature set.
    """
    try:
        content = load_safely(path, device=device)
        recipe = HeadRecipe(**content["recipe"])
    except (DataError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a trained head ({error}); delete its folder and train again.") from error
    if recipe.featureset != featureset:
        raise DataError(f"{path}: trained on other features (digest {recipe.featureset[:8]} against {featureset[:8]}).")
    model = build_model(recipe).to(device)
    model.load_state_dict(content["model"])
    return model
