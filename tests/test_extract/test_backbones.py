"""The contract of every backbone, and that those of torchvision give torchvision's own features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet50
from torchvision.models.video import r2plus1d_18

from extract.backbones import Backbone, get, names, register
from extract.planes import BT601, PlaneBatch
from extract.preprocess import normalised, scaled
from extract.weights import load_backbone
from features.errors import OptionError
from features.featureset import Weights

every_backbone = pytest.mark.parametrize("name", names())


def _clips(entry: Backbone, num_clips: int) -> torch.Tensor:
    """Give (B, C, L, H, W) of noise, through the backbone's own preprocessing."""
    num = num_clips * entry.clip.num_frames
    return _prepared(entry, num, (60, 80)).unflatten(0, (num_clips, -1)).transpose(1, 2)


def _prepared(entry: Backbone, num: int, size: tuple[int, int]) -> torch.Tensor:
    """Give pictures of noise as the backbone wants them, (num, 3, h, w)."""
    rng = np.random.default_rng(0)
    height, width = size
    y = rng.integers(0, 256, (num, height, width), dtype=np.uint8)
    uv = rng.integers(0, 256, (num, 2, height // 2, width // 2), dtype=np.uint8)
    pictures = scaled(PlaneBatch(y, uv), entry.preprocess, torch.device("cpu"))
    return normalised(pictures, [BT601] * num, entry.preprocess)


@dataclass(frozen=True)
class _Used:
    """A backbone that has been used: with random:0, two clips, and the steps it gave for them."""

    entry: Backbone
    network: nn.Module
    weights: Weights
    clips: torch.Tensor
    steps: torch.Tensor


@pytest.fixture(scope="module", params=names())
def used(request) -> _Used:
    entry = get(request.param)
    network, weights = load_backbone(entry, "random:0")
    clips = _clips(entry, 2)
    return _Used(entry, network, weights, clips, network(clips))


def test_steps_have_the_shape_that_the_entry_says(used):
    assert used.steps.shape == (2, used.entry.clip.num_steps, used.entry.dim)


def test_steps_are_float32(used):
    assert used.steps.dtype == torch.float32


def test_network_is_in_eval_mode_throughout(used):
    assert not any(module.training for module in used.network.modules())


def test_network_takes_no_gradients(used):
    assert not any(parameter.requires_grad for parameter in used.network.parameters())
    assert not used.steps.requires_grad


def test_batch_of_one_equals_row_of_many(used):
    alone = used.network(used.clips[1:])
    torch.testing.assert_close(alone, used.steps[1:], rtol=1e-5, atol=1e-5 * float(used.steps.abs().max()))


def test_different_clips_give_different_steps(used):
    assert not torch.allclose(*used.steps, rtol=1e-3)


def test_same_seed_gives_the_same_weights_and_use_does_not_change_them(used):
    fresh, weights = load_backbone(used.entry, "random:0")
    state = used.network.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in fresh.state_dict().items())
    assert weights == used.weights


def test_other_seed_gives_other_weights(used):
    other, weights = load_backbone(used.entry, "random:1")
    state = used.network.state_dict()
    assert any(not torch.equal(tensor, state[key]) for key, tensor in other.state_dict().items())
    assert weights.sha256 != used.weights.sha256


@every_backbone
def test_loading_leaves_the_random_state_as_it_was(name):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load_backbone(get(name), "random:0")
    assert torch.rand(1) == expected


@every_backbone
def test_preprocessing_gives_pictures_of_one_size(name):
    entry = get(name)
    sizes = {tuple(_prepared(entry, 1, size).shape) for size in [(360, 640), (640, 360), (48, 64)]}
    assert sizes == {(1, 3, *(entry.preprocess.crop or entry.preprocess.resize))}


@every_backbone
def test_record_of_preprocessing_is_plain_json_values(name):
    record = get(name).preprocess.as_json()
    assert all(isinstance(value, (int, float, str, bool, list, type(None))) for value in record.values())


@every_backbone
def test_published_weights_come_from_where_they_were_published(name):
    weights = get(name).weights
    assert weights is None or weights.url.startswith("https://download.pytorch.org/models/")


def test_names_are_sorted_and_known():
    assert names() == sorted(names())
    assert all(get(name).name == name for name in names())


def test_name_can_be_taken_once():
    with pytest.raises(ValueError, match="twice"):
        register(get("tiny_cnn"))


def test_unknown_name_is_refused_with_the_nearest_known_one():
    with pytest.raises(OptionError, match=r"did you mean 'resnet50'\?"):
        get("resnet5")


# ---- torchvision's own features, with the same weights


def _with_random_weights(network: nn.Module) -> nn.Module:
    """Fill every parameter and every running statistic, so that none can be forgotten unnoticed."""
    generator = torch.Generator().manual_seed(3)
    for key, tensor in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        noise = torch.rand(tensor.shape, generator=generator)
        if key.endswith("running_var"):
            tensor.copy_(0.8 + 0.4 * noise)
        elif tensor.ndim == 1:  # biases, scales, means
            tensor.add_(0.2 * (noise - 0.5))
    return network.eval().requires_grad_(False)


def _output_of(layer: nn.Module, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Give what a layer of a network gives for an input of the network."""
    given = []
    handle = layer.register_forward_hook(lambda module, inputs, output: given.append(output))
    network(x)
    handle.remove()
    return given[0]


def test_resnet50_gives_what_goes_into_torchvisions_classifier(tmp_path):
    theirs = _with_random_weights(resnet50())
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours, _ = load_backbone(get("resnet50"), str(tmp_path / "weights.pth"))
    clips = _clips(get("resnet50"), 2)
    expected = _output_of(theirs.avgpool, theirs, clips[:, :, 0]).flatten(1)
    assert expected.std() > 0.01
    torch.testing.assert_close(ours(clips)[:, 0], expected, rtol=1e-4, atol=1e-4)


@dataclass(frozen=True)
class _VideoResnets:
    """Our r2plus1d_18 and torchvision's with the same weights, a clip, and our steps for it."""

    ours: nn.Module
    theirs: nn.Module
    clip: torch.Tensor  # a quarter of the pixels, for speed
    steps: torch.Tensor


@pytest.fixture(scope="module")
def video_resnets(tmp_path_factory) -> _VideoResnets:
    theirs = _with_random_weights(r2plus1d_18())
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(theirs.state_dict(), path)
    ours, _ = load_backbone(get("r2plus1d_18"), str(path))
    clip = _clips(get("r2plus1d_18"), 1)[..., :56, :56]
    return _VideoResnets(ours, theirs, clip, ours(clip))


def test_r2plus1d_18_gives_torchvisions_last_map_averaged_over_space(video_resnets):
    theirs = video_resnets.theirs
    last_map = _output_of(theirs.layer4, theirs, video_resnets.clip)[0]  # (D, P, H, W)
    expected = np.stack([last_map[:, step].flatten(1).numpy().mean(axis=1) for step in range(2)])
    assert expected.std() > 0.01
    np.testing.assert_allclose(video_resnets.steps[0].numpy(), expected, rtol=1e-4, atol=1e-4)


def test_r2plus1d_18_averaged_over_time_is_what_goes_into_torchvisions_classifier(video_resnets):
    theirs = video_resnets.theirs
    expected = _output_of(theirs.avgpool, theirs, video_resnets.clip).flatten(1)
    torch.testing.assert_close(video_resnets.steps.mean(dim=1), expected, rtol=1e-4, atol=1e-4)


def test_steps_of_r2plus1d_18_are_in_order_of_time(video_resnets):
    # Each step sees mostly its own half: changing the last frames moves the last step more than the first.
    changed = video_resnets.clip.clone()
    changed[:, :, -4:] = -changed[:, :, -4:]
    first, last = (video_resnets.ours(changed) - video_resnets.steps)[0].abs().mean(dim=1)
    assert last > first
