"""The registry class, and checks of option records. The members are in heads/models/catalogue.py and
heads/losses/catalogue.py.

A member with its options is written name[:key=value]..., such as focal:gamma=2:alpha=0.25.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from features.errors import OptionError, unknown_name

_EXPECTED = {int: "a whole number", float: "a number"}
Builder = TypeVar("Builder", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry:
    """A member of a registry.

    Attributes:
        build: the function that builds it; the first line of its docstring says what it is.
        config: the record of its options, a frozen dataclass of numbers with defaults that checks its values.
    """

    name: str
    build: Callable[..., Any]
    config: type


@dataclass(frozen=True)
class Description:
    """A member in words: a sentence on what it is, and its options with their defaults."""

    name: str
    what: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Spec:
    """A member with all of its options as plain values; those that are not given have their defaults."""

    name: str
    options: Mapping[str, int | float]


class Registry:
    """Members by name.

    Args:
        kind: what they are, for messages, such as "head".
        option: the command-line option that names a member, such as "--head".
        set_option: the command-line option that sets a member's own options.
    """

    def __init__(self, kind: str, *, option: str, set_option: str) -> None:
        self._kind, self._option, self._set_option = kind, option, set_option
        self._entries: dict[str, Entry] = {}

    def register(self, name: str, config: type) -> Callable[[Builder], Builder]:
        """Add the decorated builder; a name can be used once."""

        def add(build: Builder) -> Builder:
            if name in self._entries:
                raise ValueError(f"{self._kind} {name!r} is registered twice")
            self._entries[name] = Entry(name, build, config)
            return build

        return add

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(self._entries)

    def get(self, name: str, *, option: str | None = None) -> Entry:
        """Return the member of a name; raise OptionError, with the nearest known name, if there is none."""
        if name not in self._entries:
            raise unknown_name(option or self._option, self._kind, name, self._entries)
        return self._entries[name]

    def config(self, name: str, options: Mapping[str, str], *, option: str | None = None) -> Any:
        """Return the config record of a member from options as text, such as {"hidden": "256"}.

        Args:
            option: the command-line option that messages name; by default the registry's own.

        Raises:
            OptionError: there is no such member, it has no such option, or the value is not of its type or range.
        """
        entry = self.get(name, option=option)
        option = option or self._set_option
        hints = typing.get_type_hints(entry.config)
        types = {setting.name: hints[setting.name] for setting in dataclasses.fields(entry.config)}
        values = {}
        for key, text in options.items():
            if not types:
                raise OptionError(option, f"{name} has no options, so none {key!r}.")
            if key not in types:
                raise unknown_name(option, f"option of {name}", key, types)
            try:
                values[key] = types[key](text)
            except ValueError:
                raise OptionError(option, f"{key} is {text!r}, not {_EXPECTED[types[key]]}.") from None
        try:
            return entry.config(**values)
        except ValueError as error:
            raise OptionError(option, f"{error}") from None

    def parse_spec(self, text: str, option: str | None = None) -> Spec:
        """Read name[:key=value]..., such as focal:gamma=2:alpha=0.25.

        Args:
            option: the command-line option that messages name; by default the one that names a member.

        Raises:
            OptionError: the text is not of this form or gives an option twice; or as `config`.
        """
        option = option or self._option
        name, *parts = text.split(":")
        options: dict[str, str] = {}
        for part in parts:
            key, equals, value = part.partition("=")
            if not (key and equals):
                raise OptionError(option, f"{part!r} in {text!r} is not key=value.")
            if key in options:
                raise OptionError(option, f"{key} is given twice in {text!r}.")
            options[key] = value
        return Spec(name, options_of(self.config(name, options, option=option)))

    def text(self, spec: Spec) -> str:
        """Write a Spec as parse_spec reads it, in the shortest form: options at their defaults are left out."""
        defaults = options_of(self.get(spec.name).config())
        given = [
            f"{key}={repr(value).removesuffix('.0')}" for key, value in spec.options.items() if value != defaults[key]
        ]
        return ":".join([spec.name, *given])

    def describe(self) -> list[Description]:
        """Return a description of each member, sorted by name."""
        entries = [self._entries[name] for name in self.names()]
        return [
            Description(entry.name, (entry.build.__doc__ or "").strip().split("\n", 1)[0], options_of(entry.config()))
            for entry in entries
        ]


def options_of(config: Any) -> dict[str, Any]:
    """Return a config record as plain values, for config.json and checkpoints."""
    return dataclasses.asdict(config)


def need_positive(config: Any, *fields: str) -> None:
    """Check sizes of a config record; raise ValueError if one is below 1."""
    for field in fields:
        if getattr(config, field) < 1:
            raise ValueError(f"{field} is {getattr(config, field)}, not 1 or more.")


def need_not_negative(config: Any, *fields: str) -> None:
    """Check sizes of a config record that may be left open with 0; raise ValueError if one is below 0."""
    for field in fields:
        if getattr(config, field) < 0:
            raise ValueError(f"{field} is {getattr(config, field)}, not 0 or more.")


def need_probability(config: Any, *fields: str) -> None:
    """Check probabilities of a config record; raise ValueError if one is not in [0, 1)."""
    for field in fields:
        if not 0 <= getattr(config, field) < 1:
            raise ValueError(f"{field} is {getattr(config, field)}, not in [0, 1).")


def need_between(config: Any, least: float, most: float, *fields: str) -> None:
    """Check numbers of a config record; raise ValueError if one is not from `least` to `most`."""
    for field in fields:
        if not least <= getattr(config, field) <= most:
            raise ValueError(f"{field} is {getattr(config, field)}, not from {least:g} to {most:g}.")
