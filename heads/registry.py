"""Registries of heads and of losses: a dictionary of names, each with a builder and a record of its options."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from features.errors import OptionError, unknown_name

_EXPECTED = {int: "a whole number", float: "a number"}


@dataclass(frozen=True)
class Entry:
    """A member: its builder, and its options, a frozen dataclass of numbers with defaults that checks its values."""

    name: str
    build: Callable[..., Any]
    config: type


@dataclass(frozen=True)
class Description:
    """A member in words: the first sentence of what it is, and its options with their defaults."""

    name: str
    what: str
    options: dict[str, Any]


class Registry:
    """Members by name.

    Args:
        kind: what they are, for messages, such as "head".
        option: of the command line, which names one, such as "--head".
        set_option: which sets a member's own options.
    """

    def __init__(self, kind: str, *, option: str, set_option: str) -> None:
        self._kind, self._option, self._set_option = kind, option, set_option
        self._entries: dict[str, Entry] = {}

    def register(self, name: str, config: type) -> Callable[[type], type]:
        """Add the decorated builder; a name can be taken once."""

        def add(build: type) -> type:
            if name in self._entries:
                raise ValueError(f"{self._kind} {name!r} is registered twice")
            self._entries[name] = Entry(name, build, config)
            return build

        return add

    def names(self) -> list[str]:
        """Give all names, sorted."""
        return sorted(self._entries)

    def get(self, name: str, *, option: str | None = None) -> Entry:
        """Give the member of a name; OptionError, with the nearest known name, where there is none."""
        if name not in self._entries:
            raise unknown_name(option or self._option, self._kind, name, self._entries)
        return self._entries[name]

    def config(self, name: str, options: Mapping[str, str]) -> Any:
        """Give the config record of a member from options as text, such as {"hidden": "256"}.

        Raises:
            OptionError: there is no such member, it has no such option, or the value is not of its type or range.
        """
        entry = self.get(name)
        types = typing.get_type_hints(entry.config)
        values = {}
        for key, text in options.items():
            if key not in types:
                raise unknown_name(self._set_option, f"option of {name}", key, types)
            try:
                values[key] = types[key](text)
            except ValueError:
                raise OptionError(f"{self._set_option}: {key} is {text!r}, not {_EXPECTED[types[key]]}.") from None
        try:
            return entry.config(**values)
        except ValueError as error:
            raise OptionError(f"{self._set_option}: {error}") from None

    def describe(self, text_of: Callable[[Entry], str | None] = lambda entry: entry.build.__doc__) -> list[Description]:
        """Describe all members, by name.

        Args:
            text_of: gives what to quote the first line of, by default the builder's docstring.
        """
        entries = [self._entries[name] for name in self.names()]
        return [
            Description(entry.name, (text_of(entry) or "").strip().split("\n", 1)[0], options_of(entry.config()))
            for entry in entries
        ]


def options_of(config: Any) -> dict[str, Any]:
    """Give a config record as plain values, for config.json and checkpoints."""
    return dataclasses.asdict(config)


def need_positive(config: Any, *fields: str) -> None:
    """Check sizes of a config record; ValueError names the one that is below 1."""
    for field in fields:
        if getattr(config, field) < 1:
            raise ValueError(f"{field} is {getattr(config, field)}, not 1 or more.")


def need_probability(config: Any, *fields: str) -> None:
    """Check probabilities of a config record; ValueError names the one that is not in [0, 1)."""
    for field in fields:
        if not 0 <= getattr(config, field) < 1:
            raise ValueError(f"{field} is {getattr(config, field)}, not in [0, 1).")
