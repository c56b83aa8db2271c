"""A sweep written down: a YAML file with the options of `heads sweep` by their long names, and its grid.

    grid:
      head: [bilstm:hidden=512, multiscale_lstm]
      lr: [1e-4, 3e-4]
    seeds: 0-2
    halving: true

Every value is taken as the text that it is, as if it had been typed after the option: YAML 1.1 by itself would make a
word of 1e-4, 83 of 0123 and true of on. So the file is read as far as safe_load reads it, up to its nodes, and no value
is made of them; only there do keys that stand twice still show. What an option's text may be, others know.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from features.errors import DataError, OptionError, unknown_name

GRID = "grid"
_BOOL, _NULL = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:null"


@dataclass(frozen=True)
class OptionsFile:
    """What a file says.

    Attributes:
        grid: words such as "loss=ce,focal", one a setting.
        options: option, with underscores -> its text, or its texts if it may be repeated.
        lines: key -> the line it stands in, from 1.
    """

    path: Path
    grid: tuple[str, ...]
    options: Mapping[str, str | tuple[str, ...]]
    lines: Mapping[str, int]

    @contextlib.contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Within, an OptionError that begins with an option of this file says so, and in which line."""
        try:
            yield
        except OptionError as error:
            key = (error.option or "").lstrip("-").replace("-", "_")
            if key not in self.lines:
                raise
            raise OptionError(_where(self.path, self.lines[key]), str(error)) from error

    def without(self, names: Collection[str]) -> OptionsFile:
        """Give what is left where some options are given elsewhere; of the grid, only its line is forgotten."""
        options, lines = (
            {name: one for name, one in known.items() if name not in names} for known in (self.options, self.lines)
        )
        return replace(self, options=options, lines=lines)


NO_OPTIONS_FILE = OptionsFile(Path(), (), {}, {})


def is_options_file(word: str) -> bool:
    """Whether a plain argument names such a file instead of a setting to vary."""
    return word.endswith((".yaml", ".yml"))


def read_options_file(path: Path, options: Mapping[str, bool]) -> OptionsFile:
    """Read a file of options.

    Args:
        options: the long name of each option, with underscores -> whether it may be repeated.

    Raises:
        DataError: the file cannot be read, or is not YAML.
        OptionError: it is not a mapping; an option is not known or stands twice; a value is none, or is a list or a
            mapping where that cannot be.
    """
    try:
        # safe_load's own first half; it makes no objects, so an untrusted file can do nothing.
        root = yaml.compose(Path(path).read_bytes(), Loader=yaml.SafeLoader)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: not a YAML file ({' '.join(str(error).split())}).") from error
    if not isinstance(root, yaml.MappingNode):
        raise OptionError(str(path), "not a mapping of options, such as `seeds: 0-2` and `grid:`.")
    known = {GRID, *options}
    grid, found, lines = (), {}, {}
    for key, value, line in _entries(root, path):
        where, lines[key] = _where(path, line), line
        if key not in known:
            raise unknown_name(where, "option", key, known)
        if key == GRID:
            if not isinstance(value, yaml.MappingNode):
                raise OptionError(where, f"{GRID} is not a mapping of settings to lists, such as `loss: [ce, focal]`.")
            grid = tuple(
                f"{name}={','.join(_texts(each, name, _where(path, line)))}"
                for name, each, line in _entries(value, path)
            )
        elif options[key]:
            found[key] = _texts(value, key, where)
        else:
            found[key] = _text(value, key, where)
    return OptionsFile(Path(path), grid, found, lines)


def _entries(mapping: yaml.MappingNode, path: Path) -> Iterator[tuple[str, yaml.Node, int]]:
    """Give each key, its dashes as underscores, with its value and the line it stands in.

    Raises:
        OptionError: a key is no word, or stands twice.
    """
    seen = set()
    for key, value in mapping.value:
        line = key.start_mark.line + 1
        name = _text(key, "a key", _where(path, line)).replace("-", "_")
        if name in seen:
            raise OptionError(_where(path, line), f"{name} stands there twice; leave one of them.")
        seen.add(name)
        yield name, value, line


def _where(path: Path, line: int) -> str:
    return f"{path}, line {line}"


def _texts(node: yaml.Node, name: str, where: str) -> tuple[str, ...]:
    return tuple(_text(one, name, where) for one in (node.value if isinstance(node, yaml.SequenceNode) else [node]))


def _text(node: yaml.Node, name: str, where: str) -> str:
    """Give a value as it is written; true and false in small letters, as the command line has them."""
    if not isinstance(node, yaml.ScalarNode):
        kind = "list" if isinstance(node, yaml.SequenceNode) else "mapping"
        raise OptionError(where, f"{name} is a {kind}, not a single value.")
    if node.tag == _NULL:
        raise OptionError(where, f"{name} has no value; give it one, or leave the line out.")
    return node.value.lower() if node.tag == _BOOL else node.value
