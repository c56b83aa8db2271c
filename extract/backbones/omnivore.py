"""Omnivore: a video Swin Transformer for images, depth and videos, fine-tuned on EPIC-KITCHENS-100.

Girdhar et al., Omnivore: A Single Model for Many Visual Modalities, CVPR 2022. The network is torchvision's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from extract.backbone_input import IMAGENET_MEAN, IMAGENET_STD, ClipShape, Preprocess
from extract.backbones.architecture import TorchModel
from extract.backbones.layout import Layout
from extract.backbones.registry import Backbone, Licence, PublishedFile

if TYPE_CHECKING:
    from extract.backbones.networks.clip_network import ClipNetwork


def _swin_base() -> ClipNetwork:
    from torchvision.models.video import SwinTransformer3d

    from extract.backbones.networks.torchvision_video import SwinSteps

    sizes = {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32]}
    return SwinSteps(SwinTransformer3d(patch_size=[2, 4, 4], window_size=[16, 7, 7], **sizes))


# Stages of blocks and the merging of patches after each are one list in torchvision. The patches of depth maps, which
# files for several tasks have, are not needed for videos.
LAYOUT = Layout(
    key="trunk",
    leave_out=("depth_patch_embed.",),
    rename=(
        *((rf"^layers\.{stage}\.blocks\.", f"features.{2 * stage}.") for stage in range(4)),
        *((rf"^layers\.{stage}\.downsample\.", f"features.{2 * stage + 1}.") for stage in range(4)),
        (r"\.mlp\.fc1\.", ".mlp.0."),
        (r"\.mlp\.fc2\.", ".mlp.3."),
    ),
)

BACKBONES = (
    Backbone(
        name="omnivore_swinb_epic",
        family="Swin3D",
        pretraining="ImageNet-21k, Kinetics-400, SUN RGB-D, EPIC-KITCHENS-100",
        model=TorchModel(_swin_base),
        dim=1024,
        # Every 2nd frame at 30 fps, whatever the length of the segment: its authors' example takes 32 frames of 2 s.
        clip=ClipShape(32, 15.0, 16),
        side=7,
        parameters=88_655_688,
        gflops=320.0,
        preprocess=Preprocess(224, (224, 224), IMAGENET_MEAN, IMAGENET_STD, antialias=False),
        layout=LAYOUT,
        weights=PublishedFile(
            revision="omnivore_swinB_epic",
            url="https://dl.fbaipublicfiles.com/omnivore/models/swinB_epic_checkpoint.torch",
        ),
        licence=Licence(code="CC-BY-NC-4.0", weights="CC-BY-NC-4.0"),
        source="Girdhar et al., Omnivore, CVPR 2022; network of torchvision",
        seen_of_epic="labels",
    ),
)
