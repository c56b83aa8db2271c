"""Heads of a size that tests can train."""

from __future__ import annotations

import dataclasses

from heads.models.catalogue import get
from heads.registry import options_of

_SMALL = {"hidden": 8, "width": 8, "attention_heads": 2}


def small_options(name: str, **options: object) -> dict[str, object]:
    """Return the options of a small head, with others set besides; of these, only those that the head has."""
    names = {field.name for field in dataclasses.fields(get(name).config)}
    return options_of(get(name).config(**{key: value for key, value in {**_SMALL, **options}.items() if key in names}))
