"""Planes reach a backbone as torchvision's own published transforms would hand over the same frame in RGB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from unittest.mock import patch

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, Colorspace
from published_networks import available, shallow
from torchvision.models import ResNet50_Weights
from torchvision.models.video import R2Plus1D_18_Weights
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from extract.backbone_input import Preprocess
from extract.backbones import get
from extract.backbones.networks.pooling import steps
from extract.backbones.tokens import MEAN
from extract.decode.planes import BT601, BT709, Colour, PlaneBatch
from extract.preprocess import normalised, scaled
from extract.weights.load import load_backbone

CPU = torch.device("cpu")
RESNET50 = ResNet50_Weights.IMAGENET1K_V2.transforms(antialias=True)  # its default from 0.17 on
R2PLUS1D_18 = R2Plus1D_18_Weights.KINETICS400_V1.transforms()
BICUBIC = Preprocess(256, (224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), interpolation="bicubic")
WHOLE = Preprocess(resize=(12, 20), crop=None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
RECIPES = {
    "resnet50": get("resnet50").preprocess,
    "r2plus1d_18": get("r2plus1d_18").preprocess,
    "bicubic": BICUBIC,
}
COLOURS = {
    "BT.601 limited": BT601,
    "BT.709 limited": BT709,
    "BT.601 full": Colour(BT601.kr, BT601.kb, full_range=True),
    "BT.709 full": Colour(BT709.kr, BT709.kb, full_range=True),
}
# (height, width): the user's copy, originals, odd ones, portrait, square, smaller than the crop, and very wide.
SIZES = [(360, 640), (1080, 1920), (457, 311), (341, 607), (640, 360), (233, 233), (48, 64), (100, 901)]
# How libswscale makes RGB. Left to itself, at even sizes, it takes a short cut that cuts off instead of rounding and so
# comes out a level too dark; this is SWS_BILINEAR, SWS_ACCURATE_RND and SWS_FULL_CHR_H_INT.
SHORT_CUT, ROUNDED = None, 0x2 | 0x40000 | 0x2000

every_recipe = pytest.mark.parametrize("recipe", RECIPES)
every_colour = pytest.mark.parametrize("colour", COLOURS)
every_size = pytest.mark.parametrize("size", SIZES, ids=str)


@lru_cache(maxsize=4)
def _scene(size: tuple[int, int], moment: int = 0, seed: int = 0) -> np.ndarray:
    """Return a picture, (H, W, 3) uint8: edges, shades, a 1/f texture as in nature; it moves 3 pixels per moment."""
    height, width = size
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(float)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    waves = rng.normal(size=(2, 3, height, width // 2 + 1)).transpose(1, 2, 3, 0).copy().view(complex)[..., 0]
    waves *= np.exp(2j * np.pi * fx * 3 * moment) / np.hypot(fy, fx).clip(1 / max(size))
    texture = np.fft.irfft2(waves, size)
    texture /= texture.std(axis=(1, 2), keepdims=True)
    texture = 28 * texture[:1] + 14 * texture  # colours differ less than brightness
    shades = 60 * np.stack([x / width - 0.5, 0.5 - y / height, (x + y) / (width + height) - 0.5])
    edges = (((x + 3 * moment) // 41 + y // 29) % 2) * np.array([55, -35, 20])[:, None, None]
    return (128 + texture + shades + edges).clip(0, 255).round().astype(np.uint8).transpose(1, 2, 0)


def _film(scene: np.ndarray, colour: Colour, flags: int | None = ROUNDED) -> tuple[PlaneBatch, torch.Tensor]:
    """Return the planes of a scene, and the (3, H, W) uint8 RGB that libswscale makes of those planes."""
    space = Colorspace.ITU601 if colour.kr == BT601.kr else Colorspace.ITU709
    color_range = ColorRange.JPEG if colour.full_range else ColorRange.MPEG
    frame = av.VideoFrame.from_ndarray(scene, format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace=space, dst_color_range=color_range)
    y, u, v = (np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : plane.width] for plane in frame.planes)
    rgb = frame.reformat(format="rgb24", src_colorspace=space, src_color_range=color_range, interpolation=flags)
    return PlaneBatch(y[None].copy(), np.stack([u, v])[None]), torch.from_numpy(rgb.to_ndarray()).permute(2, 0, 1)


def _published_input(rgb: torch.Tensor, recipe: str) -> torch.Tensor:
    """Return the input that torchvision makes of a frame, (3, H, W) uint8 RGB."""
    if recipe == "r2plus1d_18":
        return R2PLUS1D_18(rgb.unsqueeze(0)).squeeze(1)  # (T, C, H, W) -> (C, T, H, W)
    if recipe == "resnet50":
        return RESNET50(rgb)
    x = F.center_crop(F.resize(rgb, [256], InterpolationMode.BICUBIC, antialias=True), [224, 224])
    return F.normalize(x / 255, [0.5] * 3, [0.5] * 3)


def _level_difference(size: tuple[int, int], colour: str, recipe: str, flags: int | None = ROUNDED) -> torch.Tensor:
    """Return our input minus the published one, (3, h, w), in levels of 255."""
    batch, rgb = _film(_scene(size), COLOURS[colour], flags)
    ours = normalised(scaled(batch, RECIPES[recipe], CPU), [COLOURS[colour]], RECIPES[recipe])[0]
    return 255 * (ours - _published_input(rgb, recipe)) * torch.tensor(RECIPES[recipe].std)[:, None, None]


def _noise(num_pictures: int, size: tuple[int, int] = (37, 51), seed: int = 0) -> PlaneBatch:
    rng = np.random.default_rng(seed)
    height, width = size
    y = rng.integers(0, 256, (num_pictures, height, width), dtype=np.uint8)
    return PlaneBatch(y, rng.integers(0, 256, (num_pictures, 2, -(-height // 2), -(-width // 2)), dtype=np.uint8))


# Against what torchvision publishes


@every_recipe
@every_colour
@every_size
def test_pictures_are_torchvisions_to_two_levels(size, colour, recipe):
    # 0.6 to 1.4 as measured: chroma is resized once instead of twice, and planes are rounded instead of colours.
    assert _level_difference(size, colour, recipe).abs().mean() < 2


@every_recipe
@every_colour
@every_size
def test_no_channel_is_brighter_or_darker(size, colour, recipe):
    assert _level_difference(size, colour, recipe).mean(dim=(1, 2)).abs().max() < 0.5


@every_recipe
@every_colour
def test_pictures_are_those_of_libswscales_short_cut_to_two_levels(colour, recipe):
    # What `frame.to_ndarray(format="rgb24")` gives: of 1.9 levels at most, 1.2 are its own cutting off.
    assert _level_difference((360, 640), colour, recipe, SHORT_CUT).abs().mean() < 2


@pytest.mark.parametrize("name", ["resnet50", pytest.param("r2plus1d_18", marks=pytest.mark.slow)])
def test_features_are_those_of_torchvisions_pictures(name):
    entry = get(name)
    network, _ = load_backbone(entry, "random:0")
    ours, theirs, other_scene = [], [], []
    for moment in range(entry.clip.num_frames):
        batch, rgb = _film(_scene((360, 640), moment), BT709, SHORT_CUT)
        ours.append(normalised(scaled(batch, entry.preprocess, CPU), [BT709], entry.preprocess)[0])
        theirs.append(_published_input(rgb, name))
        other_scene.append(_published_input(_film(_scene((360, 640), moment, seed=1), BT709, SHORT_CUT)[1], name))
    clips = torch.stack([torch.stack(clip, dim=1) for clip in (ours, theirs, other_scene)])  # (B, C, L, H, W)
    ours, theirs, other_scene = steps(network, clips, MEAN).flatten(1)
    assert torch.cosine_similarity(ours, theirs, dim=0) >= 0.999
    # All features of a random network point much the same way, even those of two scenes that share only their edges
    # and shades (0.9989 and 0.9997): a tenth of what lies between those is measured here.
    assert (ours - theirs).norm() < 0.2 * (other_scene - theirs).norm()


# Against what transformers publishes

_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def _processor_input(rgb: torch.Tensor, name: str) -> torch.Tensor:
    """Return the input that the processor published with a backbone makes of a frame, (3, H, W) uint8 RGB."""
    from transformers import BitImageProcessor, SiglipImageProcessor, VideoMAEImageProcessor, VJEPA2VideoProcessor

    square = {"height": 224, "width": 224}
    if name == "vjepa2_vitl_256":
        processor = VJEPA2VideoProcessor(size={"shortest_edge": 292}, crop_size=256)
        # It asks for what torch before 2.3 has not.
        with patch.object(torch.compiler, "is_compiling", new=lambda: False, create=True):
            return processor(rgb[None], return_tensors="pt")["pixel_values_videos"][0, 0]
    if name in ("videomae_base_k400", "timesformer_base_k400"):
        colours = _IMAGENET if name.startswith("videomae") else {"image_mean": [0.45] * 3, "image_std": [0.225] * 3}
        processor = VideoMAEImageProcessor(size={"shortest_edge": 224}, crop_size=square, **colours)
        return processor([rgb], return_tensors="pt")["pixel_values"][0, 0]
    if name == "dinov3_base":
        from transformers import DINOv3ViTImageProcessor

        processor = DINOv3ViTImageProcessor(size=square)
    else:
        processor = {
            "dinov2_base": BitImageProcessor(size={"shortest_edge": 256}, crop_size=square, resample=3, **_IMAGENET),
            "siglip2_base": SiglipImageProcessor(size=square, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=2),
        }[name]
    return processor(rgb, return_tensors="pt")["pixel_values"][0]


_OF_TRANSFORMERS = ["dinov2_base", "dinov3_base", "siglip2_base", "timesformer_base_k400", "videomae_base_k400"]
every_processor = pytest.mark.parametrize("name", available([*_OF_TRANSFORMERS, "vjepa2_vitl_256"]))


# Sizes at which the margins of a crop are even: of odd ones transformers crops a pixel further to the left or top than
# torchvision, with whose crop these networks were tested by their authors.
@every_processor
@pytest.mark.parametrize("size", [(360, 720), (1080, 2160), (720, 360)], ids=str)
def test_pictures_are_those_of_the_published_processor_to_two_levels(name, size):
    recipe = get(name).preprocess
    batch, rgb = _film(_scene(size), BT709)
    ours = normalised(scaled(batch, recipe, CPU), [BT709], recipe)[0]
    difference = 255 * (ours - _processor_input(rgb, name)) * torch.tensor(recipe.std)[:, None, None]
    assert difference.abs().mean() < 2
    assert difference.mean(dim=(1, 2)).abs().max() < 0.5


@pytest.mark.parametrize("name", [*available(_OF_TRANSFORMERS), *available(["vjepa2_vitl_256"], pytest.mark.slow)])
def test_features_are_those_of_the_published_processors_pictures(name):
    entry = shallow(get(name))
    network, _ = load_backbone(entry, "random:0")
    ours, theirs = [], []
    for moment in range(entry.clip.num_frames):
        batch, rgb = _film(_scene((360, 720), moment), BT709)
        ours.append(normalised(scaled(batch, entry.preprocess, CPU), [BT709], entry.preprocess)[0])
        theirs.append(_processor_input(rgb, name))
    clips = torch.stack([torch.stack(clip, dim=1) for clip in (ours, theirs)])  # (B, C, L, H, W)
    with torch.inference_mode():
        ours, theirs = steps(network, clips, MEAN)[:, :, 0]
    assert torch.cosine_similarity(ours, theirs, dim=1).min() >= 0.999


# scaled


@every_recipe
@every_size
def test_each_plane_is_resized_and_cropped_as_torchvision_does(size, recipe):
    batch = _noise(1, size)
    settings = RECIPES[recipe]
    mode = InterpolationMode(settings.interpolation)
    resize = [settings.resize] if isinstance(settings.resize, int) else list(settings.resize)
    luma = F.resize(torch.from_numpy(batch.y), resize, mode, antialias=settings.antialias)
    chroma = F.resize(torch.from_numpy(batch.uv[0]), list(luma.shape[1:]), mode, antialias=settings.antialias)
    expected = F.center_crop(torch.cat([luma, chroma]), list(settings.crop))
    # To a level: torch may have another kernel for one plane than for four.
    torch.testing.assert_close(scaled(batch, settings, CPU)[0].int(), expected.int(), rtol=0, atol=1)


@every_recipe
@pytest.mark.parametrize("num_pictures", range(1, 10))
def test_a_picture_does_not_depend_on_those_beside_it(num_pictures, recipe):
    batch, settings = _noise(num_pictures), RECIPES[recipe]
    singles = [PlaneBatch(batch.y[k : k + 1], batch.uv[k : k + 1]) for k in range(num_pictures)]
    assert torch.equal(scaled(batch, settings, CPU), torch.cat([scaled(single, settings, CPU) for single in singles]))


def test_recipe_without_crop_keeps_the_whole_picture():
    y, uv = np.full((1, 48, 80), 16, np.uint8), np.full((1, 2, 24, 40), 128, np.uint8)
    y[:, :, 40:], uv[:, 0, :, 20:], uv[:, 1, :, 20:] = 81, 90, 240  # the right half is red
    x = normalised(scaled(PlaneBatch(y, uv), WHOLE, CPU), [BT601], WHOLE)[0]
    assert x.shape == (3, 12, 20)
    torch.testing.assert_close(x[0, :, :9], torch.zeros(12, 9))
    torch.testing.assert_close(x[0, :, 11:], torch.ones(12, 9), rtol=0, atol=1 / 255)
    assert x[1:].max() < 1 / 255


@pytest.mark.parametrize("size", [(12, 20), (48, 80)], ids=["already the size", "resized"])
def test_pictures_do_not_change_with_the_arrays_they_were_made_of(size):
    batch = _noise(4, size)
    pictures = scaled(batch, WHOLE, CPU)
    pictures_before = pictures.clone()
    batch.y[:], batch.uv[:] = 0, 0
    assert torch.equal(pictures, pictures_before)


def test_planes_are_left_as_they_were():
    batch = _noise(5)
    y, uv = batch.y.copy(), batch.uv.copy()
    normalised(scaled(batch, BICUBIC, CPU), [BT601] * 5, BICUBIC)
    np.testing.assert_array_equal(batch.y, y)
    np.testing.assert_array_equal(batch.uv, uv)


# normalised


def _plain_formula(picture: torch.Tensor, colour: Colour, recipe: Preprocess) -> torch.Tensor:
    """Normalise one picture step by step in float64."""
    matrix, offset = map(torch.from_numpy, colour.to_rgb())
    rgb = torch.einsum("ij,jhw->ihw", matrix, picture.double()) + offset[:, None, None]
    return F.normalize(rgb.clamp(0, 1), list(recipe.mean), list(recipe.std))


def _mixed_pictures(num_pictures: int) -> tuple[torch.Tensor, Sequence[Colour]]:
    """Return pictures, (K, 3, 20, 30) uint8 of every value, and a colour per picture, in turn."""
    pictures = torch.randint(0, 256, (num_pictures, 3, 20, 30), dtype=torch.uint8, generator=torch.manual_seed(0))
    return pictures, [list(COLOURS.values())[number % 4] for number in range(num_pictures)]


@every_recipe
def test_normalised_is_the_plain_formula(recipe):
    pictures, colours = _mixed_pictures(9)
    expected = [_plain_formula(*pair, RECIPES[recipe]) for pair in zip(pictures, colours, strict=True)]
    ours = normalised(pictures, colours, RECIPES[recipe])
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), torch.stack(expected), rtol=0, atol=1e-5)


def test_bgr_is_rgb_with_its_channels_turned_round():
    pictures, colours = _mixed_pictures(4)
    rgb = Preprocess(256, None, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    bgr = replace(rgb, mean=rgb.mean[::-1], std=rgb.std[::-1], channels="BGR")
    assert torch.equal(normalised(pictures, colours, bgr), normalised(pictures, colours, rgb).flip(1))


def test_mean_of_bgr_is_in_the_networks_order():
    y, uv = np.full((1, 12, 20), 81, np.uint8), np.full((1, 2, 6, 10), 90, np.uint8)
    uv[:, 1] = 240  # red
    settings = replace(WHOLE, mean=(0.5, 0.0, 0.0), channels="BGR")
    blue, green, red = normalised(scaled(PlaneBatch(y, uv), settings, CPU), [BT601], settings)[0].mean(dim=(1, 2))
    assert (float(blue), float(green), float(red)) == pytest.approx((-0.5, 0, 1), abs=0.01)


def test_batch_that_mixes_colours_is_each_picture_alone():
    pictures, colours = _mixed_pictures(7)
    singles = [normalised(pictures[k : k + 1], colours[k : k + 1], BICUBIC) for k in range(7)]
    torch.testing.assert_close(normalised(pictures, colours, BICUBIC), torch.cat(singles), rtol=0, atol=1e-6)


def test_autocast_changes_nothing():
    pictures, colours = _mixed_pictures(5)
    expected = normalised(pictures, colours, BICUBIC)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(normalised(pictures, colours, BICUBIC), expected)


def test_a_colour_is_needed_for_every_picture():
    pictures, colours = _mixed_pictures(5)
    with pytest.raises(RuntimeError, match="batch"):
        normalised(pictures, colours[:4], BICUBIC)


@pytest.mark.parametrize(
    "device",
    [
        pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
        pytest.param("mps", marks=pytest.mark.skipif(not torch.backends.mps.is_available(), reason="no MPS device")),
    ],
)
@every_recipe
def test_other_devices_give_what_the_cpu_gives(recipe, device):
    batch, settings = _noise(6, (90, 120)), RECIPES[recipe]
    colours = _mixed_pictures(6)[1]
    ours, expected = (scaled(batch, settings, torch.device(name)) for name in (device, "cpu"))
    torch.testing.assert_close(ours.cpu().int(), expected.int(), rtol=0, atol=1)
    x = normalised(ours, colours, settings)
    assert x.device.type == device
    torch.testing.assert_close(x.cpu(), normalised(ours.cpu(), colours, settings), rtol=0, atol=1e-5)


# Preprocess


@pytest.mark.parametrize("resize", [200, (224, 200), (200, 224)], ids=str)
def test_crop_beyond_the_picture_is_refused(resize):
    with pytest.raises(ValueError, match=r"crop \(224, 224\) does not fit"):
        Preprocess(resize, (224, 224), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_record_says_how_frames_are_scaled():
    # Features made when frames were scaled as RGB have no such key, and so are never taken for the same.
    assert BICUBIC.as_json()["scaled_as"] == "yuv420p, rounded to 8 bits"


def test_record_names_the_channels_only_where_they_are_not_rgb():
    """Or the record of a feature set that was made before BGR was possible would differ from that of today."""
    assert "channels" not in BICUBIC.as_json()
    assert replace(BICUBIC, channels="BGR").as_json() == {**BICUBIC.as_json(), "channels": "BGR"}
