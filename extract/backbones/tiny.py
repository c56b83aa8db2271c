"""A small untrained convolutional network, to try the whole path where no weights can be downloaded.

Random convolutions followed by rectification and pooling are a weak but honest feature extractor (Jarrett et al.,
"What is the best multi-stage architecture for object recognition?", ICCV 2009). A coarse grid is kept, so that a
step still says where in the picture something is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from extract.backbone_input import GREY_MEAN, GREY_STD, ClipShape, Preprocess
from extract.backbones.architecture import TorchModel
from extract.backbones.layout import Layout
from extract.backbones.registry import Backbone, Licence

if TYPE_CHECKING:
    from extract.backbones.networks.clip_network import ClipNetwork


def _tiny_cnn() -> ClipNetwork:
    from extract.backbones.networks.tiny import TinyCnn

    return TinyCnn()


BACKBONES = (
    Backbone(
        name="tiny_cnn",
        family="untrained",
        pretraining="none",
        model=TorchModel(_tiny_cnn),
        dim=16 * 4 * 6,
        clip=ClipShape(),
        side=1,
        parameters=3_536,
        gflops=0.0017,
        preprocess=Preprocess(resize=(48, 80), crop=None, mean=GREY_MEAN, std=GREY_STD),
        layout=Layout(),
        weights=None,
        licence=Licence(code="MIT", weights="none"),
        source="extract/backbones/tiny.py",
    ),
)
