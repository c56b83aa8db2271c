"""What a backbone sees of a region is that part of the decoded frame, in RGB, resized as its authors resize."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from encode import decode_all, turn_video, write_video
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from extract.backbone_input import Preprocess
from extract.decode.reading import decode, decode_task, probe
from extract.preprocess import Scaler, normalised
from extract.regions.crops import pixel_box

CPU = torch.device("cpu")
HEIGHT, WIDTH = 180, 320
RECIPES = {
    "bilinear": Preprocess(256, (224, 224), (0.0,) * 3, (1.0,) * 3),
    "bicubic": Preprocess((112, 112), (112, 112), (0.0,) * 3, (1.0,) * 3, interpolation="bicubic"),
    "without antialiasing": Preprocess((64, 80), None, (0.0,) * 3, (1.0,) * 3, antialias=False),
}
BOXES = {
    "within": (0.3, 0.2, 0.6, 0.5),
    "top left": (-0.1, -0.1, 0.2, 0.3),
    "bottom right": (0.85, 0.7, 1.1, 1.2),
    "wide": (0.0, 0.4, 1.0, 0.5),
    "a pixel": (0.5, 0.5, 0.5 + 1 / WIDTH, 0.5 + 1 / HEIGHT),
    "the whole picture": (0.0, 0.0, 1.0, 1.0),
}


def _picture(number: int) -> np.ndarray:
    """A picture with shades, edges and a fine texture, which no turn and no mirror leaves as it is."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    shades = np.stack([x / WIDTH, y / HEIGHT, (x + y) / (WIDTH + HEIGHT)], axis=2) * 150
    edges = (((x + 3 * number) // 41 + y // 29) % 2)[..., None] * np.array([45, 25, 35])
    texture = np.random.default_rng(0).normal(0, 4, (HEIGHT, WIDTH, 1))
    return (50 + shades + edges + texture).clip(0, 255).round().astype(np.uint8)


@pytest.fixture(scope="module", params=[0, 90, 180])
def turned(request, tmp_path_factory) -> tuple[Path, int]:
    """A video that players turn by some degrees counter-clockwise, and these degrees."""
    folder = tmp_path_factory.mktemp("turned")
    path = write_video(folder / "plain.mp4", num_frames=4, picture=_picture)
    return (turn_video(path, folder / "turned.mp4", request.param), request.param) if request.param else (path, 0)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("box", BOXES)
def test_a_region_is_that_part_of_the_upright_frame(turned, recipe, box):
    path, degrees = turned
    preprocess = RECIPES[recipe]
    info = probe(path, on_packet=lambda: None)
    [(_, planes)] = decode(decode_task(info, np.array([2])), on_packet=lambda: None)
    both = torch.from_numpy(planes.y[None].copy()), torch.from_numpy(np.stack([planes.u, planes.v])[None])
    cut_out = Scaler(both, preprocess, CPU).boxed([0], np.array([BOXES[box]]))
    seen = normalised(cut_out, [info.colour], preprocess)[0]

    decoded = [frame for _, frame in decode_all(path)][2]
    upright = np.rot90(decoded, degrees // 90).copy()
    square = pixel_box(BOXES[box], upright.shape[:2])
    rgb = torch.from_numpy(upright).permute(2, 0, 1)
    part = F.crop(rgb, square.top, square.left, square.height, square.width)
    expected = F.resize(
        part, list(seen.shape[1:]), InterpolationMode(preprocess.interpolation), antialias=preprocess.antialias
    )
    difference = 255 * seen - expected
    # Of a crop of 8 x 8 pixels, chroma is not known beyond its border, where the whole frame's goes on.
    assert difference.abs().mean() < 2
    assert difference.mean(dim=(1, 2)).abs().max() < 2


def test_pictures_come_in_the_order_of_their_boxes():
    rng = np.random.default_rng(0)
    sizes = (5, 36, 64), (5, 2, 18, 32)
    planes = tuple(torch.from_numpy(rng.integers(0, 256, size, dtype=np.uint8)) for size in sizes)
    scaler = Scaler(planes, RECIPES["bicubic"], CPU)
    boxes = np.array([BOXES[name] for name in ("within", "a pixel", "within", "wide")])
    together = scaler.boxed([4, 0, 2, 1], boxes)
    for number, box, picture in zip([4, 0, 2, 1], boxes, together, strict=True):
        torch.testing.assert_close(scaler.boxed([number], box[None])[0], picture)
    torch.testing.assert_close(scaler.boxed([4, 0, 2, 1], boxes, flip=True), together.flip(-1))
