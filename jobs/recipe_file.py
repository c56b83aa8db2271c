"""The file of a recipe: what it may hold, and the overrides that shrink it. Knows no command and runs nothing.

Every value stays the text that it is (1e-3, 0-4), because it becomes a word of a command line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
_EXTRACTED = (
    "backbone",
    "frames",
    "every",
    "clip",
    "tokens",
    "layers",
    "views",
    "weights",
    "regions",
    "boxes",
    "optional",
)
_IMPORTED = ("import", "source", "part", "fps", "stride", "offset", "intervals", "backbone", "optional")
_CORRECTIONS = ("temperature", "adjust", "pairs", "fold-actions", "sequence")
_ENSEMBLE = ("epochs", "weights", "mean", "greedy", "per-task", *_CORRECTIONS)
_PUBLISHED = ("system", "split", "verb", "noun", "action", "source")
_DELETED = ("~", "null")
_SEEDS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


class RecipeError(Exception):
    """A recipe or its overrides that cannot be used: the file, the field, what is wrong and what is expected."""


@dataclass(frozen=True)
class FeatureSet:
    """A feature set of a recipe, extracted or imported.

    Attributes:
        name: what sweeps call it.
        options: of `extract run`, or of `features import`, by their long names.
        source: the folder or file below EPIC_DOWNLOADS that it needs: what is imported, or the boxes of its regions;
            None for a set of whole frames.
        format: of an imported set, such as mtcn.
        is_optional: whether the recipe goes on without it where its source is missing.
    """

    name: str
    options: Mapping[str, str]
    source: str | None = None
    format: str | None = None
    is_optional: bool = False

    @property
    def folder(self) -> str:
        """The name of its folder, as `make extract` names it: equal settings have one folder in all recipes.

        >>> FeatureSet("clips", {"backbone": "timm:a", "frames": "16", "tokens": "grid2"}).folder
        'timm-a-seg16-grid2'
        """
        if self.format is not None:
            return "-".join([self.format, *filter(None, [self.options.get("part")])])
        options = self.options
        parts = [options["backbone"].replace(":", "-")]
        parts += [f"every{options['every']}" if "every" in options else f"seg{options.get('frames', '16')}"]
        parts += [options["tokens"]] if options.get("tokens", "mean") != "mean" else []
        parts += [f"layers{options['layers'].replace(',', '-')}"] if "layers" in options else []
        parts += [f"clip{options['clip']}"] if "clip" in options else []
        parts += [options["regions"].replace("+", "-")] if "regions" in options else []
        return "-".join(parts)


@dataclass(frozen=True)
class Sweep:
    """A sweep of a recipe.

    Attributes:
        features: names of its feature sets; the first one decides the steps.
        grid: setting -> its values.
        options: of `heads sweep`, by their long names; a switch is "true".
        tasks: number of tasks of its job array; None for as many as the caller likes.
    """

    name: str
    features: tuple[str, ...]
    grid: Mapping[str, tuple[str, ...]]
    options: Mapping[str, str | tuple[str, ...]]
    tasks: int | None = None


@dataclass(frozen=True)
class Recipe:
    """A recipe.

    Attributes:
        published: what its publication reached, by the fields of _PUBLISHED; empty where nobody published a figure.
        ensemble: options of `heads ensemble`; "epochs" for the kept epochs of each run as members.
    """

    name: str
    title: str
    published: Mapping[str, str]
    features: tuple[FeatureSet, ...]
    sweeps: tuple[Sweep, ...]
    ensemble: Mapping[str, str]


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the project."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def read_recipe(name: str, overrides: Iterable[Path] = ()) -> Recipe:
    """Read a recipe, by its name or by the path of a file of one's own, and apply files of overrides to it.

    Raises:
        RecipeError: there is no such recipe, a file cannot be read, or a field is unknown, missing or of a wrong kind.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml"
    if path.parent == RECIPES and not path.is_file():
        raise RecipeError(f"NAME: no recipe {name!r}; there are: {', '.join(recipe_names())}.")
    content: Mapping[str, Any] = _mapping(_read(path), str(path))
    for file in overrides:
        content = _overridden(content, _mapping(_read(file), str(file)), file)
    return _recipe(path, content)


def _read(path: Path) -> Any:
    try:
        return yaml.load(path.read_bytes(), Loader=yaml.BaseLoader)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not a YAML file ({' '.join(str(error).split())}).") from error


