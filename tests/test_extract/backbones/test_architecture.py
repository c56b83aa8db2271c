"""Networks of transformers are made by whichever transformers is there, or by a clear error."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from published_networks import BEFORE_DINOV3

from extract.backbones import get
from features.errors import DataError


def test_missing_transformers_is_an_error_that_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DataError, match=r"transformers is not installed.*pip install '\.\[extract\]'"):
        get("videomae").model.build()


@pytest.mark.parametrize("name", ["DINOv9Model", *(["DINOv3ViTModel"] if BEFORE_DINOV3 else [])])
def test_transformers_without_the_model_is_an_error_that_says_which_has_it(name):
    model = replace(get("dinov3").model, model=name)
    with pytest.raises(DataError, match=rf"transformers .* with torch .* has no {name}; .*DINOv3 with 4\.56, "):
        model.build()
