"""An options file: YAML with the options of `heads sweep` by their long names, and its grid.

    grid:
      head: [bilstm:hidden=512, multiscale_lstm]
      lr: [1e-4, 3e-4]
    seeds: 0-2
    halving: true

Every value stays the text that it is, as if it had been typed after the option: YAML 1.1 would make a word of 1e-4, 83
of 0123 and true of on. Which texts an option allows is left to the command.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from features.errors import DataError, OptionError, unknown_name
from features.files import unreadable

GRID = "grid"
_NULLS = ("", "~", "null", "Null", "NULL")
_BOOLS = ("true", "false", "yes", "no", "on", "off")


@dataclass(frozen=True)
class OptionsFile:
    """The content of an options file.

    Attributes:
        grid: words such as "loss=ce,focal", one per setting.
        options: option, with underscores -> its text, or its texts if it may be repeated.
        lines: key -> its line number, from 1.
    """

    path: Path
    grid: tuple[str, ...]
    options: Mapping[str, str | tuple[str, ...]]
    lines: Mapping[str, int]

    @contextlib.contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Add this file and the line to each OptionError in the block that is about one of the file's options."""
        try:
            yield
        except OptionError as error:
            key = (error.option or "").lstrip("-").replace("-", "_")
            if key not in self.lines:
                raise
            raise OptionError(_line_of(self.path, self.lines[key]), str(error)) from error

    def without(self, names: Collection[str]) -> OptionsFile:
        """Return the file without options that are given elsewhere; of the grid, only its line is left out."""
        options = {name: text for name, text in self.options.items() if name not in names}
        lines = {name: line for name, line in self.lines.items() if name not in names}
        return replace(self, options=options, lines=lines)


NO_OPTIONS_FILE = OptionsFile(Path(), (), {}, {})


def is_options_file(word: str) -> bool:
    """Whether a plain argument names an options file instead of a setting to vary."""
    return word.endswith((".yaml", ".yml"))


def read_options_file(path: Path, options: Mapping[str, bool]) -> OptionsFile:
    """Read an options file.

    Args:
        options: the long name of each option, with underscores -> whether it may be repeated.

    Raises:
        DataError: the file cannot be read, or is not YAML.
        OptionError: it is not a mapping; an option is unknown or is given twice; a value is missing, or is a list or a
            mapping where a single value is needed.
    """
    try:
        # Without constructors of objects, so that an untrusted file can do nothing.
        content = yaml.load(Path(path).read_bytes(), Loader=_TextLoader)
    except OSError as error:
        raise unreadable(path, error) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: not a YAML file ({' '.join(str(error).split())}).") from error
    if not isinstance(content, _Mapping):
        raise OptionError(str(path), "not a mapping of options, such as `seeds: 0-2` and `grid:`.")
    known = {GRID, *options}
    grid: tuple[str, ...] = ()
    texts: dict[str, str | tuple[str, ...]] = {}
    lines: dict[str, int] = {}
    for key, value, line in _entries(content, path):
        where, lines[key] = _line_of(path, line), line
        if key not in known:
            raise unknown_name(where, "option", key, known)
        if key == GRID:
            if not isinstance(value, _Mapping):
                raise OptionError(where, f"{GRID} is not a mapping of settings to lists, such as `loss: [ce, focal]`.")
            grid = tuple(
                f"{name}={','.join(_texts(values, name, _line_of(path, line)))}"
                for name, values, line in _entries(value, path)
            )
        elif options[key]:
            texts[key] = _texts(value, key, where)
        else:
            texts[key] = _text(value, key, where)
    return OptionsFile(Path(path), grid, texts, lines)


class _Mapping(list[tuple[Any, Any, int]]):
    """The keys of a YAML mapping with their values and line numbers; a key that is repeated is in it twice."""


class _TextLoader(yaml.BaseLoader):
    """Loads scalars as they are written (None where there is no value), and mappings with line numbers."""

    def construct_scalar(self, node: yaml.ScalarNode) -> Any:
        text = str(super().construct_scalar(node))
        if node.style is not None:  # in quotes, or a block of text
            return text
        if text in _NULLS:
            return None
        return text.lower() if text.lower() in _BOOLS else text  # in small letters, as on the command line

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        return _Mapping(
            (self.construct_object(key, deep), self.construct_object(value, deep), key.start_mark.line + 1)
            for key, value in node.value
        )


def _entries(mapping: _Mapping, path: Path) -> Iterator[tuple[str, Any, int]]:
    """Yield each key, its dashes as underscores, with its value and its line number.

    Raises:
        OptionError: a key is no word, or is given twice.
    """
    names = set()
    for key, value, line in mapping:
        name = _text(key, "a key", _line_of(path, line)).replace("-", "_")
        if name in names:
            raise OptionError(_line_of(path, line), f"{name} is given twice; delete one of them.")
        names.add(name)
        yield name, value, line


def _line_of(path: Path, line: int) -> str:
    return f"{path}, line {line}"


def _texts(value: Any, name: str, where: str) -> tuple[str, ...]:
    values = value if isinstance(value, list) and not isinstance(value, _Mapping) else [value]
    return tuple(_text(item, name, where) for item in values)


def _text(value: Any, name: str, where: str) -> str:
    """Return a single value as text.

    Raises:
        OptionError: it is a list or a mapping, or there is no value.
    """
    if isinstance(value, list):
        kind = "mapping" if isinstance(value, _Mapping) else "list"
        raise OptionError(where, f"{name} is a {kind}, not a single value.")
    if value is None:
        raise OptionError(where, f"{name} has no value; give it one, or delete the line.")
    return str(value)
