"""The networks of SlowFast R50 and R101 8x8 and of the slow pathway alone, with PyTorchVideo's parameter names.

Feichtenhofer et al., SlowFast Networks for Video Recognition, ICCV 2019. Written here, so that PyTorchVideo, whose last
release was in 2022, is needed by one test only.
"""

from __future__ import annotations

import torch
from torch import nn

from extract.backbones.networks.clip_network import ClipNetwork, LayerTokens
from extract.backbones.networks.pooling import map_tokens

# Temporal kernel of the first convolution of each block, per stage.
_SLOW_KERNELS = (1, 1, 3, 3)
_FAST_KERNELS = (3, 3, 3, 3)
# The fast pathway has _ALPHA times the frames of the slow one and 1 / _BETA of its channels.
_ALPHA, _BETA = 4, 8


def _conv(
    dim_in: int, dim_out: int, kernel: tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1)
) -> nn.Conv3d:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Conv3d(dim_in, dim_out, kernel, stride, padding, bias=False)


class Stem(nn.Module):
    """The first convolution and pooling: (B, 3, L, H, W) -> (B, D, L, H / 4, W / 4)."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.conv = _conv(3, dim, (kernel, 7, 7), (1, 2, 2))
        self.norm = nn.BatchNorm3d(dim)
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(self.norm(self.conv(x)).relu_())


class Bottleneck(nn.Module):
    """Three convolutions: over time, over space (where the stride is), and up to the width of the stage."""

    def __init__(self, dim_in: int, dim_inner: int, dim_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_a = _conv(dim_in, dim_inner, (kernel, 1, 1))
        self.norm_a = nn.BatchNorm3d(dim_inner)
        self.conv_b = _conv(dim_inner, dim_inner, (1, 3, 3), (1, stride, stride))
        self.norm_b = nn.BatchNorm3d(dim_inner)
        self.conv_c = _conv(dim_inner, dim_out, (1, 1, 1))
        self.norm_c = nn.BatchNorm3d(dim_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm_a(self.conv_a(x)).relu_()
        x = self.norm_b(self.conv_b(x)).relu_()
        return self.norm_c(self.conv_c(x))


class ResBlock(nn.Module):
    """A bottleneck added to a shortcut; the shortcut is a convolution if the width changes."""

    def __init__(self, dim_in: int, dim_inner: int, dim_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        if dim_in != dim_out:
            self.branch1_conv = _conv(dim_in, dim_out, (1, 1, 1), (1, stride, stride))
            self.branch1_norm = nn.BatchNorm3d(dim_out)
        self.branch2 = Bottleneck(dim_in, dim_inner, dim_out, kernel, stride)
        self._has_shortcut = dim_in != dim_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.branch1_norm(self.branch1_conv(x)) if self._has_shortcut else x
        return (shortcut + self.branch2(x)).relu_()


class ResStage(nn.Module):
    """A sequence of blocks, the first of which changes width and size."""

    def __init__(self, depth: int, dim_in: int, dim_inner: int, dim_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        first = ResBlock(dim_in, dim_inner, dim_out, kernel, stride)
        rest = [ResBlock(dim_out, dim_inner, dim_out, kernel, 1) for _ in range(depth - 1)]
        self.res_blocks = nn.ModuleList([first, *rest])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.res_blocks:
            x = block(x)
        return x


class FastToSlow(nn.Module):
    """The lateral connection: the fast map, strided to the frames of the slow map, is concatenated to its channels."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.conv_fast_to_slow = _conv(dim, 2 * dim, (kernel, 1, 1), (_ALPHA, 1, 1))
        self.norm = nn.BatchNorm3d(2 * dim)

    def forward(self, slow: torch.Tensor, fast: torch.Tensor) -> torch.Tensor:
        return torch.cat([slow, self.norm(self.conv_fast_to_slow(fast)).relu_()], dim=1)


class Pathways(nn.Module):
    """The same stage of both pathways, followed by the lateral connection if there is one."""

    def __init__(self, slow: nn.Module, fast: nn.Module, fusion: FastToSlow | None) -> None:
        super().__init__()
        self.multipathway_blocks = nn.ModuleList([slow, fast])
        self.multipathway_fusion = fusion

    def forward(self, slow: torch.Tensor, fast: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        slow, fast = self.multipathway_blocks[0](slow), self.multipathway_blocks[1](fast)
        return (slow if self.multipathway_fusion is None else self.multipathway_fusion(slow, fast)), fast


class SlowFast(nn.Module):
    """The last maps of both pathways: (B, 3, 32, H, W) -> (B, 2048 + 256, 8, H / 32, W / 32).

    The slow pathway sees every fourth frame; the 32 frames of the fast pathway's map are averaged to 8.

    Args:
        depths: blocks per stage: (3, 4, 6, 3) for R50, (3, 4, 23, 3) for R101.
        fusion_kernel: temporal kernel of the lateral connections: 7 in the published R50, 5 in the published R101.
        width: channels of the slow pathway's stem; 64 in all that are published.
    """

    def __init__(
        self, depths: tuple[int, int, int, int] = (3, 4, 6, 3), fusion_kernel: int = 7, width: int = 64
    ) -> None:
        super().__init__()
        dim = width  # of the slow pathway; the lateral connection adds twice the width of the fast pathway
        self.blocks = nn.ModuleList(
            [Pathways(Stem(dim, 1), Stem(dim // _BETA, 5), FastToSlow(dim // _BETA, fusion_kernel))]
        )
        for stage, depth in enumerate(depths):
            inner, out, stride = width * 2**stage, 4 * width * 2**stage, 1 if stage == 0 else 2
            slow = ResStage(depth, dim + 2 * dim // _BETA, inner, out, _SLOW_KERNELS[stage], stride)
            fast = ResStage(depth, dim // _BETA, inner // _BETA, out // _BETA, _FAST_KERNELS[stage], stride)
            fusion = FastToSlow(out // _BETA, fusion_kernel) if stage < 3 else None
            self.blocks.append(Pathways(slow, fast, fusion))
            dim = out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        num_frames = x.shape[2]
        # PyTorchVideo's PackPathway takes frames spread evenly from the first to the last: 0, 4, 8, 13, 17, 22, 26, 31.
        picked = torch.linspace(0, num_frames - 1, num_frames // _ALPHA, device=x.device).long()
        slow, fast = x[:, :, picked], x
        for block in self.blocks:
            slow, fast = block(slow, fast)
        fast = fast.unflatten(2, (-1, _ALPHA)).mean(dim=3)
        return torch.cat([slow, fast], dim=1)


class Slow(nn.Module):
    """The last map of Slow R50, a slow pathway trained alone: (B, 3, 8, H, W) -> (B, 2048, 8, H / 32, W / 32)."""

    def __init__(self, depths: tuple[int, int, int, int] = (3, 4, 6, 3)) -> None:
        super().__init__()
        dim = 64
        self.blocks = nn.ModuleList([Stem(dim, 1)])
        for stage, depth in enumerate(depths):
            inner, out, stride = 64 * 2**stage, 256 * 2**stage, 1 if stage == 0 else 2
            self.blocks.append(ResStage(depth, dim, inner, out, _SLOW_KERNELS[stage], stride))
            dim = out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Maps(ClipNetwork):
    """The last maps of the pathways, concatenated along channels: 8 steps."""

    network: Slow | SlowFast

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        return (map_tokens(self.network(x)),)
