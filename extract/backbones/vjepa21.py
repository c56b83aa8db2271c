"""V-JEPA 2.1: a video transformer trained to predict the features of every part of a clip; the encoder alone.

Mur-Labadia et al., V-JEPA 2.1: Unlocking Dense Features in Video Self-Supervised Learning, 2026. Recall at 5 of
anticipation on EPIC-KITCHENS-100 is 40.8 with the largest encoder (V-JEPA 2: 39.7).

Each encoder has two records with the same weights. In one, rows and columns of patches are rescaled to the grid of the
pretraining, as in training and as torch.hub builds the encoder. In the other (`_plain`), they are counted, as in the
configurations of the published evaluations.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from extract.backbone_input import IMAGENET_MEAN, IMAGENET_STD, ClipShape, Preprocess
from extract.backbones.architecture import TorchModel
from extract.backbones.layout import Layout
from extract.backbones.registry import Backbone, Licence, PublishedFile

if TYPE_CHECKING:
    from extract.backbones.networks.clip_network import ClipNetwork


def _network(
    *, dim: int, depth: int, heads: int, hidden: int, levels: Sequence[int], interpolated: bool
) -> ClipNetwork:
    from extract.backbones.networks.vjepa21 import Encoder, VJepa21

    encoder = Encoder(dim=dim, depth=depth, heads=heads, hidden=hidden, levels=levels)
    return VJepa21(encoder, interpolated=interpolated)


def _backbone(
    size: str,
    model: partial[ClipNetwork],
    file: str,
    *,
    key: str,
    parameters: int,
    gflops: float,
    interpolated: bool,
) -> Backbone:
    """Return the record of an encoder.

    Args:
        file: the name of the published file.
        key: of the averaged weights in that file, which may also hold those of the last training step.
    """
    return Backbone(
        name=f"vjepa21_{size}_384" + ("" if interpolated else "_plain"),
        family="V-JEPA 2.1",
        pretraining="VisionMix163M, self-supervised",
        model=TorchModel(partial(model, interpolated=interpolated)),
        dim=model.keywords["dim"],
        # As in the authors' own evaluation on EPIC-KITCHENS-100. Positions are relative, so that the 64 frames of the
        # pretraining are no limit.
        clip=ClipShape(32, 8.0, 16),
        side=24,
        parameters=parameters,
        gflops=gflops,
        preprocess=Preprocess(
            resize=384 * 256 // 224, crop=(384, 384), mean=IMAGENET_MEAN, std=IMAGENET_STD, antialias=False
        ),
        layout=Layout(
            key=key,
            leave_out=("backbone.patch_embed_img.", "backbone.img_mod_embed"),  # of single images
            rename=((r"^backbone\.", ""),),
        ),
        weights=PublishedFile(f"vjepa2/{file}", f"https://dl.fbaipublicfiles.com/vjepa2/{file}"),
        licence=Licence(code="MIT and Apache-2.0", weights="MIT"),
        source="Mur-Labadia et al., V-JEPA 2.1, 2026",
        num_layers=model.keywords["depth"],
    )


_BASE = partial(_network, dim=768, depth=12, heads=12, hidden=3072, levels=(2, 5, 8, 11))
_LARGE = partial(_network, dim=1024, depth=24, heads=16, hidden=4096, levels=(5, 11, 17, 23))
_GIANT = partial(_network, dim=1408, depth=40, heads=22, hidden=6144, levels=(9, 19, 29, 39))
_GIGANTIC = partial(_network, dim=1664, depth=48, heads=26, hidden=8192, levels=(11, 23, 37, 47))

BACKBONES = tuple(
    _backbone(size, model, file, key=key, parameters=parameters, gflops=gflops, interpolated=interpolated)
    for interpolated in (True, False)
    for size, model, file, key, parameters, gflops in (
        ("base", _BASE, "vjepa2_1_vitb_dist_vitG_384.pt", "ema_encoder", 86_241_792, 2359.0),
        ("large", _LARGE, "vjepa2_1_vitl_dist_vitG_384.pt", "ema_encoder", 303_892_480, 6972.0),
        ("giant", _GIANT, "vjepa2_1_vitg_384.pt", "target_encoder", 1_012_183_808, 18888.0),
        ("gigantic", _GIGANTIC, "vjepa2_1_vitG_384.pt", "target_encoder", 1_843_935_488, 30551.0),
    )
)
