"""The options of each head: frozen records with defaults, which check their values. Loads no torch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from heads.registry import need_between, need_not_negative, need_positive, need_probability

# The number of training segments from which on heads have their full width; EPIC-KITCHENS-100 has 67,217.
_MANY_SEGMENTS = 50_000
Options = TypeVar("Options", bound="HeadOptions")


@dataclass(frozen=True)
class HeadOptions:
    """What the records of all heads have.

    Attributes:
        is_fitted: whether the head is fitted to convergence, instead of trained in epochs.
        masks_cells: whether the head leaves out cells that lack their region (heads/models/regions.py). Other heads see
            them, and are told the share of steps with a region as one more input.
        reads_windows: whether it reads windows that segments share, instead of each segment's own steps.
        lr: peak learning rate where --lr names none.
        widest: option -> its value with many training segments, of the options whose 0 means: by their number
            (`for_segments`); the first one is the head's width.
        narrowest: the smallest such width.
        positive: options that are 1 or more.
    """

    is_fitted: ClassVar[bool] = False
    masks_cells: ClassVar[bool] = False
    reads_windows: ClassVar[bool] = False
    lr: ClassVar[float] = 1e-3
    widest: ClassVar[dict[str, int]] = {}
    narrowest: ClassVar[int] = 128
    positive: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        need_not_negative(self, *self.widest)
        need_positive(self, *self.positive)
        if hasattr(self, "dropout"):
            need_probability(self, "dropout")

    def for_segments(self: Options, num_segments: int | None) -> Options:
        """Return the options with the sizes that are left open chosen for a number of training segments, None for many.

        Widths are in proportion to the root of the number of segments, rounded to powers of two, and full at 50,000.
        docs/results.md says what that was chosen against.
        """
        share = 1.0
        if num_segments is not None and self.widest:
            share = max(_share_for(num_segments), self.narrowest / next(iter(self.widest.values())))
        chosen = {option: int(most * share) for option, most in self.widest.items() if not getattr(self, option)}
        return dataclasses.replace(self, **chosen)


def _share_for(num_segments: int) -> float:
    """Return the share of its full width that a head has, a power of two.

    >>> [_share_for(num_segments) for num_segments in (761, 3_000, 12_500, 67_217)]
    [0.125, 0.25, 0.5, 1.0]
    """
    return min(1.0, 2.0 ** round(math.log2(math.sqrt(max(num_segments, 1) / _MANY_SEGMENTS))))


@dataclass(frozen=True)
class MeanPoolConfig(HeadOptions):
    """Options of `mean_pool`.

    Attributes:
        dropout: on the averaged features.
    """

    lr: ClassVar[float] = 3e-3
    dropout: float = 0.0


@dataclass(frozen=True)
class LogisticConfig(HeadOptions):
    """Options of `logistic`.

    Attributes:
        steps: number of the segment's steps that it sees side by side, evenly spaced; 0 for their average.
        c: inverse strength of the penalty, as scikit-learn's C; 0 for one that is chosen by folds, per task.
    """

    is_fitted: ClassVar[bool] = True
    steps: int = 0
    c: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        need_not_negative(self, "steps")
        need_between(self, 0, 1e30, "c")


@dataclass(frozen=True)
class MlpConfig(HeadOptions):
    """Options of `mlp`.

    Attributes:
        hidden: units of a hidden layer.
        layers: number of hidden layers.
        dropout: after each of them.
    """

    widest: ClassVar[dict[str, int]] = {"hidden": 1024}
    positive: ClassVar[tuple[str, ...]] = ("layers",)
    hidden: int = 0
    layers: int = 1
    dropout: float = 0.5


@dataclass(frozen=True)
class BiLstmConfig(HeadOptions):
    """Options of `bilstm`.

    Attributes:
        hidden: units per direction.
        layers: number of stacked layers.
        dropout: between layers and before the classifiers.
    """

    widest: ClassVar[dict[str, int]] = {"hidden": 1024}
    positive: ClassVar[tuple[str, ...]] = ("layers",)
    hidden: int = 0
    layers: int = 2
    dropout: float = 0.3


@dataclass(frozen=True)
class MultiscaleLstmConfig(BiLstmConfig):
    """Options of `multiscale_lstm`: those of `bilstm`, in each of its branches; there is dropout before and after the
    layer that fuses the branches.
    """

    widest: ClassVar[dict[str, int]] = {"hidden": 512}
    narrowest: ClassVar[int] = 64


@dataclass(frozen=True)
class AttentiveConfig(HeadOptions):
    """Options of `attentive`.

    Attributes:
        width: values pooled per task.
        attention_heads: number of attention heads that these values come from.
        layers: number of feed-forward layers after pooling; 0 for a probe that is linear but for its attention.
        hidden: units of each feed-forward layer.
        dropout: in each of them, and before the classifiers.
    """

    masks_cells: ClassVar[bool] = True
    widest: ClassVar[dict[str, int]] = {"width": 512, "hidden": 1024}
    positive: ClassVar[tuple[str, ...]] = ("attention_heads",)
    width: int = 0
    attention_heads: int = 8
    layers: int = 0
    hidden: int = 0
    dropout: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        need_not_negative(self, "layers")
        if self.width % self.attention_heads:
            raise ValueError(f"width is {self.width}, not a multiple of {self.attention_heads} attention heads.")


@dataclass(frozen=True)
class TcnConfig(HeadOptions):
    """Options of `tcn`. With 4 layers a step sees 15 steps to either side: all of 16.

    Attributes:
        width: values of a step inside.
        layers: number of layers, of dilation 1, 2, 4, ...
        dropout: in each layer, and before the classifiers.
    """

    widest: ClassVar[dict[str, int]] = {"width": 512}
    positive: ClassVar[tuple[str, ...]] = ("layers",)
    width: int = 0
    layers: int = 4
    dropout: float = 0.3


@dataclass(frozen=True)
class TransformerConfig(HeadOptions):
    """Options of `transformer`.

    Attributes:
        width: values of a step inside.
        layers: number of self-attention layers, before the one of the queries.
        attention_heads: of each layer.
        hidden: units of each feed-forward part.
        dropout: after each part, and before the classifiers.
    """

    masks_cells: ClassVar[bool] = True
    widest: ClassVar[dict[str, int]] = {"width": 512, "hidden": 1024}
    positive: ClassVar[tuple[str, ...]] = ("layers", "attention_heads")
    width: int = 0
    layers: int = 2
    attention_heads: int = 8
    hidden: int = 0
    dropout: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % (2 * self.attention_heads):
            raise ValueError(f"width is {self.width}, not a multiple of twice {self.attention_heads} attention heads.")


@dataclass(frozen=True)
class ProbeConfig(HeadOptions):
    """Options of `probe`.

    Attributes:
        width: values of a token inside; 0 for those of a cell of the features.
        layers: number of self-attention layers, before the one of the queries.
        attention_heads: of each layer.
        dropout: after each part.
        checkpointing: 1 to keep no activations within layers and compute them again in the backward pass.
    """

    masks_cells: ClassVar[bool] = True
    positive: ClassVar[tuple[str, ...]] = ("layers", "attention_heads")
    width: int = 0
    layers: int = 3
    attention_heads: int = 16
    dropout: float = 0.0
    checkpointing: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        need_not_negative(self, "width")
        need_between(self, 0, 1, "checkpointing")
        if self.width % (2 * self.attention_heads):
            raise ValueError(f"width is {self.width}, not a multiple of twice {self.attention_heads} attention heads.")


@dataclass(frozen=True)
class ContextConfig(TransformerConfig):
    """Options of `context`: those of `transformer`; every layer is one of content and queries alike."""

    reads_windows: ClassVar[bool] = True
    layers: int = 4
