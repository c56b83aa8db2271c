"""A generated video with segments like those of EPIC-KITCHENS-100, for the benchmarks. The same on every machine."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from tqdm import tqdm

from features.intervals import SegmentTimes

WIDTH, HEIGHT, FPS = 640, 360, 50
# x264's own medium preset: B-frames and a B-pyramid; key frames every 5 s. About the rate of the dataset's 640x360 copy
# (18 GB for 100 hours, 400 kbit/s).
_X264 = {"preset": "medium", "crf": "25", "g": "250", "keyint_min": "250", "sc_threshold": "0"}

# Of the training list: shares and quantiles of the duration, and of the gap from one segment's end to the next one's
# start, which is negative where they overlap; both in seconds. The tails are cut.
_SHARES = (0.0, 0.01, 0.05, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99, 1.0)
_DURATIONS = (0.20, 0.40, 0.57, 0.97, 1.57, 3.13, 6.77, 10.52, 23.65, 40.0)
_GAP_SHARES = (0.0, 0.05, 0.25, 0.50, 0.75, 0.95, 1.0)
_GAPS = (-3.0, -1.19, -0.05, 0.11, 0.97, 4.52, 9.0)


def segments_like_epic(seconds: float, seed: int = 0) -> SegmentTimes:
    """Return segments over a video of this length, drawn from the quantiles of the published training list."""
    rng = np.random.default_rng(seed)
    start, intervals = 1.0, []
    while True:
        stop = start + float(np.interp(rng.random(), _SHARES, _DURATIONS))
        if stop > seconds:
            break
        intervals.append((start, stop))
        start = max(start + 0.1, stop + float(np.interp(rng.random(), _GAP_SHARES, _GAPS)))
    start_s, stop_s = np.array(intervals).T
    return SegmentTimes(tuple(f"P01_101_{number}" for number in range(len(intervals))), start_s, stop_s)


def encoded_once(path: Path, seconds: int) -> Path:
    """Encode a video at `path`, which takes some minutes, unless it exists."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"{os.getpid()}.{path.name}")
        _encode(beside, seconds)
        beside.rename(path)
    return path


def _encode(path: Path, seconds: int) -> None:
    rng = np.random.default_rng(0)
    room = _texture(rng, 1600)
    things = [_texture(rng, 1600)[:size, :size] for size in (90, 60, 130, 75)]
    noise = rng.normal(0, 2.0, (16, HEIGHT, WIDTH, 3)).astype(np.int8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options=_X264)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in tqdm(range(seconds * FPS), unit=" frames", desc="encode, once"):
            picture = _picture(room, things, number / FPS) + noise[number % len(noise)]
            frame = av.VideoFrame.from_ndarray(np.clip(picture, 0, 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _picture(room: np.ndarray, things: list[np.ndarray], t: float) -> np.ndarray:
    """Return the picture at second t of a camera that turns: (H, W, 3) int16, part of a room with moving objects."""
    x = int(480 + 300 * np.sin(0.31 * t) + 120 * np.sin(1.3 * t) + 25 * np.sin(4.1 * t))
    y = int(600 + 350 * np.sin(0.23 * t + 1) + 100 * np.sin(1.1 * t) + 20 * np.sin(5.3 * t))
    picture = room[y : y + HEIGHT, x : x + WIDTH].astype(np.int16)
    for place, thing in enumerate(things):
        size = len(thing)
        left = int((WIDTH - size) * (0.5 + 0.5 * np.sin((0.7 + 0.3 * place) * t + place)))
        top = int((HEIGHT - size) * (0.5 + 0.5 * np.cos((0.9 + 0.2 * place) * t + 2 * place)))
        picture[top : top + size, left : left + size] = thing
    return picture


def _texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return noise of seven octaves, (size, size, 3) uint8: coarse shapes with fine grain."""
    total = np.zeros((size, size, 3), np.float32)
    for octave in range(7):
        coarse = rng.normal(size=(2 ** (octave + 2),) * 2 + (3,)).astype(np.float32)
        total += _enlarged(_enlarged(coarse, size).swapaxes(0, 1), size) * 0.62**octave
    total -= total.min()
    return (total * (255 / total.max())).astype(np.uint8)


def _enlarged(rows: np.ndarray, size: int) -> np.ndarray:
    places = np.linspace(0, len(rows) - 1, size)
    before = np.minimum(places.astype(int), len(rows) - 2)
    share = (places - before).astype(np.float32)[:, None, None]
    return rows[before] * (1 - share) + rows[before + 1] * share
