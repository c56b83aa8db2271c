"""The contract between the stages: annotations, the feature set on disk, predictions.

    import features

    resnet = features.open("data/features/resnet50-seg16")
    video = resnet["P01_101"]                       # video.features (N, V, D), video.seconds (N,), ...
    dataset = resnet.dataset("EPIC_100_train.csv")  # a torch Dataset of segments

The names below are loaded when they are first used, so `import features` loads no torch, h5py or pandas. The package
needs these and numpy; it never needs av, torchvision or transformers, so a Mac that only trains heads need not have
them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from features.annotations import Segments, read_segments
    from features.errors import DataError, OptionError
    from features.failures import FailureKind
    from features.featureset import FeatureSet
    from features.prediction_formats import PredictionsFile, read_predictions_file
    from features.predictions import Predictions, read_predictions, write_predictions
    from features.reading import OpenFeatureSet, open
    from features.store import VideoFeatures

__version__ = "0.1.0"

__all__ = [
    "DataError",
    "FailureKind",
    "FeatureSet",
    "OpenFeatureSet",
    "OptionError",
    "Predictions",
    "PredictionsFile",
    "Segments",
    "VideoFeatures",
    "open",
    "read_predictions",
    "read_predictions_file",
    "read_segments",
    "write_predictions",
]

_MODULES = {
    "DataError": "errors",
    "FailureKind": "failures",
    "FeatureSet": "featureset",
    "OpenFeatureSet": "reading",
    "OptionError": "errors",
    "Predictions": "predictions",
    "PredictionsFile": "prediction_formats",
    "Segments": "annotations",
    "VideoFeatures": "store",
    "open": "reading",
    "read_predictions": "predictions",
    "read_predictions_file": "prediction_formats",
    "read_segments": "annotations",
    "write_predictions": "predictions",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'features' has no attribute {name!r}")
    return getattr(importlib.import_module(f"features.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
