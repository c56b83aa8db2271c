"""THE registry of heads: small networks from the steps of a segment to its verb and noun.

Contract: forward(features (B, T, D) float32, mask (B, T) bool) -> verb logits (B, 97), noun logits (B, 300). The mask
is true for the first steps of a row and false for its padding; what lies in the padding changes nothing.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from features.errors import OptionError, unknown_name


@dataclass(frozen=True)
class Head:
    """An entry: the network, made as network(dim, config), and its options, a frozen dataclass with defaults."""

    name: str
    network: Callable[[int, Any], nn.Module]
    config: type


_HEADS: dict[str, Head] = {}


def register(name: str, config: type) -> Callable[[type], type]:
    """Add the decorated network to the registry; a name can be taken once."""

    def add(network: type) -> type:
        if name in _HEADS:
            raise ValueError(f"head {name!r} is registered twice")
        _HEADS[name] = Head(name, network, config)
        return network

    return add


def names() -> list[str]:
    """Give the names of all heads, sorted."""
    return sorted(_HEADS)


def get(name: str) -> Head:
    """Give the entry of a head; OptionError, with the nearest known name, where there is none."""
    if name not in _HEADS:
        raise unknown_name("--head", "head", name, _HEADS)
    return _HEADS[name]


def head_config(name: str, options: Mapping[str, str]) -> Any:
    """Give the config record of a head from options as text, such as {"hidden": "256"}.

    Raises:
        OptionError: there is no such head, it has no such option, or the value is not of its type or range.
    """
    head = get(name)
    types = typing.get_type_hints(head.config)
    values = {}
    for key, text in options.items():
        if key not in types:
            raise unknown_name("--set", f"option of {name}", key, types)
        try:
            values[key] = types[key](text)
        except ValueError:
            expected = {int: "a whole number", float: "a number"}[types[key]]
            raise OptionError(f"--set: {key} is {text!r}, not {expected}.") from None
    try:
        return head.config(**values)
    except ValueError as error:
        raise OptionError(f"--set: {error}") from None


def build_head(name: str, dim: int, options: Mapping[str, Any]) -> nn.Module:
    """Build a head for features of width `dim` with randomly initialised weights."""
    head = get(name)
    return head.network(dim, head.config(**options))


def options_of(config: Any) -> dict[str, Any]:
    """Give a head's config record as plain values, for config.json and checkpoints."""
    return dataclasses.asdict(config)


def need_positive(config: Any, *fields: str) -> None:
    """Check a config record's sizes; ValueError names the one that is below 1."""
    for field in fields:
        if getattr(config, field) < 1:
            raise ValueError(f"{field} is {getattr(config, field)}, not 1 or more.")


def need_probability(config: Any, field: str) -> None:
    """Check a config record's dropout; ValueError where it is not in [0, 1)."""
    if not 0 <= getattr(config, field) < 1:
        raise ValueError(f"{field} is {getattr(config, field)}, not in [0, 1).")


from heads.models import bilstm, mean_pool, multiscale_lstm  # noqa: E402, F401
