"""SlowFast and its slow pathway alone, with the weights of PyTorchVideo's model zoo and of EPIC-KITCHENS."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from extract.backbone_input import GREY_MEAN, GREY_STD, ClipShape, Preprocess
from extract.backbones.architecture import TorchModel
from extract.backbones.layout import Layout
from extract.backbones.registry import Backbone, Licence, PublishedFile, PublishedPage

if TYPE_CHECKING:
    from extract.backbones.networks.clip_network import ClipNetwork

_ZOO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics"


def _slow_r50() -> ClipNetwork:
    from extract.backbones.networks.slowfast import Maps, Slow

    return Maps(Slow())


def _slowfast_r50() -> ClipNetwork:
    from extract.backbones.networks.slowfast import Maps, SlowFast

    return Maps(SlowFast())


def _slowfast_r101() -> ClipNetwork:
    from extract.backbones.networks.slowfast import Maps, SlowFast

    return Maps(SlowFast(depths=(3, 4, 23, 3), fusion_kernel=5))


def _backbone(
    name: str,
    make: Callable[[], ClipNetwork],
    file: str,
    *,
    dim: int,
    clip: ClipShape,
    parameters: int,
    gflops: float,
    classifier: str,
) -> Backbone:
    """Return the record of a network whose weights are `file` in PyTorchVideo's model zoo."""
    return Backbone(
        name=name,
        family="SlowFast",
        pretraining="Kinetics-400",
        model=TorchModel(make),
        dim=dim,
        clip=clip,
        side=8,
        parameters=parameters,
        gflops=gflops,
        # PyTorchVideo's tutorial runs them at 256 pixels.
        preprocess=Preprocess(resize=256, crop=(256, 256), mean=GREY_MEAN, std=GREY_STD, antialias=False),
        layout=Layout(leave_out=(classifier,)),
        weights=PublishedFile(revision=f"pytorchvideo model_zoo/kinetics/{file}", url=f"{_ZOO}/{file}"),
        licence=Licence(code="MIT", weights="Apache-2.0"),
        source="Feichtenhofer et al., SlowFast Networks, ICCV 2019; weights of PyTorchVideo",
    )


# PySlowFast's names of the same network.
PYSLOWFAST = Layout(
    leave_out=("head.",),
    rename=(
        *((rf"^s{stage}_fuse\.", f"blocks.{stage - 1}.multipathway_fusion.") for stage in range(1, 5)),
        *(
            (rf"^s{stage}\.pathway(\d)_res(\d+)\.", rf"blocks.{stage - 1}.multipathway_blocks.\1.res_blocks.\2.")
            for stage in range(2, 6)
        ),
        (r"^s1\.pathway(\d)_stem\.", r"blocks.0.multipathway_blocks.\1."),
        (r"\.conv_f2s\.", ".conv_fast_to_slow."),
        (r"\.branch1\.", ".branch1_conv."),
        (r"\.branch1_bn\.", ".branch1_norm."),
        (r"\.branch2\.([abc])\.", r".branch2.conv_\1."),
        (r"\.branch2\.([abc])_bn\.", r".branch2.norm_\1."),
        (r"\.bn\.", ".norm."),
    ),
)

# At 30 frames per second the slow pathway takes 8 frames, every 8th, and the fast pathway 32 frames, every 2nd.
# fmt: off
BACKBONES = (
    _backbone("slow_r50", _slow_r50, "SLOW_8x8_R50.pyth", dim=2048, clip=ClipShape(8, 3.75, 8),
              parameters=31_634_496, gflops=54.5, classifier="blocks.5."),
    _backbone("slowfast_r50", _slowfast_r50, "SLOWFAST_8x8_R50.pyth", dim=2304, clip=ClipShape(32, 15.0, 8),
              parameters=33_644_488, gflops=65.7, classifier="blocks.6."),
    _backbone("slowfast_r101", _slowfast_r101, "SLOWFAST_8x8_R101.pyth", dim=2304, clip=ClipShape(32, 15.0, 8),
              parameters=61_904_968, gflops=126.0, classifier="blocks.6."),
    Backbone(
        name="slowfast_r50_epic",
        family="SlowFast",
        pretraining="Kinetics-400, EPIC-KITCHENS-100",
        model=TorchModel(_slowfast_r50),
        dim=2304,
        clip=ClipShape(32, 30.0, 8),  # every 2nd frame at 60 fps; tested with 10 such clips of a segment
        side=8,
        parameters=33_644_488,
        gflops=65.7,
        # Its frames were read with OpenCV and never converted to RGB.
        preprocess=Preprocess(256, (256, 256), GREY_MEAN, GREY_STD, antialias=False, channels="BGR"),
        layout=PYSLOWFAST,
        weights=PublishedPage("https://github.com/epic-kitchens/epic-kitchens-slowfast", "SlowFast.pyth"),
        licence=Licence(code="CC-BY-NC-SA-4.0", weights="CC-BY-NC-SA-4.0"),
        source="Feichtenhofer et al., SlowFast Networks, ICCV 2019; weights of EPIC-KITCHENS",
        seen_of_epic="labels",
    ),
)
# fmt: on
