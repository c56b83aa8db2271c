"""What video transformers of several publishers share: their linear layers, their positions, the pass through them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from extract.backbones.networks.clip_network import LayerTokens


class QuickGelu(nn.Module):
    """OpenAI's approximation of GELU. It differs by up to 0.02, so a network needs the one that it was trained with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


class Mlp(nn.Module):
    """Two linear layers with an activation between them: (..., D) -> (..., D)."""

    def __init__(self, dim: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = activation
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(x)))


def frame_positions(rows: torch.Tensor, num_frames: int, *, first_rows: bool) -> torch.Tensor:
    """Return an embedding of positions in time for a clip of any length: (T, D) -> (num_frames, D).

    Args:
        rows: as published, one for each frame of the clips that the network was trained with.
        first_rows: whether a shorter clip takes the first rows; otherwise, as for a longer clip, rows are interpolated.
    """
    if num_frames == len(rows) or (first_rows and num_frames < len(rows)):
        return rows[:num_frames]
    return F.interpolate(rows.T.unsqueeze(0), num_frames, mode="linear", align_corners=False)[0].T


def with_positions(
    patches: torch.Tensor, class_token: torch.Tensor, places: torch.Tensor, moments: torch.Tensor
) -> torch.Tensor:
    """Return a class token and patches, each with its position: (B, L, N, D) -> (B, 1 + L * N, D).

    Args:
        class_token: (D,).
        places: (1 + N, D), the first of the class token, which has no position in time.
        moments: (L, D).
    """
    patches = patches + places[1:] + moments.unsqueeze(1)
    return torch.cat([(class_token + places[0]).expand(len(patches), 1, -1), patches.flatten(1, 2)], dim=1)


def tokens_of_layers(
    x: torch.Tensor,
    blocks: Sequence[Callable[[torch.Tensor], torch.Tensor]],
    norm: nn.Module,
    *,
    layers: Sequence[int],
    size: tuple[int, int, int],
) -> tuple[LayerTokens, ...]:
    """Return the normalised tokens of some blocks, in the order of `layers`.

    Args:
        x: what the first block takes, (B, 1 + P * h * w, D): a class token, and the patches, frame by frame.
        layers: numbers of blocks, from 0; none for the last block.
        size: P, h and w.
    """
    wanted = list(layers) or [len(blocks) - 1]
    kept = {}
    for number in range(max(wanted) + 1):
        x = blocks[number](x)
        if number in wanted:
            tokens = norm(x)
            kept[number] = LayerTokens(patches=tokens[:, 1:].unflatten(1, size), class_token=tokens[:, :1])
    return tuple(kept[number] for number in wanted)


class PatchEmbedding(nn.Module):
    """Patches as tokens: (B, 3, L, H, W) -> (B, D, L / l, H / h, W / w) for patches of l frames, h x w pixels."""

    def __init__(self, dim: int, size: tuple[int, int, int]) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, dim, size, stride=size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x)
