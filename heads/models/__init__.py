"""THE registry of heads: small networks from the steps of a segment to its verb and noun.

Contract: a head is made as network(shape, config), and forward(Steps) gives logits by task, for the tasks of that
HeadShape (heads/data/steps.py). What lies in the padding changes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from torch import nn

from heads.models.separate import Separate
from heads.models.shape import HeadShape
from heads.registry import Description, Registry

_HEADS = Registry("head", option="--head", set_option="--set")
register, names, get, head_config = _HEADS.register, _HEADS.names, _HEADS.get, _HEADS.config
parse_head = _HEADS.parse_spec


def build_head(name: str, shape: HeadShape, options: Mapping[str, Any], *, separate: bool = False) -> nn.Module:
    """Build a head with randomly initialised weights, or one a task that share nothing (`separate`)."""
    head = get(name)
    config = head.config(**options)
    return Separate(shape, lambda shape: head.build(shape, config)) if separate else head.build(shape, config)


def describe_heads() -> list[Description]:
    """Describe all heads, by name; what one is, the first line of its module says."""
    return _HEADS.describe(lambda entry: sys.modules[entry.build.__module__].__doc__)


from heads.models import attentive, bilstm, mean_pool, mlp, multiscale_lstm, tcn, transformer  # noqa: E402, F401
