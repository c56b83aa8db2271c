"""The views that an extraction can take of each clip: their names, their parameters and their random draws.

Pure arithmetic: knows no video and no tensor. extract/preprocess.py crops, extract/colour_changes.py changes colours.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from extract.backbone_input import Preprocess
from features.errors import DataError, OptionError, unknown_name
from features.views import CENTRE

# Moves of early and late views, as a share of the time from one moment of the sampling to the next.
_SHIFT = 0.25
# Random augmentations: the area of the crop, its change of shape, the probability of a mirror image, and by how much
# brightness, contrast and saturation change at most.
_AREA = (0.8, 1.0)
_RATIO = (3 / 4, 4 / 3)
_FLIP = 0.5
_JITTER = 0.2
# torchvision's defaults.
_RANDAUGMENT = {"num_ops": 2, "magnitude": 9, "num_magnitude_bins": 31}

Kind = Literal["plain", "augment", "randaugment"]
Crop = Literal["centre", "left", "right"]


@dataclass(frozen=True)
class View:
    """One look at a clip.

    Attributes:
        name: as it stands in a feature set.
        parameters: how it differs from the plain centre crop, for featureset.json.
        kind: whether anything in it is random.
        crop: of the resized picture, in the middle or at an end of its longer side; "augment" crops at random instead.
        flip: whether it is mirrored.
        shift: how far its moments are moved, as a share of the time from one moment of the sampling to the next.
    """

    name: str
    parameters: Mapping[str, Any] = field(hash=False)
    kind: Kind = "plain"
    crop: Crop = "centre"
    flip: bool = False
    shift: float = 0.0


_PLAIN = {
    view.name: view
    for view in (
        View(CENTRE, {}),
        View("left", {"crop": "left"}, crop="left"),
        View("right", {"crop": "right"}, crop="right"),
        View("flip", {"flip": True}, flip=True),
        View("early", {"shift": -_SHIFT}, shift=-_SHIFT),
        View("late", {"shift": _SHIFT}, shift=_SHIFT),
    )
}
PLAIN_VIEW = _PLAIN[CENTRE]
_PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "augment": {"area": list(_AREA), "ratio": list(_RATIO), "flip": _FLIP, "jitter": _JITTER},
    "randaugment": {"randaugment": _RANDAUGMENT},
}
_KNOWN = (*_PLAIN, *(f"{kind}:K" for kind in _PARAMETERS))


def choose_views(views: str | Sequence[str], preprocess: Preprocess) -> tuple[View, ...]:
    """Return the views of a list such as "centre,flip,augment:3"; K augmentations are named augment1 to augmentK.

    Raises:
        OptionError: there is no such view, one is given twice, or the backbone sees whole pictures, which leave no room
            to move the crop.
    """
    names = view_names(views)
    chosen = [_named(name) for name in names]
    if len(set(names)) < len(names):
        raise OptionError("--views", f"{next(name for name in names if names.count(name) > 1)} is given twice.")
    for view in chosen:
        if view.crop != "centre" and _has_no_room(preprocess):
            raise OptionError(
                "--views", f"{view.name} is the same as centre: this backbone is given the whole picture, not a crop."
            )
    return tuple(chosen)


def _has_no_room(preprocess: Preprocess) -> bool:
    return preprocess.crop is None or preprocess.crop == preprocess.resize


def view_names(views: str | Sequence[str]) -> list[str]:
    """Return the names of a list of views, as a feature set has them.

    >>> view_names("centre,augment:2")
    ['centre', 'augment1', 'augment2']

    Raises:
        OptionError: a number of augmentations is none.
    """
    words = views.split(",") if isinstance(views, str) else views
    return [name for word in words for name in _expanded(word.strip())]


def _expanded(word: str) -> list[str]:
    kind, colon, count = word.partition(":")
    if not colon or kind not in _PARAMETERS:
        return [word]
    if not count.isdecimal() or int(count) < 1:
        raise OptionError("--views", f"{word}: {count!r} is not a number of augmentations above 0.")
    return [f"{kind}{number}" for number in range(1, int(count) + 1)]


def _named(name: str) -> View:
    match = re.fullmatch(r"(augment|randaugment)([1-9][0-9]*)", name)
    if match:
        kind: Kind = "augment" if match[1] == "augment" else "randaugment"
        return View(name, _PARAMETERS[kind], kind)
    if name not in _PLAIN:
        raise unknown_name("--views", "view", name, _KNOWN)
    return _PLAIN[name]


def stored_views(names: Sequence[str], place: object) -> tuple[View, ...]:
    """Return views by the names that a feature set has of them.

    Raises:
        DataError: one is none that can be extracted; the message begins with `place`.
    """
    try:
        return tuple(_named(name) for name in names)
    except OptionError as error:
        raise DataError(f"{place}: it has a view that cannot be extracted again ({error}).") from error


@dataclass(frozen=True)
class Box:
    """A part of a picture, in pixels. All are even, so that a part of the chroma planes is exactly half of it."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Draw:
    """The random numbers of one augmentation.

    Attributes:
        area, ratio, top, left: from 0 to 1, of the crop.
        flip: whether it is mirrored.
        factors: of brightness, contrast and saturation.
        order: in which these three are changed.
    """

    area: float
    ratio: float
    top: float
    left: float
    flip: bool
    factors: tuple[float, float, float]
    order: tuple[int, int, int]

    def box(self, size: tuple[int, int], largest: tuple[float, float]) -> Box:
        """Return the crop of a picture.

        A share of the area of the `largest` box that a crop without a change of shape would be, in a shape that
        differs by at most a third and fits into the picture, anywhere in it. So crops of a wide picture reach its ends.

        Args:
            size, largest: height and width.
        """
        height, width = size
        area = _between(*_AREA, self.area)
        low = max(_RATIO[0], area * (largest[0] / height) ** 2)
        high = min(_RATIO[1], (width / largest[1]) ** 2 / area)
        ratio = math.exp(_between(math.log(low), math.log(high), self.ratio))
        box_height = _even(largest[0] * math.sqrt(area / ratio), height)
        box_width = _even(largest[1] * math.sqrt(area * ratio), width)
        top = _even(self.top * (height - box_height), height - box_height)
        left = _even(self.left * (width - box_width), width - box_width)
        return Box(top, left, max(box_height, 2), max(box_width, 2))


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def _even(pixels: float, most: int) -> int:
    return min(2 * round(pixels / 2), most // 2 * 2)


def draw(view: str, name: str) -> Draw:
    """Return the draw of a view for a segment, or for a whole video: always the same, on every machine.

    Args:
        name: narration_id of the segment, or the video's id.
    """
    # Python promises the same numbers for the same text in all versions, but only of `random`.
    number = random.Random(f"{view}:{name}").random
    area, ratio, top, left = (number() for _ in range(4))
    is_flipped = number() < _FLIP
    brightness, contrast, saturation = (_between(1 - _JITTER, 1 + _JITTER, number()) for _ in range(3))
    keys = [number() for _ in range(3)]
    first, second, third = sorted(range(3), key=keys.__getitem__)
    return Draw(area, ratio, top, left, is_flipped, (brightness, contrast, saturation), (first, second, third))


def seed(view: str, name: str) -> int:
    """Return the seed of a view for a segment, or for a whole video, for torch's generator."""
    return int(random.Random(f"{view}:{name}").random() * 2**53)
