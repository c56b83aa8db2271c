"""What the tests of backbones share."""

from __future__ import annotations

import functools

import pytest


@pytest.fixture(scope="session", autouse=True)
def _tables_of_positions_are_made_once():
    """VideoMAE's takes transformers a second and more of Python, for the library's own network and for ours alike."""
    from transformers.models.videomae import modeling_videomae

    with pytest.MonkeyPatch.context() as monkeypatch:
        make = functools.cache(modeling_videomae.get_sinusoid_encoding_table)
        monkeypatch.setattr(modeling_videomae, "get_sinusoid_encoding_table", make)
        yield
