"""All heads: small networks that turn the steps of a segment into logits of its verb and its noun. Loads no torch.

Each entry has a name, a record of options, and a function that imports the network and builds it. The first line of the
function's docstring is what `heads list` prints. To add a head, write its network in a file of its own, its options in
options.py, and add an entry here.

Contract: a head is built as network(shape, config), and forward(Steps) gives logits by task, for the tasks of that
HeadShape (heads/models/shape.py). What lies in the padding changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from heads.models.options import (
    AttentiveConfig,
    BiLstmConfig,
    MeanPoolConfig,
    MlpConfig,
    MultiscaleLstmConfig,
    TcnConfig,
    TransformerConfig,
)
from heads.registry import Registry

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


@register("mean_pool", MeanPoolConfig)
def _mean_pool(shape: HeadShape, config: MeanPoolConfig) -> nn.Module:
    """The average of the steps and a linear layer per task. Ignores their order: the baseline to beat."""
    from heads.models.mean_pool import MeanPool

    return MeanPool(shape, config)


@register("mlp", MlpConfig)
def _mlp(shape: HeadShape, config: MlpConfig) -> nn.Module:
    """Hidden layers on the average of the steps. Ignores their order too."""
    from heads.models.mlp import Mlp

    return Mlp(shape, config)


@register("bilstm", BiLstmConfig)
def _bilstm(shape: HeadShape, config: BiLstmConfig) -> nn.Module:
    """A bidirectional LSTM over the steps; its outputs are averaged over time, with a linear layer per task."""
    from heads.models.bilstm import BiLstm

    return BiLstm(shape, config)


@register("multiscale_lstm", MultiscaleLstmConfig)
def _multiscale_lstm(shape: HeadShape, config: MultiscaleLstmConfig) -> nn.Module:
    """Three bidirectional LSTMs, over every step, every 2nd and every 4th; their averages over time are fused."""
    from heads.models.multiscale_lstm import MultiscaleLstm

    return MultiscaleLstm(shape, config)


@register("attentive", AttentiveConfig)
def _attentive(shape: HeadShape, config: AttentiveConfig) -> nn.Module:
    """Attentive pooling, the probe of frozen backbones: a learned query per task weighs every cell of every step."""
    from heads.models.attentive import Attentive

    return Attentive(shape, config)


@register("tcn", TcnConfig)
def _tcn(shape: HeadShape, config: TcnConfig) -> nn.Module:
    """Dilated temporal convolutions with residuals: each layer sees twice as far to both sides as the one before."""
    from heads.models.tcn import Tcn

    return Tcn(shape, config)


@register("transformer", TransformerConfig)
def _transformer(shape: HeadShape, config: TransformerConfig) -> nn.Module:
    """A transformer over the steps, read out by a learned query per task. Time enters as seconds between steps."""
    from heads.models.transformer import Transformer

    return Transformer(shape, config)
