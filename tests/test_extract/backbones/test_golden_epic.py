"""Files of Omnivore, VideoMAE, SlowFast, TSM and TSN give the features that their publishers' code gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_files import GoldenFile, golden_file
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.video import SwinTransformer3d

from extract.backbones import Backbone, get
from extract.backbones.architecture import TorchModel
from extract.backbones.networks.clip_network import ClipNetwork
from extract.backbones.networks.pooling import averaged
from extract.backbones.networks.shifted_resnet import ShiftedResNet
from extract.backbones.networks.slowfast import Maps, SlowFast
from extract.backbones.networks.torchvision_image import ImageResNet
from extract.backbones.networks.torchvision_video import SwinSteps
from extract.weights.load import load_backbone
from features.checkpoints import read_published
from features.errors import DataError

TOLERANCE = 2e-5


def _omnivore(config: dict[str, Any]) -> TorchModel:
    sizes = {name: config[name] for name in ("patch_size", "embed_dim", "depths", "num_heads", "window_size")}
    return TorchModel(lambda: SwinSteps(SwinTransformer3d(**sizes)))


def _slowfast(config: dict[str, Any]) -> TorchModel:
    return TorchModel(lambda: Maps(SlowFast(tuple(config["depths"]), width=config["width_per_group"])))


def _narrow_resnet() -> ResNet:
    """Return a ResNet of eight blocks and an eighth of the width, for which torchvision has no setting."""
    network = ResNet(Bottleneck, [1, 1, 1, 1])
    network.inplanes = 8
    network.conv1, network.bn1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8)
    for stage in range(4):
        layer = network._make_layer(Bottleneck, 8 * 2**stage, 2, stride=1 if stage == 0 else 2)
        setattr(network, f"layer{stage + 1}", layer)
    return network


def _videomae(config: dict[str, Any]) -> Any:
    sizes = {
        "image_size": config["img_size"],
        "patch_size": config["patch_size"],
        "hidden_size": config["embed_dim"],
        "num_hidden_layers": config["depth"],
        "num_attention_heads": config["num_heads"],
        "intermediate_size": config["embed_dim"] * config["mlp_ratio"],
    }
    model = get("videomae_large_epic").model
    return replace(model, settings={**model.settings, **sizes})


@dataclass(frozen=True)
class _Case:
    """A golden file: the backbone whose format it has, and its network in the size of the file."""

    backbone: str
    model: Callable[[dict[str, Any]], Any]


CASES = {
    "omnivore_k400": _Case("omnivore_swinb_epic", _omnivore),
    "omnivore_epic": _Case("omnivore_swinb_epic", _omnivore),
    "videomae_epic_deepspeed": _Case("videomae_large_epic", _videomae),
    "videomae_epic_model": _Case("videomae_large_epic", _videomae),
    "videomae_single_head": _Case("videomaev2_base_k710", _videomae),
    "epic_slowfast": _Case("slowfast_r50_epic", _slowfast),
    "epic_tsm": _Case(
        "tsm_r50_epic",
        lambda config: TorchModel(lambda: ShiftedResNet(_narrow_resnet(), num_frames=config["segments"])),
    ),
    "epic_tsn": _Case("tsn_r50_epic", lambda _: TorchModel(lambda: ImageResNet(_narrow_resnet()))),
}
every_case = pytest.mark.parametrize("name", CASES)


@lru_cache(maxsize=1)
def _golden(name: str) -> GoldenFile:
    file = golden_file(name)
    return replace(file, arrays={key: torch.from_numpy(array) for key, array in file.arrays.items()})


def _entry(name: str) -> Backbone:
    """Return the backbone of a golden file, with a network of the file's size."""
    entry = get(CASES[name].backbone)
    return replace(entry, model=CASES[name].model(_golden(name).config))


def _steps(network: ClipNetwork, clip: torch.Tensor, name: str, side: int) -> torch.Tensor:
    """Return the averages over a grid of `side` x `side` cells, (B, P, side * side, D)."""
    with torch.inference_mode():
        if name == "epic_tsn":  # an image backbone
            (tokens,) = network(clip.transpose(1, 2).flatten(0, 1).unsqueeze(2))
            return averaged(tokens.patches, side).squeeze(1).unflatten(0, (len(clip), -1))
        (tokens,) = network(clip)
        return network.normalised_mean(averaged(tokens.patches, side))


