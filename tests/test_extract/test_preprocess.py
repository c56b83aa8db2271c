"""Pictures reach a backbone as torchvision's own published transforms would hand them over."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet50_Weights
from torchvision.models.video import R2Plus1D_18_Weights

from extract.backbones import get
from extract.preprocess import Preprocess, from_torchvision, prepare

CPU = torch.device("cpu")
RESNET50 = ResNet50_Weights.IMAGENET1K_V2.transforms()
R2PLUS1D_18 = R2Plus1D_18_Weights.KINETICS400_V1.transforms()
# (height, width): the user's copy, originals, odd ones, portrait, square, smaller than the crop, and very wide.
SIZES = [(360, 640), (1080, 1920), (457, 311), (341, 607), (640, 360), (233, 233), (48, 64), (100, 901)]
# torchvision resizes a uint8 tensor in float and rounds to a whole level, which `prepare` leaves out: at most half a
# level of 255, divided by the smallest standard deviation; the rest is float32.
HALF_A_LEVEL = 0.5 / 255
# Pillow rounds twice, after each direction of its resize, and its weights have 22 bits: half a level twice.
A_LEVEL = 1.02 / 255


def _frame(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Give (H, W, 3) uint8 with edges, shades and noise: what makes resizing differ."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    waves = 127 * (1 + np.sin(x / 7 + y / 11 + np.arange(3)[:, None, None]))
    blocks = 255 * ((x // 23 + y // 17) % 2)
    mixed = 0.4 * waves + 0.4 * blocks + 0.2 * rng.uniform(0, 255, (3, *size))
    return mixed.transpose(1, 2, 0).astype(np.uint8)


def _tensor(frame: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frame).permute(2, 0, 1)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_resnet50s_picture_is_torchvisions_but_for_rounding(size):
    frame = _frame(size)
    ours = prepare(frame, get("resnet50").preprocess, CPU)
    torch.testing.assert_close(ours, RESNET50(_tensor(frame)), rtol=0, atol=HALF_A_LEVEL / 0.224 + 1e-4)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_resnet50s_picture_is_that_of_a_pillow_image_but_for_rounding(size):
    frame = _frame(size)
    ours = prepare(frame, get("resnet50").preprocess, CPU)
    torch.testing.assert_close(ours, RESNET50(Image.fromarray(frame)), rtol=0, atol=A_LEVEL / 0.224)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_r2plus1d_18s_clip_is_torchvisions_but_for_rounding(size):
    frames = [_frame(size, seed) for seed in range(3)]
    ours = torch.stack([prepare(frame, get("r2plus1d_18").preprocess, CPU) for frame in frames], dim=1)
    theirs = R2PLUS1D_18(torch.stack([_tensor(frame) for frame in frames]))  # (T, C, H, W) -> (C, T, H, W)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=HALF_A_LEVEL / 0.216989 + 1e-4)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_rounding_alone_is_no_bias(size):
    # A shift, or another way to resize, would show in the mean; rounding does not.
    frame = _frame(size)
    difference = prepare(frame, get("resnet50").preprocess, CPU) - RESNET50(_tensor(frame))
    assert difference.mean().abs() < 1e-3


def test_recipe_without_crop_keeps_the_whole_picture():
    recipe = Preprocess(resize=(12, 20), crop=None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    frame = np.zeros((48, 80, 3), dtype=np.uint8)
    frame[:, 40:, 0] = 255  # the right half is red
    x = prepare(frame, recipe, CPU)
    assert x.shape == (3, 12, 20)
    assert (x[0, :, :9].max(), x[0, :, 11:].min(), x[1:].max()) == (0, 1, 0)


def test_frame_is_left_as_it_was():
    frame = _frame((48, 64))
    before = frame.copy()
    prepare(frame, get("tiny_cnn").preprocess, CPU)
    np.testing.assert_array_equal(frame, before)


def test_recipe_is_taken_over_from_torchvision():
    recipe = from_torchvision(RESNET50)
    assert (recipe.resize, recipe.crop) == (232, (224, 224))
    assert (recipe.interpolation, recipe.antialias) == ("bilinear", True)


def test_video_recipe_is_taken_over_without_antialiasing():
    recipe = from_torchvision(R2PLUS1D_18)
    assert (recipe.resize, recipe.crop) == ((128, 171), (112, 112))
    assert not recipe.antialias
