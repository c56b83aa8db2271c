"""The networks of AVION, EgoHOD, LaViLa and EgoVLP give what their publishers' code gives, from files as published."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from golden_files import GoldenFile, golden_file

from extract.backbones import Backbone, get
from extract.backbones.networks.clip_network import ClipNetwork
from extract.weights.checkpoint import read_checkpoint
from extract.weights.load import load_backbone
from features.errors import DataError

# Golden file -> a row of its layout; the first of each network is kept with the tests.
ROWS = {
    "avion_pretrain_flash": "avion_vitb_ego4d",
    "avion_cls_flash": "avion_vitb_epic",
    "avion_cls_plain": "avion_vitb_epic",
    "egohod_base_flash": "egohod_vitb",
    "lavila_pretrain": "lavila_tsfb_ego4d",
    "lavila_cls_multihead": "lavila_tsfb_epic",
    "lavila_cls_single": "lavila_tsfb_epic",
    "egovlp_converted_f16": "egovlp",
    "egovlp_original": "egovlp",
}
KEPT = ("avion_pretrain_flash", "lavila_pretrain", "egovlp_converted_f16")
TOLERANCE = 2e-5


def _row(name: str, file: GoldenFile) -> Backbone:
    """Return the row of a golden file, with the sizes of the file's network."""
    entry, config = get(ROWS[name]), file.config
    make = partial(
        entry.model.make,
        dim=config["width"],
        depth=config.get("depth", config.get("layers")),
        num_heads=config["heads"],
        patch=config["patch"],
        side=config["image"] // config["patch"],
        num_positions=config["num_frames"],
    )
    return replace(entry, model=replace(entry.model, make=make))


def _network(name: str, path: Path | None = None) -> tuple[ClipNetwork, GoldenFile]:
    """Return the network of a golden file, with its weights or those of another file."""
    file = golden_file(name)
    return load_backbone(_row(name, file), str(path or file.path))[0], file


def _state(file: GoldenFile) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(file.path).state)


def _saved(state: dict[str, torch.Tensor], folder: Path) -> Path:
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, folder / "mine.pth")
    return folder / "mine.pth"


@pytest.mark.parametrize("name", ROWS)
def test_tokens_are_those_of_the_publisher(name):
    network, file = _network(name)
    arrays = {key: torch.from_numpy(array) for key, array in file.arrays.items()}
    clips = {"": arrays["clip"], "2_of_first_two_frames": arrays["clip"][:, :, :2], "8": arrays.get("clip8")}
    compared = set()
    for ending, clip in clips.items():
        if clip is None:
            continue
        (layer,) = network(clip)
        ours = {
            "cls": layer.class_token[:, 0],
            "tokens": layer.patches.flatten(2, 3),
            "steps": layer.patches.mean(dim=(2, 3)),
        }
        for key in ours.keys() & {key.removesuffix(ending) for key in arrays if key.endswith(ending)}:
            torch.testing.assert_close(ours[key], arrays[key + ending], rtol=0, atol=TOLERANCE)
            compared.add(key + ending)
    assert compared >= {"cls", "tokens", "steps"}
    assert compared == {key for key in arrays if key.startswith(("cls", "tokens", "steps"))}


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("change", ["missing", "unexpected", "of another shape"])
def test_file_that_does_not_fit_is_refused_by_name(name, change, tmp_path):
    file = golden_file(name)
    state = _state(file)
    changed = next(key for key in state if key.endswith(("resblocks.1.ln_1.weight", "blocks.1.norm3.weight")))
    if change == "missing":
        del state[changed]
    elif change == "unexpected":
        state[changed.replace(".1.", ".7.")] = state[changed]
    else:
        state[changed] = state[changed][:-1]
    shown = changed.removeprefix("visual.")
    shown = shown.replace(".1.", ".7.") if change == "unexpected" else shown
    with pytest.raises(DataError, match=rf"does not fit {ROWS[name]} \(1 {change}: {shown}"):
        _network(name, _saved(state, tmp_path))


@pytest.mark.parametrize("shape", [(64, 3 * 13 * 13), (64, 587), (64, 3, 13, 13)])
def test_patches_of_another_size_are_refused_by_name(shape, tmp_path):
    state = {**_state(golden_file("avion_pretrain_flash")), "visual.conv1.weight": torch.zeros(shape)}
    with pytest.raises(DataError, match=r"1 of another shape: conv1\.weight \(64, .*\) instead of \(64, 3, 14, 14\)"):
        _network("avion_pretrain_flash", _saved(state, tmp_path))


