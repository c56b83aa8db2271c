"""The names of views that mean something to both stages. Knows no file and no tensor."""

from __future__ import annotations

import re

# The plain centre crop, as the backbone's authors evaluate it.
CENTRE = "centre"

_RANDOM = re.compile(r"(rand)?augment[0-9]+")


def is_random(view: str) -> bool:
    """Return whether a view is a random augmentation, which is for training alone.

    >>> [is_random(name) for name in ("augment1", "randaugment12", "flip")]
    [True, True, False]
    """
    return _RANDOM.fullmatch(view) is not None