# ---- a recipe's content


def _recipe(path: Path, content: Mapping[str, Any]) -> Recipe:
    _need_fields(path, "", content, ("title", "published", "features", "sweeps", "ensemble"))
    features = tuple(_feature_set(path, name, fields) for name, fields in _entries(path, content, "features"))
    names = [feature_set.name for feature_set in features]
    return Recipe(
        name=path.stem,
        title=_text(content["title"], path, "title"),
        published=_published(path, content["published"]),
        features=features,
        sweeps=tuple(_sweep(path, name, fields, names) for name, fields in _entries(path, content, "sweeps")),
        ensemble=_options(path, "ensemble", content["ensemble"], _ENSEMBLE),
    )


def _published(path: Path, value: Any) -> Mapping[str, str]:
    if value == "none":
        return {}
    figures = _options(path, "published", value, _PUBLISHED)
    for name in ("system", "split", "action", "source"):
        if name not in figures:
            raise _missing(path, f"published.{name}", "`published: none` says that nobody published a figure")
    return figures


def _feature_set(path: Path, name: str, fields: Mapping[str, Any]) -> FeatureSet:
    where = f"features.{name}"
    if "import" not in fields:
        options = _options(path, where, fields, _EXTRACTED)
        if "backbone" not in options:
            raise _missing(path, f"{where}.backbone", "a set is extracted with a backbone or has the field import")
        if "frames" in options and "every" in options:
            raise RecipeError(f"{path}: {where} has frames and every; keep one of them.")
        if ("regions" in options) != ("boxes" in options):
            raise RecipeError(f"{path}: {where} has one of regions and boxes; regions are cut out where boxes are.")
        if "optional" in options and "boxes" not in options:
            raise RecipeError(f"{path}: {where} is optional, but needs nothing that may be missing.")
        return FeatureSet(
            name,
            {key: text for key, text in options.items() if key not in ("boxes", "optional")},
            source=options.get("boxes"),
            is_optional=_is_optional(options, path, where),
        )
    options = _options(path, where, fields, _IMPORTED)
    if "source" not in options:
        raise _missing(path, f"{where}.source", "the folder or file to import, below EPIC_DOWNLOADS")
    own = ("import", "source", "optional")
    return FeatureSet(
        name,
        {key: text for key, text in options.items() if key not in own},
        source=options["source"],
        format=options["import"],
        is_optional=_is_optional(options, path, where),
    )


def _is_optional(options: Mapping[str, str], path: Path, where: str) -> bool:
    return _switch(options.get("optional", "false"), path, f"{where}.optional")


def _sweep(path: Path, name: str, fields: Mapping[str, Any], known: Iterable[str]) -> Sweep:
    where = f"sweeps.{name}"
    for field, expected in (("features", "names of feature sets"), ("grid", "settings with lists of values")):
        if field not in fields:
            raise _missing(path, f"{where}.{field}", expected)
    features = _texts(fields["features"], path, f"{where}.features")
    for feature_set in features:
        if feature_set not in known:
            raise _unknown(path, f"{where}.features", feature_set, known)
    grid = _mapping(fields["grid"], f"{path}: {where}.grid")
    options = {key: value for key, value in fields.items() if key not in ("features", "grid", "tasks")}
    seeds = fields.get("seeds", "0")
    if not (isinstance(seeds, str) and _SEEDS.fullmatch(seeds)):
        raise RecipeError(f"{path}: {where}.seeds is {seeds!r}, not numbers of seeds such as 0-4 or 0,2.")
    tasks = fields.get("tasks")
    if tasks is not None and not (isinstance(tasks, str) and tasks.isdecimal() and int(tasks)):
        raise RecipeError(f"{path}: {where}.tasks is {tasks!r}, not a number of tasks above 0.")
    return Sweep(
        name,
        features,
        {setting: _texts(values, path, f"{where}.grid.{setting}") for setting, values in grid.items()},
        {key: _one_or_several(value, path, f"{where}.{key}") for key, value in options.items()},
        None if tasks is None else int(tasks),
    )


# ---- overrides


