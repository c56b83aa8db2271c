"""Trained models on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from features.errors import DataError, OptionError, UnreadableError
from features.tensors import load_safely, save_tensors
from heads.config import InputSettings, TrainConfig
from heads.data.layout import Source
from heads.data.load import TrainData
from heads.models.model import Model, ModelConfig, StreamSpec

BEST = "best_model.pth"


def stream_specs(sources: Sequence[Source]) -> tuple[StreamSpec, ...]:
    """Return the records of feature sets that a model is built from."""
    return tuple(
        StreamSpec(source.featureset.digest, source.featureset.dim, source.cells, source.has_regions)
        for source in sources
    )


def model_config_of(config: TrainConfig, data: TrainData) -> ModelConfig:
    """Return the configuration of a run's model.

    Raises:
        OptionError: as for `TrainData.pairs`.
    """
    pairs = tuple((verb, noun) for verb, noun in data.pairs(config).tolist())
    streams = stream_specs(data.sources)
    return ModelConfig(config.head, config.head_options, config.separate, streams, config.inputs, pairs)


def save_model(path: Path, model_config: ModelConfig, model: torch.nn.Module) -> None:
    """Write a trained model; the file is there whole or not at all."""
    config = {**asdict(model_config), "options": dict(model_config.options)}
    save_tensors(path, {"config": config, "model": model.state_dict()})


def load_model(path: Path, *, device: torch.device) -> tuple[Model, ModelConfig]:
    """Return a trained model in evaluation mode, on any device, and its configuration.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        content = load_safely(path, device=device)
        model_config = _model_config(content)
        model = Model(model_config).to(device)
        model.load_state_dict(content["model"])
    except UnreadableError:
        raise
    except (DataError, OptionError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: not a trained head ({error}); delete its folder and train again.") from error
    return model.eval(), model_config


def _model_config(content: dict[str, Any]) -> ModelConfig:
    # In checkpoints from before version 0.2 the record is called "recipe", and the input settings in it "look".
    record = dict(content["config"] if "config" in content else content["recipe"])
    inputs = dict(record.pop("inputs" if "inputs" in record else "look"))
    streams = tuple(StreamSpec(**spec) for spec in record.pop("streams"))
    pairs = tuple((verb, noun) for verb, noun in record.pop("pairs", ()))
    settings = InputSettings(**{**inputs, "view": tuple(inputs["view"])})
    return ModelConfig(**record, streams=streams, inputs=settings, pairs=pairs)


def need_same_streams(path: Path, model_config: ModelConfig, sources: Sequence[Source]) -> None:
    """Check that feature sets are those that a model was trained on, in the same order.

    Raises:
        DataError: the number of feature sets differs, or the digest of one.
    """
    if len(sources) != len(model_config.streams):
        raise DataError(f"{path}: trained on {len(model_config.streams)} feature sets; {len(sources)} are given.")
    for source, trained in zip(sources, model_config.streams, strict=True):
        digest = source.featureset.digest
        if digest != trained.digest:
            raise DataError(
                f"{path}: trained on other features than {source.root} (digest {trained.digest[:8]} against "
                f"{digest[:8]})."
            )
