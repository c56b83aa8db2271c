"""What a feature set is: which frozen backbone, on what, sampled how. Knows no HDF5.

The record is written once, as featureset.json, before the first video. Its digest stands in every video's file, so
that features made in two ways cannot be mixed in silence.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from features.errors import DataError
from features.files import read_json, sha256_of_json, write_json

SCHEMA = 1
FILE_NAME = "featureset.json"


@dataclass(frozen=True)
class Weights:
    """Which weights a backbone ran with.

    Attributes:
        source: where they came from: a path, an address, or random:SEED.
        revision: what the source calls them, such as IMAGENET1K_V2.
        sha256: of the file, or of the tensors where there is no file.
    """

    source: str
    revision: str
    sha256: str


@dataclass(frozen=True)
class Sampling:
    """Which frames the backbone saw.

    Attributes:
        kind: "segment" (`num_frames` spread over each segment) or "dense" (a clip every `every_s` seconds).
        clip_frames: frames of one forward pass; 1 for an image backbone.
        clip_fps: how many frames of a clip fall into a second; None for an image backbone.
        steps_per_clip: rows of features that one clip gives.
    """

    kind: str
    clip_frames: int
    steps_per_clip: int
    num_frames: int | None = None
    every_s: float | None = None
    clip_fps: float | None = None

    def __post_init__(self) -> None:
        given = {"segment": self.num_frames, "dense": self.every_s}
        if self.kind not in given:
            raise DataError(f"sampling is {self.kind!r}, not 'segment' or 'dense'.")
        if not given[self.kind] or given[self.kind] <= 0:
            raise DataError(f"{self.kind} sampling needs a positive number of frames or seconds.")


@dataclass(frozen=True)
class FeatureSet:
    """The provenance of a folder of features; everything the numbers depend on, and where they came from.

    Attributes:
        preprocess: resize, crop, mean, std as the backbone was published with; recorded and compared, never read.
        precision: of the backbone's arithmetic: float32, bfloat16 or float16.
        views: names of the V views; view 0 is the plain centre crop.
        dim: D, the width of a step.
        tokens: what a step holds of its map: "mean", or the cells of a small grid row by row ("grid2": 2 x 2 of D / 4).
        supervision: of the backbone's pretraining, 0 to 5 as the challenge counts it (epic-kitchens/SLS); None where
            it is not known. As what follows, not part of the digest.
        versions, created: of the software and the first run.
    """

    backbone: str
    weights: Weights
    preprocess: Mapping[str, Any]
    precision: str
    sampling: Sampling
    dim: int
    views: tuple[str, ...] = ("centre",)
    tokens: str = "mean"
    dtype: str = "float16"
    supervision: int | None = field(default=None, compare=False)
    versions: Mapping[str, str] = field(default_factory=dict, compare=False)
    created: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.supervision not in (None, 0, 1, 2, 3, 4, 5):
            raise DataError(f"supervision is {self.supervision!r}, not a level from 0 to 5.")

    @property
    def digest(self) -> str:
        """SHA-256 of what the features depend on. Where the weights lay is left out: their own digest counts."""
        return sha256_of_json(_decisive(self))


def _decisive(featureset: FeatureSet) -> dict[str, Any]:
    record = {"schema": SCHEMA, **asdict(featureset)}
    del record["supervision"], record["versions"], record["created"]
    record["weights"] = featureset.weights.sha256
    record["views"] = list(featureset.views)
    return record


def read_featureset(root: Path) -> FeatureSet:
    """Read featureset.json of a feature set.

    Raises:
        DataError: there is none, it is of another schema, lacks a field, or was changed after it was written.
    """
    path = Path(root) / FILE_NAME
    if not path.is_file():
        raise DataError(f"{root}: not a feature set: there is no {FILE_NAME} in it.")
    record = read_json(path)
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        found = record.get("schema") if isinstance(record, dict) else None
        raise DataError(f"{path}: schema {found!r}; this version reads schema {SCHEMA}.")
    try:
        values = {known.name: record[known.name] for known in fields(FeatureSet) if known.name != "supervision"}
        values["supervision"] = record.get("supervision")  # sets made before it was written do not say
        values["weights"] = Weights(**values["weights"])
        values["sampling"] = Sampling(**values["sampling"])
        values["views"] = tuple(values["views"])
        featureset = FeatureSet(**values)
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: a field is missing or unknown: {error}.") from error
    if record.get("digest") != featureset.digest:
        raise DataError(f"{path}: its digest does not fit its content; it was changed after it was written.")
    return featureset


def create_featureset(root: Path, featureset: FeatureSet) -> FeatureSet:
    """Write featureset.json, or check that the one that is there means the same features. Give the one that stands.

    Several array tasks may call it at once: the first one's file stands.

    Raises:
        DataError: the folder holds features of another kind (the message says what differs), or cannot be written.
    """
    root = Path(root)
    path = root / FILE_NAME
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: cannot be written: it is no folder.")
    if not path.is_file():
        _write_if_absent(path, {"schema": SCHEMA, "digest": featureset.digest, **asdict(featureset)})
    standing = read_featureset(root)
    if standing.digest != featureset.digest:
        raise DataError(
            f"{root}: holds other features ({_difference(standing, featureset)}); "
            "extract into a folder of its own (--out)."
        )
    return standing


def _write_if_absent(path: Path, record: dict[str, Any]) -> None:
    """Publish by a hard link, which unlike a rename never replaces what another task has just written."""
    candidate = path.with_name(f".{path.name}.{os.getpid()}.candidate")
    write_json(candidate, record)
    try:
        os.link(candidate, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links: the digest is checked after either way
        os.replace(candidate, path)
    finally:
        candidate.unlink(missing_ok=True)


def _difference(standing: FeatureSet, wanted: FeatureSet) -> str:
    there, here = _decisive(standing), _decisive(wanted)
    return "; ".join(
        f"{name} {there.get(name)!r} there, {here.get(name)!r} wanted"
        for name in here
        if there.get(name) != here.get(name)
    )