@every_case
def test_features_are_those_of_the_publishers_code(name):
    arrays = _golden(name).arrays
    network, _ = load_backbone(_entry(name), str(_golden(name).path))
    steps = _steps(network, arrays["clip"], name, 1)
    torch.testing.assert_close(steps[:, :, 0], arrays["steps"], rtol=0, atol=TOLERANCE)
    tokens = arrays["tokens"]
    if "videomae" in name:  # normalised after the average; the tokens of the file are not normalised
        norm = network.network.fc_norm
        tokens = nn.functional.layer_norm(tokens, tokens.shape[-1:], norm.weight, norm.bias, 1e-6)
    finest = _steps(network, arrays["clip"], name, math.isqrt(tokens.shape[2]))
    torch.testing.assert_close(finest, tokens, rtol=0, atol=TOLERANCE)


def test_file_of_tsn_is_not_taken_for_one_of_tsm():
    tsn = _golden("epic_tsn").path
    with pytest.raises(DataError, match=r"missing: layer1\.0\.conv1\.net\.weight"):
        load_backbone(_entry("epic_tsm"), str(tsn))


# ---- strict: of one name missing, one more, one of another shape, the name is in the message

PARTS = {  # an example: its published name, and what the network calls it
    "omnivore_k400": ("layers.1.blocks.0.mlp.fc2.bias", r"features\.2\.0\.mlp\.3\.bias"),
    "videomae_epic_deepspeed": ("blocks.2.attn.q_bias", r"encoder\.layer\.2\.attention\.attention\.q(uery\.|_)bias"),
    "epic_slowfast": (
        "s3.pathway1_res1.branch2.b_bn.bias",
        r"blocks\.2\.multipathway_blocks\.1\.res_blocks\.1\.branch2\.norm_b\.bias",
    ),
    "epic_tsm": ("model.base_model.layer2.1.conv1.net.weight", r"layer2\.1\.conv1\.net\.weight"),
}


def _changed(name: str, folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> str:
    """Write a golden file's weights after a change; give the path."""
    content = read_published(_golden(name).path)
    key = next(key for key in ("trunk", "module", "model_state", "state_dict") if key in content)
    state = {part: tensor.clone() for part, tensor in content[key].items()}
    change(state)
    torch.save({key: state}, folder / "changed.pth")
    return str(folder / "changed.pth")


@pytest.mark.parametrize("name", PARTS)
def test_missing_name_is_in_the_message(name, tmp_path):
    published, ours = PARTS[name]
    path = _changed(name, tmp_path, lambda state: state.pop(published))
    with pytest.raises(DataError, match=rf"changed\.pth: does not fit {CASES[name].backbone} \(1 missing: \S*{ours}\)"):
        load_backbone(_entry(name), path)


@pytest.mark.parametrize("name", PARTS)
def test_name_that_is_one_too_many_is_in_the_message(name, tmp_path):
    prefix = "model.base_model." if name == "epic_tsm" else ""
    path = _changed(name, tmp_path, lambda state: state.update({f"{prefix}adapter.weight": torch.zeros(1)}))
    with pytest.raises(DataError, match=r"\(1 unexpected: adapter\.weight\)"):
        load_backbone(_entry(name), path)


@pytest.mark.parametrize("name", PARTS)
def test_name_of_another_shape_is_in_the_message(name, tmp_path):
    published, ours = PARTS[name]
    path = _changed(name, tmp_path, lambda state: state.update({published: torch.zeros(5)}))
    with pytest.raises(DataError, match=rf"\(1 of another shape: \S*{ours}\S* \(5,\) instead of \("):
        load_backbone(_entry(name), path)


def test_part_of_a_matrix_that_is_missing_is_in_the_message(tmp_path):
    name = "videomae_epic_deepspeed"
    path = _changed(name, tmp_path, lambda state: state.pop("blocks.1.attn.qkv.weight"))
    with pytest.raises(DataError, match=r"3 missing: \S*layer\.1\.attention\.attention\.key\.weight"):
        load_backbone(_entry(name), path)
