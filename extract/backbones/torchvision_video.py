"""Video networks of torchvision: a clip in, the last map averaged over space out, its temporal axis kept.

Preprocessing and addresses are those of torchvision's own weights (`R3D_18_Weights.KINETICS400_V1.transforms()` and
`.url`), written out so that the table can be listed without loading torchvision; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from extract.backbone_input import GREY_MEAN, GREY_STD, IMAGENET_MEAN, IMAGENET_STD, ClipShape, Preprocess
from extract.backbones.architecture import TorchModel
from extract.backbones.layout import Layout
from extract.backbones.registry import Backbone, Licence, PublishedFile

if TYPE_CHECKING:
    from extract.backbones.networks.clip_network import ClipNetwork

# Frame rates and lengths are those that torchvision tested its weights with (the `_docs` of each).
_R3D = "Tran et al., A Closer Look at Spatiotemporal Convolutions, CVPR 2018"
_MVIT = "Fan et al., Multiscale Vision Transformers, ICCV 2021"
_MVIT_V2 = "Li et al., MViTv2, CVPR 2022"
_SWIN = "Liu et al., Video Swin Transformer, CVPR 2022"
# torchvision tested S3D with 128 frames, 8.5 s, which is three actions of a kitchen; it was trained with 64 (Xie et
# al.).
_S3D = "Xie et al., Rethinking Spatiotemporal Feature Learning, ECCV 2018"

# torchvision's video presets resize without antialiasing (torchvision.transforms._presets.VideoClassification).
_KINETICS_MEAN, _KINETICS_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
_R3D_INPUT = Preprocess((128, 171), (112, 112), _KINETICS_MEAN, _KINETICS_STD, antialias=False)
_S3D_INPUT = Preprocess((256, 256), (224, 224), _KINETICS_MEAN, _KINETICS_STD, antialias=False)
_MVIT_INPUT = Preprocess(256, (224, 224), GREY_MEAN, GREY_STD, antialias=False)
_SWIN_INPUT = Preprocess(256, (224, 224), IMAGENET_MEAN, IMAGENET_STD, antialias=False)


def _resnet(name: str) -> ClipNetwork:
    from torchvision.models import get_model

    from extract.backbones.networks.torchvision_video import ResNetSteps

    return ResNetSteps(get_model(name))


def _s3d(name: str) -> ClipNetwork:
    from torchvision.models import get_model

    from extract.backbones.networks.torchvision_video import S3dSteps

    return S3dSteps(get_model(name))


def _mvit(name: str) -> ClipNetwork:
    from torchvision.models import get_model

    from extract.backbones.networks.torchvision_video import MvitSteps

    return MvitSteps(get_model(name))


def _swin(name: str) -> ClipNetwork:
    from torchvision.models import get_model

    from extract.backbones.networks.torchvision_video import SwinSteps

    return SwinSteps(get_model(name))


def _backbone(
    name: str,
    make: Callable[[str], ClipNetwork],
    *,
    revision: str,
    file: str,
    family: str,
    pretraining: str = "Kinetics-400",
    dim: int,
    clip: ClipShape,
    parameters: int,
    gflops: float,
    classifier: str,
    preprocess: Preprocess,
    source: str,
) -> Backbone:
    """Return the record of a network that torchvision calls `name`; `make` builds it by that name."""
    return Backbone(
        name=name,
        family=family,
        pretraining=pretraining,
        model=TorchModel(lambda: make(name)),
        dim=dim,
        clip=clip,
        side=7,
        parameters=parameters,
        gflops=gflops,
        preprocess=preprocess,
        layout=Layout(leave_out=(classifier,)),
        weights=PublishedFile(revision=revision, url=f"https://download.pytorch.org/models/{file}"),
        licence=Licence(code="BSD-3-Clause", weights="Kinetics' terms"),
        source=f"{source}; torchvision",
        class_token=family == "MViT",
    )


# fmt: off
BACKBONES = (
    _backbone("r3d_18", _resnet, family="3D CNN", revision="R3D_18_Weights.KINETICS400_V1",
              file="r3d_18-b3b3357e.pth", dim=512, clip=ClipShape(16, 15.0, 2), parameters=33_166_272, gflops=40.7,
              classifier="fc.", preprocess=_R3D_INPUT, source=_R3D),
    _backbone("mc3_18", _resnet, family="3D CNN", revision="MC3_18_Weights.KINETICS400_V1",
              file="mc3_18-a90a0ba3.pth", dim=512, clip=ClipShape(16, 15.0, 16), parameters=11_490_240, gflops=43.3,
              classifier="fc.", preprocess=_R3D_INPUT, source=_R3D),
    _backbone("r2plus1d_18", _resnet, family="3D CNN", revision="R2Plus1D_18_Weights.KINETICS400_V1",
              file="r2plus1d_18-91a641e6.pth", dim=512, clip=ClipShape(16, 15.0, 2), parameters=31_300_125,
              gflops=40.5, classifier="fc.", preprocess=_R3D_INPUT, source=_R3D),
    _backbone("s3d", _s3d, family="3D CNN", revision="S3D_Weights.KINETICS400_V1",
              file="s3d-d76dad2f.pth", dim=1024, clip=ClipShape(64, 15.0, 8), parameters=7_910_048, gflops=71.9,
              classifier="classifier.", preprocess=_S3D_INPUT, source=_S3D),
    _backbone("mvit_v1_b", _mvit, family="MViT", revision="MViT_V1_B_Weights.KINETICS400_V1",
              file="mvit_v1_b-dbeb1030.pth", dim=768, clip=ClipShape(16, 7.5, 8), parameters=36_303_072, gflops=70.6,
              classifier="head.", preprocess=_MVIT_INPUT, source=_MVIT),
    _backbone("mvit_v2_s", _mvit, family="MViT", revision="MViT_V2_S_Weights.KINETICS400_V1",
              file="mvit_v2_s-ae3be167.pth", dim=768, clip=ClipShape(16, 7.5, 8), parameters=34_230_144, gflops=64.2,
              classifier="head.", preprocess=_MVIT_INPUT, source=_MVIT_V2),
    _backbone("swin3d_t", _swin, family="Swin3D", revision="Swin3D_T_Weights.KINETICS400_V1",
              file="swin3d_t-7615ae03.pth", dim=768, clip=ClipShape(32, 15.0, 16), parameters=27_850_470, gflops=87.8,
              classifier="head.", preprocess=_SWIN_INPUT, source=_SWIN),
    _backbone("swin3d_s", _swin, family="Swin3D", revision="Swin3D_S_Weights.KINETICS400_V1",
              file="swin3d_s-da41c237.pth", dim=768, clip=ClipShape(32, 15.0, 16), parameters=49_509_078, gflops=166.0,
              classifier="head.", preprocess=_SWIN_INPUT, source=_SWIN),
    _backbone("swin3d_b", _swin, family="Swin3D", revision="Swin3D_B_Weights.KINETICS400_IMAGENET22K_V1",
              file="swin3d_b_22k-7c6ae6fa.pth", pretraining="ImageNet-22k, Kinetics-400", dim=1024,
              clip=ClipShape(32, 15.0, 16), parameters=87_638_984, gflops=281.0,
              classifier="head.", preprocess=_SWIN_INPUT, source=_SWIN),
)
# fmt: on