@pytest.mark.parametrize(
    ("name", "row", "parameter"),
    [
        ("avion_pretrain_flash", "egohod_vitb", "transformer.resblocks.0.adapter.down.weight"),
        ("avion_pretrain_flash", "egohod_vitb", "transformer.resblocks.0.adapter_2.down.weight"),
        ("lavila_pretrain", "lavila_tsfb_ego4d", "blocks.0.alpha_timeattn"),
    ],
)
def test_networks_with_more_than_ours_are_refused(name, row, parameter, tmp_path, monkeypatch):
    """EgoHOD with adapters, and LaViLa's narrator with its gate: without them, their features would be others."""
    monkeypatch.setitem(ROWS, name, row)
    state = {**_state(golden_file(name)), f"visual.{parameter}": torch.zeros(1)}
    with pytest.raises(DataError, match=rf"does not fit {row} \(1 unexpected: {parameter}\)"):
        _network(name, _saved(state, tmp_path))


def test_names_and_shapes_of_files_without_flash_attention_are_the_same_network(tmp_path):
    network, file = _network("avion_pretrain_flash")
    plain = {"attn.Wqkv.": "attn.in_proj_", "mlp.fc1.": "mlp.c_fc.", "mlp.fc2.": "mlp.c_proj."}
    state = {}
    for name, tensor in _state(file).items():
        ours = next((part for part in plain if part in name), "")
        state[name.replace(ours, plain[ours]) if ours else name] = tensor
    assert "visual.transformer.resblocks.2.attn.in_proj_bias" in state
    state["visual.conv1.weight"] = state["visual.conv1.weight"].unflatten(1, (3, 14, 14))
    renamed, _ = _network("avion_pretrain_flash", _saved(state, tmp_path))
    expected = network.network.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in renamed.network.state_dict().items())


def test_file_of_egovlps_own_authors_is_the_same_network(tmp_path):
    network, file = _network("egovlp_converted_f16")
    own = {"visual.": "video_model.", "textual.": "text_model.", "image_": "vid_", "text_": "txt_"}
    names = {name: next((part for part in own if name.startswith(part)), None) for name in _state(file)}
    state = {
        name.replace(part, own[part], 1).replace("projection", "proj"): _state(file)[name]
        for name, part in names.items()
        if part is not None  # the scale of logits
    }
    assert {name.split(".")[0] for name in state} == {"video_model", "text_model", "vid_proj", "txt_proj"}
    renamed, _ = _network("egovlp_converted_f16", _saved(state, tmp_path))
    expected = network.network.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in renamed.network.state_dict().items())


@pytest.mark.parametrize(
    ("name", "row", "is_interpolated"),
    [
        ("avion_pretrain_flash", "avion_vitb_ego4d", False),
        ("avion_pretrain_flash", "egohod_vitb", True),
        ("lavila_pretrain", "lavila_tsfb_ego4d", False),
    ],
)
def test_half_a_clip_takes_the_first_positions_in_time_or_averages_of_two(
    name, row, is_interpolated, tmp_path, monkeypatch
):
    monkeypatch.setitem(ROWS, name, row)
    network, file = _network(name)
    state = _state(file)
    (key,) = (key for key in state if key.startswith("visual.temporal_embed"))
    pairs = state[key].unflatten(-2, (2, 2))
    state[key] = pairs.mean(dim=-2) if is_interpolated else state[key][..., :2, :]
    shorter = _row(name, replace(file, config={**file.config, "num_frames": 2}))
    clip = torch.from_numpy(file.arrays["clip"])[:, :, :2]
    (expected,) = load_backbone(shorter, str(_saved(state, tmp_path)))[0](clip)
    torch.testing.assert_close(network(clip)[0].patches, expected.patches, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", KEPT)
def test_layer_is_what_a_network_without_the_later_blocks_ends_in(name, tmp_path):
    network, file = _network(name)
    state = {key: tensor for key, tensor in _state(file).items() if "visual" in key and "blocks.2." not in key}
    shorter = _row(name, replace(file, config={**file.config, "depth": 2, "layers": 2}))
    clip = torch.from_numpy(file.arrays["clip"])
    (expected,) = load_backbone(shorter, str(_saved(state, tmp_path)))[0](clip)
    middle, last = network(clip, (1, 2))
    assert torch.equal(middle.patches, expected.patches)
    assert torch.equal(middle.class_token, expected.class_token)
    assert torch.equal(last.patches, network(clip)[0].patches)
