"""TSN and TSM as the baselines of EPIC-KITCHENS-100's action recognition challenge: a ResNet-50 on single frames.

Wang et al., Temporal Segment Networks, ECCV 2016. Lin et al., TSM: Temporal Shift Module for Efficient Video
Understanding, ICCV 2019. Damen et al., Rescaling Egocentric Vision, IJCV 2022.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from extract.backbone_input import IMAGENET_MEAN, ClipShape, Preprocess
from extract.backbones.architecture import TorchModel
from extract.backbones.layout import Layout
from extract.backbones.registry import Backbone, Licence, PublishedPage

if TYPE_CHECKING:
    from extract.backbones.networks.clip_network import ClipNetwork


def _tsn() -> ClipNetwork:
    from torchvision.models import resnet50

    from extract.backbones.networks.torchvision_image import ImageResNet

    return ImageResNet(resnet50())


def _tsm() -> ClipNetwork:
    from torchvision.models import resnet50

    from extract.backbones.networks.shifted_resnet import ShiftedResNet

    return ShiftedResNet(resnet50(), num_frames=8)


# Their classifier is `model.new_fc`.
LAYOUT = Layout(prefix="model.base_model.")
# A slip that the weights were trained with, and that the authors therefore kept: the deviation is the mean.
_INPUT = Preprocess(resize=256, crop=(224, 224), mean=IMAGENET_MEAN, std=IMAGENET_MEAN)
_PAGE = "https://github.com/epic-kitchens/C1-Action-Recognition-TSN-TRN-TSM"

BACKBONES = (
    Backbone(
        name="tsn_r50_epic",
        family="image",
        pretraining="ImageNet-1k, EPIC-KITCHENS-100",
        model=TorchModel(_tsn),
        dim=2048,
        clip=ClipShape(),  # tested with 25 single frames of a segment
        side=7,
        parameters=23_508_032,
        gflops=4.09,
        preprocess=_INPUT,
        layout=LAYOUT,
        weights=PublishedPage(_PAGE, "tsn_rgb.ckpt"),
        licence=Licence(code="CC-BY-NC-4.0", weights="CC-BY-NC-4.0"),
        source="Wang et al., Temporal Segment Networks, ECCV 2016; weights of EPIC-KITCHENS",
        seen_of_epic="labels",
    ),
    Backbone(
        name="tsm_r50_epic",
        family="TSM",
        pretraining="ImageNet-1k, Kinetics-400, EPIC-KITCHENS-100",
        model=TorchModel(_tsm),
        dim=2048,
        # Trained and tested with 8 frames spread over a segment. For whole videos, 4 fps are 8 frames over 2 s, the
        # median length of an action of validation.
        clip=ClipShape(8, 4.0, 8, spread=True),
        side=7,
        parameters=23_508_032,
        gflops=32.7,
        preprocess=_INPUT,
        layout=LAYOUT,
        weights=PublishedPage(_PAGE, "tsm_rgb.ckpt"),
        licence=Licence(code="CC-BY-NC-4.0", weights="CC-BY-NC-4.0"),
        source="Lin et al., TSM, ICCV 2019; weights of EPIC-KITCHENS",
        seen_of_epic="labels",
    ),
)
