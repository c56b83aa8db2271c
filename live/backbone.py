"""The backbone that made a feature set, loaded again from what the set records, to make more such features.

Whatever differs from the record is an error: features of other weights or of another preprocessing would give
predictions that look plausible and are wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from extract.backbone_input import ClipShape, Preprocess
from extract.backbones import Backbone, get
from extract.backbones.networks.clip_network import ClipNetwork
from extract.backbones.tokens import choose_tokens
from extract.forward import Forward
from extract.provenance import provenance
from extract.sampling import choose_sampling
from extract.views import PLAIN_VIEW
from extract.weights.load import load_backbone
from features.errors import DataError, OptionError
from features.featureset import FeatureSet, Weights, difference

_RANDOM, _LOCAL = "random", "local file"  # revisions of weights that are not published


@dataclass(frozen=True, eq=False)
class SetBackbone:
    """What makes the features of one feature set.

    Attributes:
        shape: of its clips, with the frame rate or the spread of the set.
        device: that `forward` computes on.
    """

    featureset: FeatureSet
    shape: ClipShape
    preprocess: Preprocess
    forward: Forward
    device: torch.device


def load_backbones(
    sets: Mapping[str, tuple[Path, FeatureSet]],
    *,
    weights: Mapping[str, str],
    weights_dir: Path | None,
    device: torch.device,
) -> dict[str, SetBackbone]:
    """Return what makes the features of each set, by its digest; a network that several sets share is loaded once.

    Args:
        sets: digest -> folder and record.
        weights: name of a backbone -> file of its weights, where that is no longer where the record says.
        weights_dir: folder of published weights; None for the caches of their libraries.

    Raises:
        OptionError: `weights` names a backbone that no set is of.
        DataError: a set was imported, or the weights are missing or other ones.
    """
    if unknown := set(weights) - {featureset.backbone for _, featureset in sets.values()}:
        raise OptionError("--weights", f"no feature set of the run is of a backbone {min(unknown)!r}.")
    networks: dict[tuple[str, str], tuple[ClipNetwork, Weights]] = {}
    backbones = {}
    for digest, (root, featureset) in sets.items():
        if featureset.imported is not None:
            raise DataError(
                f"{root}: its features were imported ({featureset.backbone}), so there is no backbone that could make "
                "such features of a video."
            )
        if featureset.regions is not None:
            raise DataError(
                f"{root}: its steps hold regions, such as hands, and where they are in a new video is not known."
            )
        entry = get(featureset.backbone)
        text = _weights_text(root, featureset, weights)
        if (entry.name, text) not in networks:
            networks[entry.name, text] = _loaded(root, entry, text, weights_dir)
        network, loaded = networks[entry.name, text]
        backbones[digest] = _set_backbone(root, featureset, entry, network, loaded, device)
    return backbones


def _weights_text(root: Path, featureset: FeatureSet, given: Mapping[str, str]) -> str:
    """Return the weights as `extract run --weights` takes them."""
    name, recorded = featureset.backbone, featureset.weights
    if name in given:
        return given[name]
    if recorded.revision == _LOCAL and not Path(recorded.source).exists():
        raise DataError(
            f"{root}: the weights of {name} are no longer at {recorded.source}; give --weights {name}=FILE."
        )
    return recorded.source if recorded.revision in (_RANDOM, _LOCAL) else "default"


def _loaded(root: Path, entry: Backbone, text: str, weights_dir: Path | None) -> tuple[ClipNetwork, Weights]:
    try:
        return load_backbone(entry, text, folder=weights_dir)
    except DataError as error:
        raise DataError(f"{root}: {' '.join(str(error).split())}") from error


def _set_backbone(
    root: Path,
    featureset: FeatureSet,
    entry: Backbone,
    network: ClipNetwork,
    loaded: Weights,
    device: torch.device,
) -> SetBackbone:
    if loaded.sha256 != featureset.weights.sha256:
        raise DataError(
            f"{root}: its features were made with other weights of {entry.name} than {loaded.source} (SHA-256 "
            f"{featureset.weights.sha256[:8]} against {loaded.sha256[:8]}); give --weights {entry.name}=FILE."
        )
    sampling = featureset.sampling
    tokens = choose_tokens(featureset.tokens, featureset.layers or None, entry)
    shape = _shape(entry.clip, sampling.clip_fps)
    made = provenance(
        entry,
        loaded,
        choose_sampling(sampling.num_frames or 0, sampling.every_s, shape),
        featureset.precision,
        tokens,
        (PLAIN_VIEW,),
    )
    made = replace(made, digest_views=featureset.digest_views)
    if made.digest != featureset.digest:
        raise DataError(
            f"{root}: this version makes other features than those that the run was trained on "
            f"({difference(featureset, made)})."
        )
    # Half precision is for GPUs; elsewhere its features are computed as exactly as it can be done.
    precision = featureset.precision if device.type == "cuda" else "float32"
    forward = Forward(network, entry.preprocess, device, precision, tokens)
    return SetBackbone(featureset, shape, entry.preprocess, forward, device)


def _shape(clip: ClipShape, clip_fps: float | None) -> ClipShape:
    if clip.num_frames == 1:
        return clip
    return replace(clip, spread=True) if clip_fps is None else replace(clip, fps=clip_fps, spread=False)
