"""Networks of transformers are made by whichever transformers is there, or by a clear error."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from extract.backbones import get
from features.errors import DataError


def test_missing_transformers_is_an_error_that_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DataError, match=r"transformers is not installed.*pip install '\.\[extract\]'"):
        get("videomae").model.build()


def test_transformers_without_the_model_is_an_error_that_says_which_has_it():
    model = replace(get("dinov3").model, model="DINOv9Model")
    with pytest.raises(DataError, match=r"transformers .* with torch .* has no DINOv9Model; install a newer"):
        model.build()