def _overridden(content: Mapping[str, Any], overrides: Mapping[str, Any], file: Path) -> Mapping[str, Any]:
    """Return a recipe's content with overrides: stand-ins of backbones, then fields of feature sets and sweeps.

    An entry "*" is about every extracted feature set, or every sweep. The value ~ deletes a field.
    """
    for key in overrides:
        if key not in ("backbones", "features", "sweeps", "ensemble"):
            raise _unknown(file, "", key, ("backbones", "features", "sweeps", "ensemble"))
    merged = dict(content)
    stand_ins = _mapping(overrides.get("backbones", {}), f"{file}: backbones")
    merged["features"] = _with_stand_ins(_mapping(content.get("features"), "features"), stand_ins, file)
    for room in ("features", "sweeps"):
        entries = _mapping(merged[room], room)
        for name, fields in _mapping(overrides.get(room, {}), f"{file}: {room}").items():
            if name != "*" and name not in entries:
                raise _unknown(file, room, name, [*entries, "*"])
            of_all = [key for key, value in entries.items() if room == "sweeps" or "import" not in value]
            for key in of_all if name == "*" else [name]:
                entries = {**entries, key: _merged(entries[key], fields)}
        merged[room] = entries
    if "ensemble" in overrides:
        merged["ensemble"] = _merged(content["ensemble"], overrides["ensemble"])
    return merged


def _with_stand_ins(features: Mapping[str, Any], stand_ins: Mapping[str, str], file: Path) -> Mapping[str, Any]:
    backbones = [fields["backbone"] for fields in features.values() if "import" not in fields]
    for name in stand_ins:
        if name not in backbones:
            raise _unknown(file, "backbones", name, backbones)
    return {
        name: {**fields, "backbone": stand_ins.get(fields["backbone"], fields["backbone"])}
        if "import" not in fields
        else fields
        for name, fields in features.items()
    }


def _merged(value: Any, override: Any) -> Any:
    """Return a value with an override: mappings are merged key by key, and anything else is replaced."""
    if not (isinstance(value, dict) and isinstance(override, dict)):
        return override
    merged = {**value, **{key: _merged(value.get(key), new) for key, new in override.items()}}
    return {key: new for key, new in merged.items() if new not in _DELETED}


# ---- values, and what is wrong with them


def _entries(path: Path, content: Mapping[str, Any], room: str) -> list[tuple[str, Mapping[str, Any]]]:
    entries = _mapping(content[room], f"{path}: {room}")
    return [(name, _mapping(fields, f"{path}: {room}.{name}")) for name, fields in entries.items()]


def _need_fields(path: Path, where: str, content: Mapping[str, Any], fields: tuple[str, ...]) -> None:
    for key in content:
        if key not in fields:
            raise _unknown(path, where, key, fields)
    for field in fields:
        if field not in content:
            raise _missing(path, field, f"a recipe has {', '.join(fields)}")


def _options(path: Path, where: str, value: Any, known: tuple[str, ...]) -> dict[str, str]:
    fields = _mapping(value, f"{path}: {where}")
    for key in fields:
        if key not in known:
            raise _unknown(path, where, key, known)
    return {key: _text(text, path, f"{where}.{key}") for key, text in fields.items()}


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RecipeError(f"{where}: is not a mapping of names to values.")
    return value


def _text(value: Any, path: Path, field: str) -> str:
    if not isinstance(value, str) or not value:
        raise RecipeError(f"{path}: {field} is {value!r}, not a single value.")
    return value


def _texts(value: Any, path: Path, field: str) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise RecipeError(f"{path}: {field} is an empty list; give it at least one value.")
    return tuple(_text(item, path, field) for item in values)


def _one_or_several(value: Any, path: Path, field: str) -> str | tuple[str, ...]:
    return _texts(value, path, field) if isinstance(value, list) else _text(value, path, field)


def _switch(text: str, path: Path, field: str) -> bool:
    if text not in ("true", "false"):
        raise RecipeError(f"{path}: {field} is {text!r}, neither true nor false.")
    return text == "true"


def _missing(path: Path, field: str, expected: str) -> RecipeError:
    return RecipeError(f"{path}: {field} is missing ({expected}).")


def _unknown(path: Path, where: str, name: str, known: Iterable[str]) -> RecipeError:
    names = list(known)
    close = get_close_matches(name, names, 1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return RecipeError(f"{path}: {where or 'the file'} has no {name!r}; {meant}Known: {', '.join(names)}.")
