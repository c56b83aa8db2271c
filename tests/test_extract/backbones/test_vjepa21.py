"""V-JEPA 2.1 gives what its publisher's own code gives, from a file as it is published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_files import GoldenFile, golden_file

from extract.backbones import Backbone, get
from extract.backbones.architecture import TorchModel
from extract.backbones.networks.clip_network import ClipNetwork
from extract.weights.load import load_backbone
from features.errors import DataError

SIZES = ("base", "large", "giant", "gigantic")


def _entry(size: str, golden: GoldenFile, *, plain: bool = False) -> Backbone:
    """Return the record of a backbone, at the size of a golden file."""
    entry = get(f"vjepa21_{size}_384" + ("_plain" if plain else ""))
    width = golden.config["width"]
    sizes = {"dim": width, "heads": golden.config["heads"], "hidden": int(width * golden.config["mlp"])}
    assert golden.config["depth"] == entry.model.make.keywords["depth"]
    return replace(entry, model=TorchModel(partial(entry.model.make, **sizes)))


def _loaded(size: str, *, plain: bool = False) -> tuple[ClipNetwork, GoldenFile]:
    golden = golden_file(f"vjepa21_{size}")
    return load_backbone(_entry(size, golden, plain=plain), str(golden.path))[0], golden


def _assert_equal(ours: torch.Tensor, theirs: np.ndarray) -> None:
    torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("plain", [False, True], ids=["interpolated", "plain"])
@pytest.mark.parametrize("picture", ["", "_wide"], ids=["square", "wide"])
def test_features_are_those_of_the_publisher(size, plain, picture):
    network, golden = _loaded(size, plain=plain)
    arrays, end = golden.arrays, picture + ("_plain" if plain else "")
    with torch.inference_mode():
        (tokens,) = network(torch.from_numpy(arrays["clip" + picture]))
    assert tokens.class_token is None
    _assert_equal(tokens.patches.flatten(2, 3), arrays["tokens" + end])
    if "steps" + end in arrays:
        _assert_equal(tokens.patches.mean(dim=(2, 3)), arrays["steps" + end])


@pytest.mark.parametrize("size", SIZES)
def test_layers_are_normalised_as_the_publisher_normalises_them(size):
    network, golden = _loaded(size)
    clip = torch.from_numpy(golden.arrays["clip"])
    levels = get(f"vjepa21_{size}_384").model.make.keywords["levels"]
    with torch.inference_mode():
        tokens = [layer.patches.flatten(1, 3) for layer in network(clip, levels)]
        first, last = network(clip, (0, levels[-1]))
        unnormalised = network.network.norms_block[-1].register_forward_hook(lambda _, inputs, output: inputs[0])
        (raw,) = network(clip, (0,))
    unnormalised.remove()
    _assert_equal(torch.cat(tokens, dim=2), golden.arrays["levels"])
    _assert_equal(last.patches.flatten(2, 3), golden.arrays["tokens"])
    # A layer without a norm of its own goes through that of the output.
    torch.testing.assert_close(first.patches, network.network.norms_block[-1](raw.patches))


def test_picture_of_a_single_patch_has_features():
    """The publisher's code divides by zero there."""
    network, golden = _loaded("base")
    clip = torch.from_numpy(golden.arrays["clip"])[..., :16, :16]
    plain, _ = _loaded("base", plain=True)
    with torch.inference_mode():
        (tokens,), (expected,) = network(clip), plain(clip)
    assert torch.equal(tokens.patches, expected.patches)


def _saved(golden: GoldenFile, path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> str:
    """Write the golden file with other weights of the encoder."""
    checkpoint = torch.load(golden.path, weights_only=True)
    change(checkpoint[golden.config["key"]])
    torch.save(checkpoint, path)
    return str(path)


NAME = "blocks.1.mlp.fc1.weight"


@pytest.mark.parametrize("size", SIZES)
def test_file_that_does_not_fit_is_refused_with_the_name(size, tmp_path):
    golden = golden_file(f"vjepa21_{size}")
    entry, prefix = _entry(size, golden), "module.backbone."
    changes = {
        f"1 missing: {NAME}": lambda state: state.pop(prefix + NAME),
        "1 unexpected: blocks.1.extra": lambda state: state.update({f"{prefix}blocks.1.extra": torch.zeros(1)}),
        f"1 of another shape: {NAME} \\(1,\\)": lambda state: state.update({prefix + NAME: torch.zeros(1)}),
    }
    for message, change in changes.items():
        with pytest.raises(DataError, match=rf"mine\.pt: does not fit vjepa21_{size}_384 \({message}"):
            load_backbone(entry, _saved(golden, tmp_path / "mine.pt", change))


def test_weights_are_the_averaged_ones():
    """The file also holds those of the last training step, under `encoder`."""
    golden = golden_file("vjepa21_base")
    checkpoint = torch.load(golden.path, weights_only=True)
    name = "module.backbone.blocks.0.attn.qkv.weight"
    assert not torch.equal(checkpoint["encoder"][name], checkpoint["ema_encoder"][name])
    network, _ = load_backbone(_entry("base", golden), str(golden.path))
    assert torch.equal(network.network.blocks[0].attn.qkv.weight, checkpoint["ema_encoder"][name])


def test_file_without_the_averaged_weights_is_refused(tmp_path):
    golden = golden_file("vjepa21_base")
    checkpoint = torch.load(golden.path, weights_only=True)
    del checkpoint["ema_encoder"]
    torch.save(checkpoint, tmp_path / "mine.pt")
    with pytest.raises(DataError, match="nor one under 'ema_encoder'"):
        load_backbone(_entry("base", golden), str(tmp_path / "mine.pt"))
