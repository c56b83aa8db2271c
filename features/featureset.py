"""The record of a feature set: which frozen backbone, on which input, sampled how. Knows no HDF5.

The record is written as featureset.json before the first video. Its digest is in every video's file, so features that
were made in two ways cannot be mixed unnoticed. Only the list of views grows later, and it is no part of the digest.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from features.errors import DataError
from features.files import folder_locked, read_json, sha256_of_json, write_json
from features.views import CENTRE

SCHEMA = 1
FILE_NAME = "featureset.json"
# Fields that came after 0.1.0, with what they mean where a set does not have them.
_ADDED: Mapping[str, Any] = {
    "supervision": None,
    "layers": (),
    "cells": (),
    "view_parameters": {},
    "digest_views": (CENTRE,),
    "imported": None,
    "regions": None,
}


@dataclass(frozen=True)
class Weights:
    """The weights of a backbone.

    Attributes:
        source: where the weights came from: a path, an address, or random:SEED.
        revision: the source's name for them, such as IMAGENET1K_V2.
        sha256: the digest of the file, or of the tensors if there is no file.
    """

    source: str
    revision: str
    sha256: str


@dataclass(frozen=True)
class Sampling:
    """How frames were chosen for the backbone.

    Attributes:
        kind: "segment" (`num_frames` spread over each segment) or "dense" (a clip every `every_s` seconds).
        clip_frames: frames per forward pass; 1 for an image backbone.
        steps_per_clip: steps (rows of features) per clip.
        num_frames: frames per segment, for kind "segment"; 1 in an imported set if nobody says how many.
        every_s: seconds from one clip to the next, for kind "dense".
        clip_fps: frames per second within a clip; None where a clip has no rate: its frames, or the single frame of an
            image backbone, are spread evenly over the segment.
    """

    kind: str
    clip_frames: int
    steps_per_clip: int
    num_frames: int | None = None
    every_s: float | None = None
    clip_fps: float | None = None

    def __post_init__(self) -> None:
        amounts = {"segment": self.num_frames, "dense": self.every_s}
        if self.kind not in amounts:
            raise DataError(f"sampling is {self.kind!r}, not 'segment' or 'dense'.")
        amount = amounts[self.kind]
        if amount is None or not amount > 0:
            raise DataError(f"{self.kind} sampling needs a positive number of frames or seconds.")


@dataclass(frozen=True)
class FeatureSet:
    """The provenance of a folder of features: everything that the numbers depend on, and where they came from.

    Attributes:
        preprocess: the published preprocessing of the backbone (resize, crop, mean, std); it is recorded and compared,
            but no code reads its fields.
        precision: the precision of the backbone's arithmetic: float32, bfloat16, float16, or unknown.
        views: names of the views that files of the set may hold; each file lists its own. The first is that of
            evaluation: the plain centre crop where the set has it. Not part of the digest.
        view_parameters: name of a view -> how it differs from the plain centre crop. Not part of the digest.
        dim: D, the width of a step.
        tokens: what a step keeps of the backbone's tokens: "mean" for their average over space, "cls" for the class
            token, "grid2" or "grid4" for the averages of 2 x 2 or 4 x 4 regions, or several such as "mean+cls".
        layers: numbers of the backbone's layers that it keeps them of, counted from 0; empty for the last one.
        cells: the names of the cells that a step holds side by side, of D / cells values each; by default those that
            `tokens` and `layers` give, and older sets do not name them.
        supervision: the supervision level of the backbone's pretraining, 0 to 5 on the challenge's scale
            (epic-kitchens/SLS); None if it is not known. Not part of the digest, like the two fields below.
        versions: of the software.
        created: when the first run began.
        digest_views: the views that the digest counts. A set whose record named other views while they were part of
            the digest keeps the digest of these; its files do not list their views, and hold exactly these.
        imported: of a set that was imported, the format and the times of the files; None for one that was extracted.
        regions: of a set whose cells are parts of the picture that a frame may lack, such as hands, where the boxes
            came from and how they were cut out; None for any other. Each file of such a set says which cells each
            step has (`VideoFeatures.has_region`).
    """

    backbone: str
    weights: Weights
    preprocess: Mapping[str, Any]
    precision: str
    sampling: Sampling
    dim: int
    views: tuple[str, ...] = (CENTRE,)
    tokens: str = "mean"
    layers: tuple[int, ...] = ()
    cells: tuple[str, ...] = ()
    dtype: str = "float16"
    supervision: int | None = field(default=None, compare=False)
    versions: Mapping[str, str] = field(default_factory=dict, compare=False)
    created: str = field(default="", compare=False)
    view_parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    digest_views: tuple[str, ...] = (CENTRE,)
    imported: Mapping[str, Any] | None = None
    regions: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.views or len(set(self.views)) < len(self.views):
            raise DataError(f"views are {list(self.views)}, not one or more different names.")
        if self.supervision not in (None, 0, 1, 2, 3, 4, 5):
            raise DataError(f"supervision is {self.supervision!r}, not a level from 0 to 5.")
        if not self.cells:
            object.__setattr__(self, "cells", cell_names(self.tokens, self.layers))
        if not self.cells or self.dim % len(self.cells):
            raise DataError(f"{self.dim} values do not make {len(self.cells)} cells.")

    @property
    def digest(self) -> str:
        """The SHA-256 of all that the features depend on. Of the weights, the digest counts and the source does not."""
        record = _decisive(self)
        if not self.layers:  # as in sets that were made before layers could be chosen
            del record["layers"]
        return sha256_of_json(record)

    @property
    def sampled(self) -> str:
        """How its steps were chosen, in a few words."""
        if self.sampling.kind == "dense":
            return f"every {self.sampling.every_s:g} s"
        if self.imported is not None and self.sampling.num_frames == 1:
            return "steps spread over each segment"
        return f"{self.sampling.num_frames} frames per segment"


def _decisive(featureset: FeatureSet) -> dict[str, Any]:
    record = {"schema": SCHEMA, **asdict(featureset)}
    for name in ("supervision", "versions", "created", "view_parameters", "digest_views"):
        del record[name]
    record["weights"] = featureset.weights.sha256
    record["views"] = list(featureset.digest_views)
    for name in ("imported", "regions"):
        if record[name] is None:  # as in sets that were made before the field was there
            del record[name]
    if featureset.cells == cell_names(featureset.tokens, featureset.layers):
        del record["cells"]  # tokens and layers say it, as in sets that were made before cells had names
    return record


def cell_names(tokens: str, layers: tuple[int, ...] = ()) -> tuple[str, ...]:
    """Return the names of the cells that a step holds, in their order.

    >>> cell_names("mean+cls", (11, 23))
    ('layer11:mean', 'layer11:cls', 'layer23:mean', 'layer23:cls')
    >>> cell_names("grid2")  # row and column
    ('grid2:0,0', 'grid2:0,1', 'grid2:1,0', 'grid2:1,1')
    """
    cells = [name for kind in tokens.split("+") for name in _places(kind)]
    if not layers:
        return tuple(cells)
    return tuple(f"layer{layer}:{name}" for layer in layers for name in cells)


def _places(kind: str) -> list[str]:
    side = kind.removeprefix("grid")
    if side == kind or not side.isdecimal():
        return [kind]
    return [f"{kind}:{row},{column}" for row in range(int(side)) for column in range(int(side))]


def read_featureset(root: Path) -> FeatureSet:
    """Read featureset.json of a feature set.

    Raises:
        DataError: the file is missing, has another schema, lacks a field, or was changed after it was written.
    """
    return _parsed(Path(root) / FILE_NAME, _read_record(root))


def _read_record(root: Path) -> dict[str, Any]:
    path = Path(root) / FILE_NAME
    if not path.is_file():
        raise DataError(f"{root}: not a feature set: it holds no {FILE_NAME}.")
    record = read_json(path)
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        schema = record.get("schema") if isinstance(record, dict) else None
        raise DataError(f"{path}: schema {schema!r}; this version reads schema {SCHEMA}.")
    return record


def _parsed(path: Path, record: dict[str, Any]) -> FeatureSet:
    try:
        values = {known.name: record[known.name] for known in fields(FeatureSet) if known.name not in _ADDED}
        values |= {name: record.get(name, older) for name, older in _ADDED.items()}
        values["weights"] = Weights(**values["weights"])
        values["sampling"] = Sampling(**values["sampling"])
        values |= {name: tuple(values[name]) for name in ("views", "layers", "cells", "digest_views")}
        featureset = FeatureSet(**values)
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{path}: a field is missing or unknown: {error}.") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    # In records from before views left the digest, it counts those of the record.
    for possible in (featureset, replace(featureset, digest_views=featureset.views)):
        if record.get("digest") == possible.digest:
            return possible
    raise DataError(f"{path}: its digest does not match its content; the file was changed after it was written.")


def create_featureset(root: Path, featureset: FeatureSet) -> FeatureSet:
    """Write featureset.json, or check that an existing one describes the same features; return the record on disk.

    An existing record is given the views that it does not name yet. Several array tasks may call this at once: the
    first task's file is kept, and each adds its views.

    Raises:
        DataError: the folder holds other features, or a view of this name that was made in another way (the message
            names the difference), or cannot be written.
    """
    root = Path(root)
    path = root / FILE_NAME
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: cannot be written: it is not a folder.")
    if not path.is_file():
        _write_if_absent(path, {"schema": SCHEMA, "digest": featureset.digest, **asdict(featureset)})
    existing = read_featureset(root)
    wanted = replace(featureset, digest_views=existing.digest_views)
    if existing.digest != wanted.digest:
        raise DataError(
            f"{root}: holds other features ({difference(existing, wanted)}); extract into another folder (--out)."
        )
    if _with_views_of(existing, featureset, root).views == existing.views:
        return existing
    with folder_locked(root):
        record = _read_record(root)
        named = _with_views_of(_parsed(path, record), featureset, root)
        added = {name: getattr(named, name) for name in ("views", "view_parameters", "digest_views")}
        write_json(path, {**record, **added})
    return named


def _with_views_of(existing: FeatureSet, featureset: FeatureSet, root: Path) -> FeatureSet:
    """Return an existing record with the views of another as well, the plain centre crop first."""
    old, new = existing.view_parameters, featureset.view_parameters
    for view in featureset.views:
        if view in existing.views and old.get(view, {}) != new.get(view, {}):
            raise DataError(
                f"{root}: holds other features of view {view!r} ({old.get(view, {})} there, {new.get(view, {})} is "
                "wanted); extract into another folder (--out)."
            )
    added = tuple(view for view in featureset.views if view not in existing.views)
    views = tuple(sorted((*existing.views, *added), key=lambda view: view != CENTRE))
    return replace(existing, views=views, view_parameters={**old, **{view: new[view] for view in added if view in new}})


def _write_if_absent(path: Path, record: dict[str, Any]) -> None:
    """Write by a hard link, which unlike a rename never replaces a file that another task has just written."""
    candidate = path.with_name(f".{path.name}.{os.getpid()}.candidate")
    write_json(candidate, record)
    try:
        os.link(candidate, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links; the digest is checked afterwards in any case
        os.replace(candidate, path)
    finally:
        candidate.unlink(missing_ok=True)


def difference(existing: FeatureSet, wanted: FeatureSet) -> str:
    old, new = _decisive(existing), _decisive(wanted)
    differences = []
    for name in {**old, **new}:
        there, here = old.get(name), new.get(name)
        if isinstance(there, dict) and isinstance(here, dict):
            keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
            there, here = ({key: record.get(key) for key in keys} for record in (there, here))
        if there != here:
            differences.append(f"{name} is {there!r} there, {here!r} is wanted")
    return "; ".join(differences)
