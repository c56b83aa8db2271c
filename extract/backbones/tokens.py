"""What a step keeps of a backbone's tokens: `--tokens` and `--layers`, checked against the record of the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from features.errors import OptionError
from features.featureset import cell_names

if TYPE_CHECKING:
    from extract.backbones.registry import Backbone

# How many cells a side has; 0 for the class token, which has no place.
_SIDES = {"mean": 1, "cls": 0, "grid2": 2, "grid4": 4}


@dataclass(frozen=True)
class Tokens:
    """The cells that each step keeps, side by side.

    Attributes:
        kinds: of each layer, in this order: "mean", "cls", "grid2", "grid4".
        layers: numbers of layers, counted from 0, ascending; empty for the last one alone.
    """

    kinds: tuple[str, ...] = ("mean",)
    layers: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """The kinds as `--tokens` takes them, such as "mean+cls"."""
        return "+".join(self.kinds)

    @property
    def cells(self) -> tuple[str, ...]:
        """The name of each cell, in the order in which a step holds them."""
        return cell_names(self.text, self.layers)


MEAN = Tokens()


def choose_tokens(tokens: str | None, layers: str | Sequence[int | str] | None, entry: Backbone) -> Tokens:
    """Return what a step keeps of a backbone.

    Args:
        tokens: one of mean, cls, grid2 and grid4, or several joined by "+"; None for the backbone's own default.
        layers: numbers of layers, counted from 0, or "last", in a list or joined by commas; None for the last one
            alone. Their order does not matter.

    Raises:
        OptionError: there is no such value, one is repeated, or the backbone has no class token, no such layer, or a
            map with fewer positions per side.
    """
    return Tokens(_kinds(entry.tokens if tokens is None else tokens, entry), _layers(layers, entry))


def _kinds(text: str, entry: Backbone) -> tuple[str, ...]:
    kinds = tuple(text.split("+"))
    for kind in kinds:
        if kind not in _SIDES:
            raise OptionError(
                "--tokens", f"{text!r} is none of {', '.join(_SIDES)}, nor several of them such as mean+cls."
            )
        if kinds.count(kind) > 1:
            raise OptionError("--tokens", f"{text!r} has {kind} twice.")
        if kind == "cls" and not entry.class_token:
            raise OptionError("--tokens", f"{entry.name} has no class token; leave cls out.")
        if _SIDES[kind] > entry.side:
            raise OptionError(
                "--tokens", f"{kind} is finer than the last map of {entry.name}, {entry.side} x {entry.side}."
            )
    return kinds


def _layers(layers: str | Sequence[int | str] | None, entry: Backbone) -> tuple[int, ...]:
    if layers is None:
        return ()
    if not entry.num_layers:
        raise OptionError("--layers", f"{entry.name} has no layers to choose from, as it is no plain transformer.")
    items = layers.split(",") if isinstance(layers, str) else [str(layer) for layer in layers]
    last = entry.num_layers - 1
    numbers = [last if item.strip() == "last" else _number(item.strip(), last, entry) for item in items]
    if repeated := sorted({number for number in numbers if numbers.count(number) > 1}):
        raise OptionError("--layers", f"layer {repeated[0]} is given twice.")
    return () if numbers == [last] else tuple(sorted(numbers))


def _number(item: str, last: int, entry: Backbone) -> int:
    if not (item.isascii() and item.isdigit()) or int(item) > last:
        raise OptionError("--layers", f"{entry.name} has layers 0 to {last} (or last), and no {item!r}.")
    return int(item)
