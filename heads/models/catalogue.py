"""All heads: small networks that turn the steps of a segment into logits of its verb and its noun. Loads no torch.

Each entry has a name, a record of options, and a function that imports the network and builds it. The first line of the
function's docstring is what `heads list` prints. To add a head, write its network in a file of its own, its options in
options.py, and add an entry here.

Contract: a head is built as network(shape, config), and forward(Steps) gives logits by task, for the tasks of that
HeadShape (heads/models/shape.py). What lies in the padding changes nothing. A head whose options say `masks_cells` is
given `Steps.has_region`, and leaves out cells that lack their region; to other heads, heads/models/model.py gives one
more input instead. A head whose options say `reads_windows` has forward(windows, queries): the Steps of each feature
set in windows that segments share, and the Queries that say where in these the segments lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from features.errors import OptionError
from heads.models.options import (
    AttentiveConfig,
    BiLstmConfig,
    ContextConfig,
    LogisticConfig,
    MeanPoolConfig,
    MlpConfig,
    MultiscaleLstmConfig,
    ProbeConfig,
    TcnConfig,
    TransformerConfig,
)
from heads.registry import Registry, options_of

if TYPE_CHECKING:
    from torch import nn

    from heads.models.shape import HeadShape

_HEADS = Registry("head", option="--head", set_option="--set")
register, names, get, head_config = _HEADS.register, _HEADS.names, _HEADS.get, _HEADS.config
parse_head, describe_heads = _HEADS.parse_spec, _HEADS.describe


def build_head(name: str, shape: HeadShape, options: Mapping[str, int | float], *, separate: bool = False) -> nn.Module:
    """Return a head with random weights; with `separate`, one head per task, which share nothing.

    Options that are left open have the values for many training segments.
    """
    from heads.models.separate import Separate

    entry = get(name)
    build = partial(entry.build, config=entry.config(**options).for_segments(None))
    return Separate(shape, build) if separate else build(shape)


def head_options_for(name: str, options: Mapping[str, Any], num_segments: int) -> dict[str, Any]:
    """Return all options of a head, with those that are left open chosen for a number of training segments.

    Raises:
        OptionError: a chosen size does not fit an option that is given.
    """
    try:
        return options_of(get(name).config(**options).for_segments(num_segments))
    except ValueError as error:
        raise OptionError("--set", f"{error}") from None


def head_lr(name: str) -> float:
    """Return the peak learning rate of a head where none is given."""
    return get(name).config().lr


def masks_cells(name: str) -> bool:
    """Return whether a head leaves out cells that lack their region by itself."""
    return get(name).config().masks_cells


def is_fitted(name: str) -> bool:
    """Return whether a head is fitted to convergence, instead of trained in epochs."""
    return get(name).config().is_fitted


def reads_windows(name: str) -> bool:
    """Return whether a head reads windows that segments share, instead of each segment's own steps."""
    return get(name).config().reads_windows


@register("mean_pool", MeanPoolConfig)
def _mean_pool(shape: HeadShape, config: MeanPoolConfig) -> nn.Module:
    """The average of the steps and a linear layer per task. Ignores their order."""
    from heads.models.mean_pool import MeanPool

    return MeanPool(shape, config)


@register("logistic", LogisticConfig)
def _logistic(shape: HeadShape, config: LogisticConfig) -> nn.Module:
    """Logistic regression on the average of the steps, or on several side by side: the baseline to beat."""
    from heads.models.logistic import Logistic

    return Logistic(shape, config)


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


@register("probe", ProbeConfig)
def _probe(shape: HeadShape, config: ProbeConfig) -> nn.Module:
    """V-JEPA 2's deep probe: self-attention over every cell of every step, then a learned query per task."""
    from heads.models.probe import Probe

    return Probe(shape, config)


@register("context", ContextConfig)
def _context(shape: HeadShape, config: ContextConfig) -> nn.Module:
    """A transformer over a window of steps that its segments share, with a query per segment and task."""
    from heads.models.context import Context

    return Context(shape, config)
