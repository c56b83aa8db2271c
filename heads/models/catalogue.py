"""All heads: small networks that turn the steps of a segment into logits of its verb and its noun. Loads no torch.

Each entry has a name, a record of options, and a function that imports the network and builds it. The first line of the
function's docstring is what `heads list` prints. To add a head, write its network in a file of its own and add an entry
here.

Contract: a head is built as network(shape, config), and forward(Steps) gives logits by task, for the tasks of that
HeadShape (heads/data/steps.py). What lies in the padding changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from heads.registry import Registry, need_positive, need_probability

if TYPE_CHECKING:
    from torch import nn

    from heads.models.shape import HeadShape

_HEADS = Registry("head", option="--head", set_option="--set")
register, names, get, head_config = _HEADS.register, _HEADS.names, _HEADS.get, _HEADS.config
parse_head, describe_heads = _HEADS.parse_spec, _HEADS.describe


def build_head(name: str, shape: HeadShape, options: Mapping[str, int | float], *, separate: bool = False) -> nn.Module:
    """Return a head with random weights; with `separate`, one head per task, which share nothing."""
    from heads.models.separate import Separate

    entry = get(name)
    build = partial(entry.build, config=entry.config(**options))
    return Separate(shape, build) if separate else build(shape)


@dataclass(frozen=True)
class MeanPoolConfig:
    """Options of `mean_pool`.

    Attributes:
        dropout: on the averaged features.
    """

    dropout: float = 0.0

    def __post_init__(self) -> None:
        need_probability(self, "dropout")


@register("mean_pool", MeanPoolConfig)
def mean_pool(shape: HeadShape, config: MeanPoolConfig) -> nn.Module:
    """The average of the steps and a linear layer per task. Ignores their order: the baseline to beat."""
    from heads.models.mean_pool import MeanPool

    return MeanPool(shape, config)


@dataclass(frozen=True)
class MlpConfig:
    """Options of `mlp`.

    Attributes:
        hidden: units of a hidden layer.
        layers: number of hidden layers.
        dropout: after each of them.
    """

    hidden: int = 1024
    layers: int = 1
    dropout: float = 0.5

    def __post_init__(self) -> None:
        need_positive(self, "hidden", "layers")
        need_probability(self, "dropout")


@register("mlp", MlpConfig)
def mlp(shape: HeadShape, config: MlpConfig) -> nn.Module:
    """Hidden layers on the average of the steps. Ignores their order too."""
    from heads.models.mlp import Mlp

    return Mlp(shape, config)


@dataclass(frozen=True)
class BiLstmConfig:
    """Options of `bilstm`.

    Attributes:
        hidden: units per direction.
        layers: number of stacked layers.
        dropout: between layers and before the classifiers.
    """

    hidden: int = 1024
    layers: int = 2
    dropout: float = 0.3

    def __post_init__(self) -> None:
        need_positive(self, "hidden", "layers")
        need_probability(self, "dropout")


@register("bilstm", BiLstmConfig)
def bilstm(shape: HeadShape, config: BiLstmConfig) -> nn.Module:
    """A bidirectional LSTM over the steps; its outputs are averaged over time, with a linear layer per task."""
    from heads.models.bilstm import BiLstm

    return BiLstm(shape, config)


@dataclass(frozen=True)
class MultiscaleLstmConfig:
    """Options of `multiscale_lstm`.

    Attributes:
        hidden: units per direction of each branch.
        layers: number of stacked layers in each branch.
        dropout: between layers, and before and after the layer that fuses the branches.
    """

    hidden: int = 512
    layers: int = 2
    dropout: float = 0.3

    def __post_init__(self) -> None:
        need_positive(self, "hidden", "layers")
        need_probability(self, "dropout")


@register("multiscale_lstm", MultiscaleLstmConfig)
def multiscale_lstm(shape: HeadShape, config: MultiscaleLstmConfig) -> nn.Module:
    """Three bidirectional LSTMs, over every step, every 2nd and every 4th; their averages over time are fused."""
    from heads.models.multiscale_lstm import MultiscaleLstm

    return MultiscaleLstm(shape, config)


@dataclass(frozen=True)
class AttentiveConfig:
    """Options of `attentive`.

    Attributes:
        width: values pooled per task.
        attention_heads: number of attention heads that these values come from.
        layers: number of feed-forward layers after pooling; 0 for a probe that is linear but for its attention.
        hidden: units of each feed-forward layer.
        dropout: in each of them, and before the classifiers.
    """

    width: int = 512
    attention_heads: int = 8
    layers: int = 0
    hidden: int = 1024
    dropout: float = 0.3

    def __post_init__(self) -> None:
        need_positive(self, "width", "attention_heads", "hidden")
        need_probability(self, "dropout")
        if self.layers < 0:
            raise ValueError(f"layers is {self.layers}, not 0 or more.")
        if self.width % self.attention_heads:
            raise ValueError(f"width is {self.width}, not a multiple of {self.attention_heads} attention heads.")


@register("attentive", AttentiveConfig)
def attentive(shape: HeadShape, config: AttentiveConfig) -> nn.Module:
    """Attentive pooling, the probe of frozen backbones: a learned query per task weighs every cell of every step."""
    from heads.models.attentive import Attentive

    return Attentive(shape, config)


@dataclass(frozen=True)
class TcnConfig:
    """Options of `tcn`. With 4 layers a step sees 15 steps to either side: all of 16.

    Attributes:
        width: values of a step inside.
        layers: number of layers, of dilation 1, 2, 4, ...
        dropout: in each layer, and before the classifiers.
    """

    width: int = 512
    layers: int = 4
    dropout: float = 0.3

    def __post_init__(self) -> None:
        need_positive(self, "width", "layers")
        need_probability(self, "dropout")


@register("tcn", TcnConfig)
def tcn(shape: HeadShape, config: TcnConfig) -> nn.Module:
    """Dilated temporal convolutions with residuals: each layer sees twice as far to both sides as the one before."""
    from heads.models.tcn import Tcn

    return Tcn(shape, config)


@dataclass(frozen=True)
class TransformerConfig:
    """Options of `transformer`.

    Attributes:
        width: values of a step inside.
        layers: number of self-attention layers, before the one of the queries.
        attention_heads: of each layer.
        hidden: units of each feed-forward part.
        dropout: after each part, and before the classifiers.
    """

    width: int = 512
    layers: int = 2
    attention_heads: int = 8
    hidden: int = 1024
    dropout: float = 0.3

    def __post_init__(self) -> None:
        need_positive(self, "width", "layers", "attention_heads", "hidden")
        need_probability(self, "dropout")
        if self.width % (2 * self.attention_heads):
            raise ValueError(f"width is {self.width}, not a multiple of twice {self.attention_heads} attention heads.")


@register("transformer", TransformerConfig)
def transformer(shape: HeadShape, config: TransformerConfig) -> nn.Module:
    """A transformer over the steps, read out by a learned query per task. Time enters as seconds between steps."""
    from heads.models.transformer import Transformer

    return Transformer(shape, config)
