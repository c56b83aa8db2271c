"""The options of each head: frozen records with defaults, which check their values. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from heads.registry import need_positive, need_probability


@dataclass(frozen=True)
class MeanPoolConfig:
    """Options of `mean_pool`.

    Attributes:
        dropout: on the averaged features.
    """

    dropout: float = 0.0

    def __post_init__(self) -> None:
        need_probability(self, "dropout")


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
