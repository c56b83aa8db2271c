"""InternVideo2 and EgoVideo give what their publishers' own code gives, from files as they are published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
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

# Golden files and the backbones that are published so.
FILES = {
    "internvideo2_distilled": "internvideo2_base",
    "internvideo2_tuned_bf16": "internvideo2_base",
    "internvideo2_pretrain": "internvideo2_1b",
    "egovideo_1b": "egovideo_1b",
}


def _entry(golden: GoldenFile) -> Backbone:
    """Return the record of the backbone that is published as a golden file is, at the size of that file."""
    entry, config = get(FILES[golden.path.stem]), golden.config
    hidden = int(config["embed_dim"] * Fraction(str(config["mlp_ratio"])))
    sizes = {"dim": config["embed_dim"], "depth": config["depth"], "heads": config["num_heads"], "hidden": hidden}
    sizes |= {"num_frames": config["num_frames"], "side": config["img_size"] // config["patch_size"]}
    return replace(entry, model=TorchModel(partial(entry.model.make, **sizes)))


def _loaded(name: str) -> tuple[ClipNetwork, GoldenFile]:
    golden = golden_file(name)
    return load_backbone(_entry(golden), str(golden.path))[0], golden


def _assert_equal(ours: torch.Tensor, theirs: np.ndarray) -> None:
    torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", FILES)
def test_features_are_those_of_the_publisher(name):
    """With the tanh GELU: the arrays of the exact one, which the weights were not trained with, differ by 3e-4."""
    network, golden = _loaded(name)
    with torch.inference_mode():
        (tokens,) = network(torch.from_numpy(golden.arrays["clip"]))
    _assert_equal(tokens.patches.flatten(2, 3), golden.arrays["tokens_tanh"])
    _assert_equal(tokens.patches.mean(dim=(2, 3)), golden.arrays["steps_tanh"])
    _assert_equal(tokens.class_token[:, 0], golden.arrays["cls_tanh"])


def test_clip_of_more_frames_has_positions_between_the_published_ones():
    network, golden = _loaded("internvideo2_distilled")
    _assert_equal(network.network.positions(8), golden.arrays["pos_embed8"])
    with torch.inference_mode():
        (tokens,) = network(torch.from_numpy(golden.arrays["clip8"]))
    _assert_equal(tokens.patches.mean(dim=(2, 3)), golden.arrays["steps8_tanh"])


def test_layers_are_the_outputs_of_blocks():
    network, golden = _loaded("internvideo2_distilled")
    outputs = []
    hooks = [block.register_forward_hook(lambda _, __, x: outputs.append(x)) for block in network.network.blocks]
    clip = torch.from_numpy(golden.arrays["clip"])
    with torch.inference_mode():
        tokens = network(clip, (0, 2))
    for hook in hooks:
        hook.remove()
    for layer, output in zip(tokens, (outputs[0], outputs[2]), strict=True):
        assert torch.equal(torch.cat([layer.class_token, layer.patches.flatten(1, 3)], dim=1), output)


def test_half_precision_weights_become_float32():
    network, _ = _loaded("internvideo2_tuned_bf16")
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def _saved(golden: GoldenFile, path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> str:
    """Write a golden file with other weights."""
    checkpoint = torch.load(golden.path, weights_only=False)  # these are our own
    change(checkpoint.get("module", checkpoint))
    torch.save(checkpoint, path)
    return str(path)


NAME = "blocks.1.mlp.fc1.weight"


@pytest.mark.parametrize("file", FILES)
def test_file_that_does_not_fit_is_refused_with_the_name(file, tmp_path):
    golden = golden_file(file)
    entry, prefix = _entry(golden), "module.visual." if file == "egovideo_1b" else ""
    changes = {
        f"1 missing: {NAME}": lambda state: state.pop(prefix + NAME),
        "1 unexpected: blocks.1.extra": lambda state: state.update({f"{prefix}blocks.1.extra": torch.zeros(1)}),
        f"1 of another shape: {NAME} \\(1,\\)": lambda state: state.update({prefix + NAME: torch.zeros(1)}),
    }
    for message, change in changes.items():
        with pytest.raises(DataError, match=rf"mine\.pth: does not fit {entry.name} \({message}"):
            load_backbone(entry, _saved(golden, tmp_path / "mine.pth", change))


@pytest.mark.parametrize(
    ("name", "tensor"),
    [("pos_embed_spatial", torch.zeros(2)), ("pos_embed_cls", torch.zeros(1, 1, 2)), ("pos_embed", torch.zeros(2))],
)
def test_separate_positions_of_another_shape_are_refused(name, tensor, tmp_path):
    golden = golden_file("internvideo2_distilled")

    def change(state: dict[str, torch.Tensor]) -> None:
        _with_separate_positions(state)
        state[name] = tensor

    with pytest.raises(DataError, match=r"mine\.pth: does not fit internvideo2_base \("):
        load_backbone(_entry(golden), _saved(golden, tmp_path / "mine.pth", change))


def _with_separate_positions(state: dict[str, torch.Tensor]) -> None:
    table = state.pop("pos_embed")  # (1, 1 + 4 * 9, 64)
    frames = table[:, 1:].unflatten(1, (4, 9))
    state["pos_embed_cls"] = table[:, :1]
    state["pos_embed_temporal"] = frames[:, :, 0]
    state["pos_embed_spatial"] = frames[:, 0] - frames[:, 0, :1]


def test_separate_positions_of_space_and_time_are_added(tmp_path):
    golden = golden_file("internvideo2_distilled")
    network, _ = load_backbone(_entry(golden), _saved(golden, tmp_path / "mine.pth", _with_separate_positions))
    whole, _ = _loaded("internvideo2_distilled")
    ours, theirs = (each.network.pos_embed[:, 1:].unflatten(1, (4, 9)) for each in (network, whole))
    torch.testing.assert_close(ours[:, :, 0], theirs[:, :, 0])  # of the first patch of each frame
    torch.testing.assert_close(ours[:, 0], theirs[:, 0])  # of the first frame
    expected = theirs[:, 2, 0] + theirs[:, 0, 5] - theirs[:, 0, 0]
    torch.testing.assert_close(ours[:, 2, 5], expected)
    assert torch.equal(network.network.pos_embed[:, 0], whole.network.pos_embed[:, 0])
