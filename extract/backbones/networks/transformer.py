"""What the vision transformers of the transformers library share: the tokens of several layers in one forward pass."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from extract.backbones.networks.clip_network import ClipNetwork


class TransformerNetwork(ClipNetwork):
    """A network of the transformers library whose blocks follow one another and end in one norm."""

    def last_tokens(self, x: torch.Tensor) -> torch.Tensor:
        """Run the network and return the tokens after its last norm: (B, C, L, H, W) -> (B, N, D)."""
        raise NotImplementedError

    def normalised(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the tokens of a block after the network's last norm."""
        raise NotImplementedError

    def tokens_of(self, x: torch.Tensor, layers: tuple[int, ...]) -> list[torch.Tensor]:
        """Return the normalised tokens of each layer, (B, N, D); those of the last one if none is named.

        `output_hidden_states` of the library would keep those of all layers: a gigabyte for a clip of V-JEPA 2 g.
        """
        # Where the blocks are, and what they return, changed between versions. Each network has one list of them.
        (blocks,) = [module for module in self.network.modules() if isinstance(module, nn.ModuleList)]
        last = len(blocks) - 1
        kept: dict[int, torch.Tensor] = {}
        hooks = [blocks[layer].register_forward_hook(partial(_keep, kept, layer)) for layer in layers if layer != last]
        try:
            kept[last] = self.last_tokens(x)
        finally:
            for hook in hooks:
                hook.remove()
        return [kept[layer] if layer == last else self.normalised(kept[layer]) for layer in layers or (last,)]


def _keep(kept: dict[int, torch.Tensor], layer: int, block: nn.Module, inputs: object, output: Any) -> None:
    kept[layer] = output[0] if isinstance(output, tuple) else output
