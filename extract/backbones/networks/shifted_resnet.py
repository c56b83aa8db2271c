"""A ResNet of torchvision on the frames of a clip, whose blocks see parts of the frames before and after.

Lin et al., TSM: Temporal Shift Module for Efficient Video Understanding, ICCV 2019.
"""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import ResNet

from extract.backbones.networks.clip_network import ClipNetwork, LayerTokens
from extract.backbones.networks.pooling import map_tokens


class Shift(nn.Module):
    """A convolution whose input has an eighth of its channels from the next frame, and one from the frame before.

    At the ends of a clip these channels are 0. Maps a batch of frames, (B * L, C, H, W), whose clips have L frames.
    """

    def __init__(self, net: nn.Module, num_frames: int) -> None:
        super().__init__()
        self.net = net
        self._num_frames = num_frames

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        later, earlier, same = x.unflatten(0, (-1, self._num_frames)).tensor_split(
            (x.shape[1] // 8, x.shape[1] // 4), 2
        )
        later = torch.cat([later[:, 1:], torch.zeros_like(later[:, :1])], dim=1)
        earlier = torch.cat([torch.zeros_like(earlier[:, :1]), earlier[:, :-1]], dim=1)
        return self.net(torch.cat([later, earlier, same], dim=2).flatten(0, 1))


class ShiftedResNet(ClipNetwork):
    """The last maps of a ResNet with a shift in each block: a step per frame."""

    network: ResNet

    def __init__(self, network: ResNet, *, num_frames: int) -> None:
        for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
            for block in layer:
                block.conv1 = Shift(block.conv1, num_frames)
        network.fc = nn.Identity()
        super().__init__(network)

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        net, num_frames = self.network, x.shape[2]
        x = net.maxpool(net.relu(net.bn1(net.conv1(x.transpose(1, 2).flatten(0, 1)))))
        x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        return (map_tokens(x.unflatten(0, (-1, num_frames)).transpose(1, 2)),)
