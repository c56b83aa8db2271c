"""Any image model of timm: the tokens of its patches, or its last map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from extract.backbones.networks.clip_network import ClipNetwork, LayerTokens


class TimmTokens(ClipNetwork):
    """What `forward_features` of a model of timm gives: (B, 3, 1, H, W) -> the tokens of one step.

    The class token is the one after the last norm. Where a model pools its patches by attention ("map": SigLIP,
    PE core), it is what the model gives before its classifier, if that is as wide as a patch.

    Attributes:
        num_layers: how many blocks `layers` may name; 0 for networks that have no blocks of equal width.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self._num_prefix_tokens = getattr(network, "num_prefix_tokens", 0)
        self._channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"
        blocks = getattr(network, "blocks", None)
        is_plain = hasattr(network, "forward_intermediates") and hasattr(network, "patch_embed")
        self.num_layers = len(blocks) if is_plain and isinstance(blocks, (nn.ModuleList, nn.Sequential)) else 0

    def forward(self, x: torch.Tensor, layers: Sequence[int] = ()) -> tuple[LayerTokens, ...]:
        x = x.squeeze(2)
        if layers:
            return self._intermediate(x, layers)
        features = self.network.forward_features(x)
        if not isinstance(features, torch.Tensor) or features.ndim not in (3, 4):
            raise ValueError("its forward_features gives neither tokens nor a map")
        if features.ndim == 4:
            patches = features if self._channels_last else features.permute(0, 2, 3, 1)
            return (LayerTokens(patches.unsqueeze(1), None),)
        return (LayerTokens(self._patches(features), self._class_token(features)),)

    def _patches(self, tokens: torch.Tensor) -> torch.Tensor:
        patches = tokens[:, self._num_prefix_tokens :]
        side = int(patches.shape[1] ** 0.5)
        if side * side != patches.shape[1]:
            raise ValueError(f"its {patches.shape[1]} tokens are no square map")
        return patches.unflatten(1, (1, side, side))

    def _class_token(self, tokens: torch.Tensor) -> torch.Tensor | None:
        """Return (B, 1, D), or None where the model has no token or pooled vector for the picture as a whole."""
        if getattr(self.network, "attn_pool", None) is not None:
            pooled = self.network.forward_head(tokens, pre_logits=True)
            return pooled.unsqueeze(1) if pooled.shape[-1] == tokens.shape[-1] else None
        return tokens[:, :1] if getattr(self.network, "cls_token", None) is not None else None

    def _intermediate(self, x: torch.Tensor, layers: Sequence[int]) -> tuple[LayerTokens, ...]:
        has_class_token = getattr(self.network, "cls_token", None) is not None
        order = sorted(set(layers))
        features = self.network.forward_intermediates(
            x, indices=order, norm=True, intermediates_only=True, return_prefix_tokens=has_class_token
        )
        tokens = {}
        for layer, feature in zip(order, features, strict=True):
            patches, prefix = feature if has_class_token else (feature, None)
            class_token = None if prefix is None else prefix[:, :1]
            tokens[layer] = LayerTokens(patches.permute(0, 2, 3, 1).unsqueeze(1), class_token)
        return tuple(tokens[layer] for layer in layers)
