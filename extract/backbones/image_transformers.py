"""Image transformers, self-supervised (DINOv2, DINOv3) or aligned with text (SigLIP 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from extract.backbone_input import IMAGENET_MEAN, IMAGENET_STD, ClipShape, Preprocess
from extract.backbones.architecture import TransformersModel
from extract.backbones.layout import Layout
from extract.backbones.registry import Backbone, Licence, PublishedRepo

if TYPE_CHECKING:
    from extract.backbones.networks.clip_network import ClipNetwork

_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}


def _dino(num_prefix_tokens: int) -> Callable[[Any], ClipNetwork]:
    """Return the function that wraps a model whose patches follow so many other tokens."""

    def wrap(network: Any) -> ClipNetwork:
        from extract.backbones.networks.image_transformers import Dino

        return Dino(network, num_prefix_tokens=num_prefix_tokens)

    return wrap


def _siglip(network: Any) -> ClipNetwork:
    from extract.backbones.networks.image_transformers import Siglip

    return Siglip(network)


def _dinov2(size: str, *, sizes: dict[str, int], parameters: int, gflops: float) -> Backbone:
    return Backbone(
        name=f"dinov2_{size}",
        family="DINOv2",
        pretraining="LVD-142M, self-supervised",
        model=TransformersModel(
            model="Dinov2Model",
            config="Dinov2Config",
            # The last stage of training was at 518 pixels; positions are interpolated to other sizes.
            settings={**sizes, "image_size": 518, "patch_size": 14, "mlp_ratio": 4, "layer_norm_eps": 1e-6},
            wrap=_dino(1),
        ),
        dim=sizes["hidden_size"],
        clip=ClipShape(),
        side=16,
        parameters=parameters,
        gflops=gflops,
        preprocess=Preprocess(
            resize=256, crop=(224, 224), interpolation="bicubic", mean=IMAGENET_MEAN, std=IMAGENET_STD
        ),
        layout=Layout(),
        weights=PublishedRepo(f"facebook/dinov2-{size}"),
        licence=Licence(code="Apache-2.0", weights="Apache-2.0"),
        source="Oquab et al., DINOv2, TMLR 2024; transformers",
        class_token=True,
        num_layers=sizes["num_hidden_layers"],
    )


def _dinov3(size: str, repo: str, *, sizes: dict[str, int], parameters: int, gflops: float) -> Backbone:
    settings = {
        **sizes,
        "intermediate_size": 4 * sizes["hidden_size"],
        "patch_size": 16,
        "num_register_tokens": 4,
        "layer_norm_eps": 1e-5,
        "rope_theta": 100.0,
        "key_bias": False,
        "use_gated_mlp": False,
    }
    return Backbone(
        name=f"dinov3_{size}",
        family="DINOv3",
        pretraining="LVD-1689M, self-supervised",
        model=TransformersModel(
            model="DINOv3ViTModel",
            config="DINOv3ViTConfig",
            settings=settings,
            wrap=_dino(5),
        ),
        dim=sizes["hidden_size"],
        clip=ClipShape(),
        side=14,
        parameters=parameters,
        gflops=gflops,
        preprocess=Preprocess(resize=(224, 224), crop=None, mean=IMAGENET_MEAN, std=IMAGENET_STD),
        layout=Layout(),
        weights=PublishedRepo(repo, gated=True),
        licence=Licence(code="Apache-2.0", weights="DINOv3 License"),
        source="Siméoni et al., DINOv3, 2025; transformers",
        class_token=True,
        num_layers=sizes["num_hidden_layers"],
    )


def _siglip2(size: str, repo: str, *, sizes: dict[str, int], pixels: int, parameters: int, gflops: float) -> Backbone:
    settings = {
        **sizes,
        "intermediate_size": 4 * sizes["hidden_size"],
        "image_size": pixels,
        "patch_size": 16,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    }
    return Backbone(
        name=f"siglip2_{size}",
        family="SigLIP 2",
        pretraining="WebLI, image and text",
        model=TransformersModel(
            model="SiglipVisionModel",
            config="SiglipVisionConfig",
            settings=settings,
            wrap=_siglip,
        ),
        dim=sizes["hidden_size"],
        clip=ClipShape(),
        side=pixels // 16,
        parameters=parameters,
        gflops=gflops,
        preprocess=Preprocess(resize=(pixels, pixels), crop=None, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        layout=Layout(leave_out=("text_model.", "logit_scale", "logit_bias")),
        weights=PublishedRepo(repo),
        licence=Licence(code="Apache-2.0", weights="Apache-2.0"),
        source="Tschannen et al., SigLIP 2, 2025; transformers",
        class_token=True,
        num_layers=sizes["num_hidden_layers"],
        tokens="mean+cls",
    )


# fmt: off
BACKBONES = (
    _dinov2("base", sizes=_BASE, parameters=86_580_480, gflops=23.2),
    _dinov2("large", sizes=_LARGE, parameters=304_368_640, gflops=81.0),
    _dinov3("base", "facebook/dinov3-vitb16-pretrain-lvd1689m", sizes=_BASE, parameters=85_660_416, gflops=17.9),
    _dinov3("large", "facebook/dinov3-vitl16-pretrain-lvd1689m", sizes=_LARGE, parameters=303_129_600, gflops=62.8),
    _siglip2("base", "google/siglip2-base-patch16-224", sizes=_BASE, pixels=224,
             parameters=92_884_224, gflops=17.7),
    _siglip2("large", "google/siglip2-large-patch16-256", sizes=_LARGE, pixels=256,
             parameters=315_956_224, gflops=81.3),
)
# fmt: on
