"""The record of the features that an extraction makes: what the numbers depend on, and with which software."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version

from extract.backbones import Backbone
from extract.backbones.tokens import Tokens
from extract.regions.crops import Regions
from extract.views import View
from extract.weights.supervision import supervision_of
from features.featureset import FeatureSet, Sampling, Weights


def provenance(
    entry: Backbone, weights: Weights, sampling: Sampling, precision: str, tokens: Tokens, views: Sequence[View]
) -> FeatureSet:
    """Return the record of the features that a backbone makes with these settings."""
    packages = ("epic-heads", "torch", "torchvision", "transformers", "timm", "av")
    return FeatureSet(
        backbone=entry.name,
        weights=weights,
        preprocess=entry.preprocess.as_json(),
        precision=precision,
        sampling=sampling,
        dim=entry.dim * len(tokens.cells),
        tokens=tokens.text,
        layers=tokens.layers,
        views=tuple(view.name for view in views),
        view_parameters={view.name: view.parameters for view in views if view.parameters},
        supervision=supervision_of(entry, weights),
        versions={
            "python": platform.python_version(),
            **{name: number for name in packages if (number := _version(name)) is not None},
        },
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def of_regions(record: FeatureSet, regions: Regions, boxes: str) -> FeatureSet:
    """Return the record of a set whose steps hold these regions side by side."""
    return replace(
        record,
        dim=record.dim * len(regions.names),
        cells=tuple(f"{region}:{cell}" for region in regions.names for cell in record.cells),
        regions=regions.as_json(boxes),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # transformers, which not every backbone needs
        return None
