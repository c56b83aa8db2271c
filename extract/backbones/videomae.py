"""VideoMAE: a plain video transformer, trained by filling in masked tubes; fine-tuned or as it was pre-trained.

Tong et al., VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training, NeurIPS
2022.
"""

from __future__ import annotations

import torch
from torch import nn

from extract.backbones import Backbone, Licence, PublishedRepo, register
from extract.backbones.architecture import TransformersModel
from extract.backbones.pooling import pooled_tokens
from extract.preprocess import Preprocess
from extract.sampling import ClipShape


class VideoMae(nn.Module):
    """Tokens averaged over space: (B, C, L, H, W) -> (B, L / 2, grid * grid, D).

    A fine-tuned one normalises after its average (`fc_norm`), and so do we; a pre-trained one normalises each token.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if hasattr(network, "classifier"):
            network.classifier = nn.Identity()
        self.network = network

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        tokens = self.network.base_model(pixel_values=x.transpose(1, 2)).last_hidden_state
        x = pooled_tokens(tokens.unflatten(1, (x.shape[2] // 2, -1)), grid)  # tokens come time first
        return self.network.fc_norm(x) if hasattr(self.network, "fc_norm") else x


_SIZES = {
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    "huge": {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16, "intermediate_size": 5120},
}


def _row(variant: str, repo: str, *, pretraining: str, fps: float, parameters: int, gflops: float) -> None:
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
    register(
        Backbone(
            name=f"videomae_{variant}",
            family="VideoMAE",
            pretraining=pretraining,
            model=TransformersModel(
                model="VideoMAEForVideoClassification" if tuned else "VideoMAEModel",
                config="VideoMAEConfig",
                settings=settings,
                wrap=VideoMae,
                unused=("classifier.",),
            ),
            dim=sizes["hidden_size"],
            clip=ClipShape(16, fps, 8),
            side=14,
            parameters=parameters,
            gflops=gflops,
            preprocess=Preprocess(resize=224, crop=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
            classifier=("classifier.",) if tuned else ("decoder.", "encoder_to_decoder.", "mask_token"),
            weights=PublishedRepo(f"MCG-NJU/{repo}"),
            licence=Licence(code="Apache-2.0", weights="CC-BY-NC-4.0"),
            source="Tong et al., VideoMAE, NeurIPS 2022; transformers",
        )
    )


# Kinetics: every 4th frame of 30 a second. Something-Something: fine-tuned with frames spread over the whole of a
# video, which is some 4 s long; pre-trained with every 2nd of 12 a second.
# fmt: off
_row("base_k400", "videomae-base-finetuned-kinetics", pretraining="Kinetics-400",
     fps=7.5, parameters=86_227_200, gflops=180.0)
_row("base_k400_ssl", "videomae-base", pretraining="Kinetics-400, self-supervised",
     fps=7.5, parameters=86_227_200, gflops=180.0)
_row("base_ssv2", "videomae-base-finetuned-ssv2", pretraining="Something-Something v2",
     fps=4.0, parameters=86_227_200, gflops=180.0)
_row("base_ssv2_ssl", "videomae-base-ssv2", pretraining="Something-Something v2, self-supervised",
     fps=6.0, parameters=86_227_200, gflops=180.0)
_row("large_k400", "videomae-large-finetuned-kinetics", pretraining="Kinetics-400",
     fps=7.5, parameters=303_860_736, gflops=597.0)
_row("large_k400_ssl", "videomae-large", pretraining="Kinetics-400, self-supervised",
     fps=7.5, parameters=303_860_736, gflops=597.0)
_row("huge_k400", "videomae-huge-finetuned-kinetics", pretraining="Kinetics-400",
     fps=7.5, parameters=631_607_040, gflops=1191)
# fmt: on
