"""Any image model of timm: the tokens of its patches, or its last map."""

from __future__ import annotations

import torch
from torch import nn

from extract.backbones.networks.clip_network import ClipNetwork, LayerTokens
from extract.backbones.networks.pooling import patches_of


class TimmTokens(ClipNetwork):
    """What `forward_features` of a model of timm gives for a frame: one step.

    The class token is the one after the last norm. Where a model pools its patches by attention (SigLIP, PE core), it
    is what the model gives before its classifier, if that is as wide as a patch.

    Attributes:
        num_layers: how many blocks `layers` may name; 0 for networks that have no blocks of equal width.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self._num_prefix_tokens = getattr(network, "num_prefix_tokens", 0)
        self._channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"
        self._pools = getattr(network, "attn_pool", None) is not None
        # Of plain transformers timm lists every block, of hierarchical ones every stage.
        blocks = getattr(network, "blocks", ())
        is_plain = hasattr(network, "pos_embed") and len(getattr(network, "feature_info", ())) == len(blocks)
        self.num_layers = len(blocks) if is_plain else 0

    @property
    def classifies_class_token(self) -> bool:
        """Whether the model's own classifier reads the class token, or the pooled one, and not the mean of patches."""
        return getattr(self.network, "global_pool", None) in ("token", "map")

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        x = x.squeeze(2)
        if layers:
            features = self.network.forward_intermediates(
                x, indices=list(layers), norm=True, intermediates_only=True, output_fmt="NLC", return_prefix_tokens=True
            )
            return tuple(self._tokens(self._with_prefix(feature)) for feature in features)
        features = self.network.forward_features(x)
        if not isinstance(features, torch.Tensor) or features.ndim not in (3, 4):
            raise ValueError("its forward_features gives neither tokens nor a map")
        if features.ndim == 4:
            patches = features if self._channels_last else features.permute(0, 2, 3, 1)
            return (LayerTokens(patches.unsqueeze(1)),)
        return (self._tokens(features),)

    def _with_prefix(self, feature: torch.Tensor | tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Return all tokens of a block, of which timm gives those before the patches apart."""
        return feature if isinstance(feature, torch.Tensor) else torch.cat([feature[1], feature[0]], dim=1)

    def _tokens(self, tokens: torch.Tensor) -> LayerTokens:
        """Return the parts of the tokens of B frames, (B, N, D)."""
        return LayerTokens(patches_of(tokens[:, self._num_prefix_tokens :], 1), self._class_token(tokens))

    def _class_token(self, tokens: torch.Tensor) -> torch.Tensor | None:
        """Return (B, 1, D), or None where the model has no token or pooled vector for the frame as a whole."""
        if self._pools:
            pooled = self.network.forward_head(tokens, pre_logits=True)
            return pooled.unsqueeze(1) if pooled.shape[-1] == tokens.shape[-1] else None
        return tokens[:, :1] if getattr(self.network, "cls_token", None) is not None else None
