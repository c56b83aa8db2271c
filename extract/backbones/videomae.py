"""VideoMAE: a plain video transformer, trained to fill in masked tubes; fine-tuned, or pre-trained only.

Tong et al., VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training, NeurIPS
2022.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extract.backbone_input import IMAGENET_MEAN, IMAGENET_STD, ClipShape, Preprocess
from extract.backbones.architecture import TransformersModel
from extract.backbones.layout import Layout
from extract.backbones.registry import Backbone, Licence, PublishedRepo

if TYPE_CHECKING:
    from extract.backbones.networks.clip_network import ClipNetwork


def _steps(network: Any) -> ClipNetwork:
    from extract.backbones.networks.videomae import VideoMae

    return VideoMae(network)


_SIZES = {
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    "huge": {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16, "intermediate_size": 5120},
}


def _backbone(
    variant: str, repo: str, *, pretraining: str, fps: float, spread: bool = False, parameters: int, gflops: float
) -> Backbone:
    """Return the record of a variant, published as the repository `repo` of MCG-NJU."""
    sizes = _SIZES[variant.split("_", maxsplit=1)[0]]
    tuned = "finetuned" in repo
    settings = {
        **sizes,
        "image_size": 224,
        "patch_size": 16,
        "num_frames": 16,
        "tubelet_size": 2,
        "layer_norm_eps": 1e-12,
        "use_mean_pooling": tuned,
    }
    return Backbone(
        name=f"videomae_{variant}",
        family="VideoMAE",
        pretraining=pretraining,
        model=TransformersModel(
            model="VideoMAEForVideoClassification" if tuned else "VideoMAEModel",
            config="VideoMAEConfig",
            settings=settings,
            wrap=_steps,
            unused=("classifier.",),
        ),
        dim=sizes["hidden_size"],
        clip=ClipShape(16, fps, 8, spread),
        side=14,
        parameters=parameters,
        gflops=gflops,
        preprocess=Preprocess(resize=224, crop=(224, 224), mean=IMAGENET_MEAN, std=IMAGENET_STD),
        layout=Layout(leave_out=("classifier.",) if tuned else ("decoder.", "encoder_to_decoder.", "mask_token")),
        weights=PublishedRepo(f"MCG-NJU/{repo}"),
        licence=Licence(code="Apache-2.0", weights="CC-BY-NC-4.0"),
        source="Tong et al., VideoMAE, NeurIPS 2022; transformers",
        num_layers=sizes["num_hidden_layers"],
    )


# Kinetics: every 4th frame at 30 fps. Something-Something: pre-trained with every 2nd frame at 12 fps; fine-tuned with
# frames spread over a whole video, which is of one action and some 4 s long. The rate is for videos of more than one.
# fmt: off
BACKBONES = (
    _backbone("base_k400", "videomae-base-finetuned-kinetics", pretraining="Kinetics-400",
              fps=7.5, parameters=86_227_200, gflops=180.0),
    _backbone("base_k400_ssl", "videomae-base", pretraining="Kinetics-400, self-supervised",
              fps=7.5, parameters=86_227_200, gflops=180.0),
    _backbone("base_ssv2", "videomae-base-finetuned-ssv2", pretraining="Something-Something v2",
              fps=4.0, spread=True, parameters=86_227_200, gflops=180.0),
    _backbone("base_ssv2_ssl", "videomae-base-ssv2", pretraining="Something-Something v2, self-supervised",
              fps=6.0, parameters=86_227_200, gflops=180.0),
    _backbone("large_k400", "videomae-large-finetuned-kinetics", pretraining="Kinetics-400",
              fps=7.5, parameters=303_860_736, gflops=597.0),
    _backbone("large_k400_ssl", "videomae-large", pretraining="Kinetics-400, self-supervised",
              fps=7.5, parameters=303_860_736, gflops=597.0),
    _backbone("huge_k400", "videomae-huge-finetuned-kinetics", pretraining="Kinetics-400",
              fps=7.5, parameters=631_607_040, gflops=1191),
)
# fmt: on
