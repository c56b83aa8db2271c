"""A miniature of EPIC-KITCHENS-100: minutes of drawn video, annotated as the published ones are.

It owns what is seen and what the annotation files say, and imports none of what reads them, so that
it can disagree with it.

A noun is what an object on a worktop looks like. A verb is how the object goes round a circle, up and
down and, outward from the middle of the picture, nearer: in whole turns one way or the other, from
about the lowest place. So every verb spends the same time at every place: neither one frame nor an
average of frames tells verbs apart, their order does. A mirrored video shows the same verb, as in a
kitchen. All of it lies about within the square that backbones crop from the middle of the picture.

    python tests/support/miniature.py demo --size demo

With `--objects small`, objects are small, a hand moves them over a worktop full of other objects, and hand-objects/ has
their boxes in the published format: for what looks at a part of the picture only.

With `--nouns before`, a segment's object is a grey disc, alike for all nouns, and what it is shows only in the second
before it: for heads that look beyond the segment.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import itertools
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
from hand_objects import Found, Hand, message, write_detections

from features.progress import progress

WIDTH, HEIGHT = 128, 72  # pixels
_MARGIN = 8  # pixels of worktop around the picture, for the head to sway over
_LANE_X = 22  # pixels from the middle of the picture to the middle of a lane's circle
_CIRCLE_RADIUS = 17  # pixels
_OUTWARD = 13  # pixels that an object is farther out at its nearest than halfway
_DEPTH = 0.3  # how much larger it is there
_START_SPREAD = 0.4  # standard deviation of where on the circle a motion begins, in radians
# What differs from segment to segment, so that nouns can be learnt well but not to the last one.
_OBJECT_RADIUS = 9, 12  # pixels, halfway
_LIGHT = 0.85, 1.15
_COLOUR_SPREAD = 10  # standard deviation, of 0..255
# Where objects are small.
_SMALL_RADIUS = 4.5, 6  # pixels, halfway
_NUM_OTHERS = 14  # objects that lie about
_MISSED_S = 0.05, 0.4  # how long detections fail, and after how long they fail again
_MISSED_EVERY_S = 1.0, 4.0


@dataclass(frozen=True)
class Verb:
    """A verb class: key and category as published, and the turns (1 or -1) of its motion in order."""

    key: str
    category: str
    turns: tuple[int, ...]


@dataclass(frozen=True)
class Noun:
    """A noun class: key and category as published, and the look of its object.

    Attributes:
        rgb: colour, 0..255.
        parts: (x, y, half width, half height, exponent) of superellipses, in a square from -1 to 1
            with y downwards; exponent 2 is an ellipse, 8 a box with round corners.
    """

    key: str
    category: str
    rgb: tuple[int, int, int]
    parts: tuple[tuple[float, float, float, float, int], ...]


# Class ids are the places in these tuples: the first of the real lists, most frequent first.
VERBS = (
    Verb("take", "retrieve", (1,)),
    Verb("put", "leave", (-1,)),
    Verb("wash", "clean", (1, 1)),
    Verb("open", "access", (1, -1)),
    Verb("close", "block", (-1, 1)),
    Verb("insert", "leave", (-1, -1)),
    Verb("turn-on", "access", (1, -1, 1)),
    Verb("cut", "split", (-1, 1, -1)),
)
NOUNS = (
    Noun("tap", "appliances", (150, 165, 185), ((-0.4, 0, 0.25, 1, 8), (0.2, -0.7, 0.8, 0.3, 8))),
    Noun("spoon", "cutlery", (190, 190, 200), ((0, -0.6, 0.45, 0.4, 2), (0, 0.3, 0.15, 0.7, 8))),
    Noun("plate", "crockery", (235, 235, 225), ((0, 0, 1, 1, 2),)),
    Noun("cupboard", "storage", (140, 95, 55), ((0, 0, 0.9, 0.9, 8),)),
    Noun("knife", "cutlery", (200, 205, 215), ((0, -0.2, 0.25, 0.8, 2), (0, 0.6, 0.2, 0.4, 8))),
    Noun("pan", "cookware", (50, 50, 60), ((-0.3, 0, 0.7, 0.7, 2), (0.6, 0, 0.4, 0.15, 8))),
    Noun("lid", "containers", (90, 100, 110), ((0, 0.2, 1, 0.6, 2), (0, -0.6, 0.25, 0.3, 8))),
    Noun("bowl", "crockery", (70, 110, 200), ((0, 0, 1, 0.65, 2),)),
    Noun("drawer", "furniture", (165, 115, 70), ((0, 0, 1, 0.5, 8),)),
    Noun("sponge", "cleaning equipment and material", (225, 200, 60), ((0, 0, 0.8, 0.45, 8),)),
    Noun("glass", "crockery", (165, 215, 225), ((0, 0, 0.45, 0.95, 8),)),
    Noun("hand", "hand", (215, 155, 130), ((0, 0.3, 0.7, 0.6, 2), (0, -0.5, 0.5, 0.5, 8))),
)
# What stands for each of them where the noun shows only before.
_DISC = Noun("disc", "none", (60, 60, 60), ((0, 0, 0.8, 0.8, 2),))
_HAND = Noun("hand that holds", "none", (205, 150, 125), ((0, 0.3, 0.7, 0.6, 2), (0, -0.5, 0.5, 0.5, 8)))
_BEFORE_CS = 60, 80  # for how long a noun shows before its segment, in centiseconds
_APART_CS = 60, 80  # for how long nothing shows before that
# The rarer half of the classes, about a fifth of the segments, as under the real lists.
TAIL_VERBS = range(4, len(VERBS))
TAIL_NOUNS = range(6, len(NOUNS))


@dataclass(frozen=True)
class Miniature:
    """Where a miniature lies: the folder of the CSV files, that of videos/PXX/PXX_YY.mp4, and that of boxes if any."""

    annotations: Path
    videos: Path
    boxes: Path | None = None


@dataclass(frozen=True)
class _Size:
    """The videos of each split, and the least and the most segments that a video has."""

    splits: dict[str, Sequence[str]]
    num_segments: tuple[int, int]


def _ids(participants: Sequence[int], videos: Sequence[int]) -> list[str]:
    return [f"P{p:02}_{v:02}" for p, v in itertools.product(participants, videos)]


# As published: train has both kinds of video, validation the first (PXX_YY), test the extension's
# (PXX_1YY); validation and test have one participant each whom train has not.
_SIZES = {
    "test": _Size(
        {
            "train": ["P01_01", "P02_101", "P03_01"],
            "validation": ["P01_02", "P04_01"],
            "test": ["P02_102", "P05_101"],
        },
        num_segments=(6, 8),
    ),
    "demo": _Size(
        {
            "train": _ids(range(1, 5), [*range(1, 7), *range(101, 104)]),
            "validation": [*_ids(range(1, 5), [7, 8]), "P05_01"],
            "test": [*_ids(range(1, 4), [104]), "P06_101"],
        },
        num_segments=(22, 29),
    ),
    "crops": _Size(
        {"train": _ids(range(1, 5), [1, 2]), "validation": _ids(range(1, 5), [7]), "test": ["P05_101"]},
        num_segments=(22, 29),
    ),
    "context": _Size(
        {
            "train": _ids(range(1, 5), [*range(1, 4)]),
            "validation": _ids(range(1, 5), [7]),
            "test": ["P02_102", "P05_101"],
        },
        num_segments=(22, 29),
    ),
}


@dataclass(frozen=True)
class _Action:
    """A segment without its id. Centiseconds are what the published timestamps resolve."""

    start_cs: int
    stop_cs: int
    verb_class: int
    noun_class: int
    lane: int  # -1 left, 1 right
    before_cs: int = 0  # for how long the noun shows before, and then not in the segment; 0 for in the segment


@dataclass(frozen=True)
class _Video:
    """What one video shows: its actions, in order of time, and how long it goes on."""

    video_id: str
    actions: tuple[_Action, ...]
    stop_cs: int

    @property
    def participant_id(self) -> str:
        return self.video_id.split("_")[0]

    @property
    def is_extension(self) -> bool:
        return len(self.video_id) == len("P01_101")

    @property
    def fps(self) -> Fraction:
        return Fraction(50) if self.is_extension else Fraction(60000, 1001)

    @property
    def num_frames(self) -> int:
        return math.ceil(self.stop_cs * self.fps / 100)

    @property
    def duration_s(self) -> float:
        return float(self.num_frames / self.fps)


def write_miniature(
    out: Path, *, size: str = "test", seed: int = 0, nouns: str = "within", objects: str = "large"
) -> Miniature:
    """Write a miniature into `out`, or find it there: of this size and seed, by this version.

    Args:
        nouns: whether objects show "within" their segments, or only "before" them.
        objects: "large", or "small" among many others and with boxes of hands and objects.

    An unfinished or another miniature there is replaced. One machine always makes the same bytes.

    Raises:
        ValueError: `size` is unknown.
        FileExistsError: `out` holds annotations or videos that are not a miniature's.
    """
    if size not in _SIZES:
        raise ValueError(f"--size: no size {size!r}. Known: {', '.join(_SIZES)}.")
    start_time = time.monotonic()
    is_small = objects == "small"
    boxes = Path(out, "hand-objects")
    miniature = Miniature(Path(out, "annotations"), Path(out, "videos"), boxes if is_small else None)
    marker = Path(out, "miniature.json")
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    record = json.dumps({"size": size, "seed": seed, "nouns": nouns, "objects": objects, "version": version})
    if marker.is_file():
        if marker.read_text() == record:
            print(f"{out}: is there already (--size {size} --seed {seed})", file=sys.stderr)
            return miniature
    elif miniature.annotations.exists() or miniature.videos.exists():
        raise FileExistsError(f"{out}: holds a dataset that is no miniature; choose another folder.")

    unfinished_folder = Path(out, ".unfinished")
    shutil.rmtree(unfinished_folder, ignore_errors=True)
    unfinished_folder.mkdir(parents=True)
    marker.write_text("")  # what lies here is ours to replace, and not finished
    splits = _plan(_SIZES[size], np.random.default_rng(seed))
    if nouns == "before":
        splits = {split: [_with_nouns_before(video) for video in videos] for split, videos in splits.items()}
    videos = list(itertools.chain.from_iterable(splits.values()))
    _write_annotations(unfinished_folder / "annotations", splits)
    # Threads suffice: encoding is most of the time, and goes on without the interpreter's lock.
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        progress(total=len(videos), unit="videos", label="draw the miniature") as bar,
    ):
        for _ in pool.map(lambda video: _write_video(unfinished_folder, video, seed, is_small=is_small), videos):
            bar.update()
    for folder in (miniature.annotations, miniature.videos, boxes):
        shutil.rmtree(folder, ignore_errors=True)
        if (unfinished_folder / folder.name).exists():
            os.replace(unfinished_folder / folder.name, folder)
    unfinished_folder.rmdir()
    marker.write_text(record)

    print(
        f"{out}: {len(videos)} videos, {sum(len(video.actions) for video in videos)} segments, "
        f"{sum(video.duration_s for video in videos):.0f} s of video "
        f"(made in {time.monotonic() - start_time:.0f} s)",
        file=sys.stderr,
    )
    return miniature


def motion(turns: Sequence[int], share: np.ndarray) -> np.ndarray:
    """Return the angle (radians, from its start) of an object at each `share` (0..1) of a segment.

    >>> (motion((1, -1), np.array([0, 0.25, 0.5, 0.75])) / math.pi).tolist()
    [0.0, 1.0, 2.0, 1.0]
    """
    knots = np.linspace(0, 1, len(turns) + 1)
    return 2 * math.pi * np.interp(share, knots, np.cumsum([0, *turns]))


# ---- what happens in which video


def _plan(size: _Size, rng: np.random.Generator) -> dict[str, list[_Video]]:
    least, most = size.num_segments
    plan = {}
    for split, video_ids in size.splits.items():
        counts = rng.integers(least, most + 1, len(video_ids))
        every_class = split == "train"
        verbs = iter(_zipf(rng, counts.sum(), num_classes=len(VERBS), every_class=every_class))
        nouns = iter(_zipf(rng, counts.sum(), num_classes=len(NOUNS), every_class=every_class))
        plan[split] = [
            _plan_video(rng, video_id, _timeline(rng, count), verbs, nouns)
            for video_id, count in zip(video_ids, counts, strict=True)
        ]
    return plan


def _zipf(rng: np.random.Generator, num: int, *, num_classes: int, every_class: bool) -> list[int]:
    """Draw class ids by Zipf's law, in random order; with `every_class`, every class at least once."""
    required_classes = np.arange(num_classes if every_class else 0)
    weights = 1 / np.arange(1, num_classes + 1)
    draws = rng.choice(num_classes, num - len(required_classes), p=weights / weights.sum())
    return rng.permutation(np.concatenate([required_classes, draws])).tolist()


def _timeline(rng: np.random.Generator, num: int) -> list[tuple[int, int]]:
    """Draw (start, stop) in centiseconds: long and overlapping as published, but for the longest."""
    lengths = np.clip(rng.lognormal(math.log(120), 0.65, num), 30, 800).astype(int)
    # Less than half of the shorter neighbour, so that three segments never meet.
    longest = np.minimum(50, 0.4 * np.minimum(lengths, np.roll(lengths, 1)))
    overlaps = rng.uniform(0.3, 1, num) * longest
    gaps = 5 + rng.exponential(45, num)
    steps = np.where(rng.random(num) < 0.25, -overlaps, gaps).astype(int)
    steps[0] = gaps[0]
    stops = np.cumsum(steps + lengths)
    return list(zip((stops - lengths).tolist(), stops.tolist(), strict=True))


def _plan_video(
    rng: np.random.Generator,
    video_id: str,
    timeline: Sequence[tuple[int, int]],
    verbs: Iterator[int],
    nouns: Iterator[int],
) -> _Video:
    lanes = itertools.cycle([-1, 1])  # in turn, so that of two overlapping objects both are seen
    actions = tuple(_Action(start_cs, stop_cs, next(verbs), next(nouns), next(lanes)) for start_cs, stop_cs in timeline)
    return _Video(video_id, actions, actions[-1].stop_cs + int(rng.integers(20, 150)))


def _with_nouns_before(video: _Video) -> _Video:
    """Return the same video with the actions apart from each other, and room before each for its noun to show."""
    rng = np.random.default_rng(video.stop_cs)
    actions, free_from = [], 0
    for action in video.actions:
        before_cs = int(rng.integers(*_BEFORE_CS))
        start = free_from + int(rng.integers(*_APART_CS)) + before_cs
        stop = start + action.stop_cs - action.start_cs
        actions.append(replace(action, start_cs=start, stop_cs=stop, before_cs=before_cs))
        free_from = stop
    return replace(video, actions=tuple(actions), stop_cs=free_from + 50)


# ---- the annotation files


def _write_annotations(folder: Path, splits: dict[str, list[_Video]]) -> None:
    def write(name: str, rows: pd.DataFrame, *, newline: str = "\n") -> None:
        rows.to_csv(folder / f"EPIC_100_{name}.csv", index=False, lineterminator=newline)

    folder.mkdir()
    for split, videos in splits.items():
        rows = pd.DataFrame([row for video in videos for row in _rows(video)])
        rows = rows.sort_values("narration_id")  # as text, as published: P01_01_1, P01_01_10
        if split == "test":
            write("test_timestamps", rows.loc[:, :"stop_frame"])
        else:
            write(split, rows)

    for kind, classes, tail in (("verb", VERBS, TAIL_VERBS), ("noun", NOUNS, TAIL_NOUNS)):
        rows = pd.DataFrame(
            {"id": index, "key": entry.key, "instances": str([entry.key]), "category": entry.category}
            for index, entry in enumerate(classes)
        )
        write(f"{kind}_classes", rows, newline="\r\n")  # as published; the other files have "\n"
        write(f"tail_{kind}s", pd.DataFrame({kind: tail}))

    train_participants = {video.participant_id for video in splits["train"]}
    for split in ("validation", "test"):
        unseen = sorted({video.participant_id for video in splits[split]} - train_participants)
        write(f"unseen_participant_ids_{split}", pd.DataFrame({"participant_id": unseen}))

    rows = pd.DataFrame(
        {
            "video_id": video.video_id,
            "duration": video.duration_s,
            "fps": float(video.fps),
            "resolution": f"{WIDTH}x{HEIGHT}",
        }
        for video in itertools.chain.from_iterable(splits.values())
    )
    write("video_info", rows.sort_values("video_id"))


def _rows(video: _Video) -> Iterator[dict[str, object]]:
    rate = 50 if video.is_extension else 60  # of the frame columns; the file has 60000/1001
    for index, action in enumerate(video.actions):
        visible_actions = [action]
        if index and action.start_cs < video.actions[index - 1].stop_cs:
            visible_actions.append(video.actions[index - 1])  # still there: the narration names both objects
        verb = VERBS[action.verb_class].key
        nouns = [NOUNS[visible.noun_class].key for visible in visible_actions]
        yield {
            "narration_id": f"{video.video_id}_{index}",
            "participant_id": video.participant_id,
            "video_id": video.video_id,
            "narration_timestamp": f"{_timestamp((2 * action.start_cs + action.stop_cs) // 3)}0",
            "start_timestamp": _timestamp(action.start_cs),
            "stop_timestamp": _timestamp(action.stop_cs),
            "start_frame": max(1, math.trunc(action.start_cs / 100 * rate)),
            "stop_frame": max(1, math.trunc(action.stop_cs / 100 * rate)),
            "narration": f"{verb} {' by '.join(nouns)}",
            "verb": verb,
            "verb_class": action.verb_class,
            "noun": nouns[0],
            "noun_class": action.noun_class,
            "all_nouns": str(nouns),
            "all_noun_classes": str([visible.noun_class for visible in visible_actions]),
        }


def _timestamp(centiseconds: int) -> str:
    seconds, rest = divmod(centiseconds, 100)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:02}"


# ---- the videos


def _write_video(folder: Path, video: _Video, seed: int, *, is_small: bool) -> None:
    path = folder / "videos" / video.participant_id / f"{video.video_id}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    participant, number = (int(part.lstrip("P")) for part in video.video_id.split("_"))
    kitchen = np.random.default_rng([seed, participant])
    rng = np.random.default_rng([seed, participant, number])
    worktop = _worktop(kitchen, rng)
    if is_small:
        others = _put_others(worktop, rng)
        boxes_path = folder / "hand-objects" / video.participant_id / f"{video.video_id}.pkl"
        write_detections(boxes_path, list(_detections(video, others, copy.deepcopy(rng))))
    frames = _frames(video, worktop, rng, is_small=is_small)
    _encode(path, frames, fps=video.fps, hevc=video.is_extension)


def _encode(path: Path, frames: Iterator[np.ndarray], *, fps: Fraction, hevc: bool) -> None:
    """Encode (H, W, 3) uint8 frames with B-frames and a key frame every 1.5 s.

    On one thread each, so that the bytes are the same every time.
    """
    if hevc:
        settings = "log-level=none:pools=none:frame-threads=1:bframes=3:keyint=75:min-keyint=75"
        codec, options = "libx265", {"preset": "ultrafast", "x265-params": settings}
    else:
        codec, options = "libx264", {"preset": "veryfast", "bf": "3", "g": "90", "threads": "1"}
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if hevc:
            stream.codec_context.codec_tag = "hvc1"  # Apple's players refuse the default, hev1
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def _worktop(kitchen: np.random.Generator, rng: np.random.Generator) -> np.ndarray:
    """Draw (H, W, 3) float32 of a participant's tiles under a video's stains, margin included."""
    y, x = np.mgrid[: HEIGHT + 2 * _MARGIN, : WIDTH + 2 * _MARGIN]
    tiles = np.full((*x.shape, 3), kitchen.uniform(100, 130) + kitchen.uniform(-12, 12, 3))
    tile = kitchen.integers(14, 30)
    for _ in range(8):
        along_x, along_y = rng.normal(0, 0.15, 2)
        wave = np.sin(along_x * x + along_y * y + rng.uniform(0, 2 * math.pi))
        tiles += wave[..., None] * (rng.normal(0, 2) + rng.normal(0, 1, 3))
    tiles[(x % tile == 0) | (y % tile == 0)] *= 0.9
    return tiles.astype(np.float32)


def _put_others(worktop: np.ndarray, rng: np.random.Generator) -> list[_Stamp]:
    """Draw objects that lie about all over the worktop; return them."""
    others = []
    for _ in range(_NUM_OTHERS):
        noun = NOUNS[rng.integers(len(NOUNS))]
        x, y = (int(rng.integers(2 * _MARGIN, size)) for size in (WIDTH, HEIGHT))
        rgb = (np.array(noun.rgb) * rng.uniform(*_LIGHT) + rng.normal(0, _COLOUR_SPREAD, 3)).astype(np.float32)
        cover = _cover(noun, np.rint(2 * rng.uniform(*_SMALL_RADIUS)) / 2, rng.normal(0, 0.5))
        others.append(_Stamp(x, y, rgb, cover))
        others[-1].press(worktop)
    return others


def _frames(video: _Video, worktop: np.ndarray, rng: np.random.Generator, *, is_small: bool) -> Iterator[np.ndarray]:
    """Draw the frames of a video, (H, W, 3) uint8: the objects on the worktop, from a swaying head."""
    seconds = np.arange(video.num_frames) / float(video.fps)
    stamps, sway = _scenes(video, rng, seconds, is_small=is_small)
    for (dx, dy), frame_stamps in zip(sway, stamps, strict=True):
        scene = worktop.copy()
        for stamp in frame_stamps:
            stamp.press(scene)
        crop = scene[_MARGIN + dy :, _MARGIN + dx :][:HEIGHT, :WIDTH]
        yield crop.clip(0, 255).astype(np.uint8)


def _scenes(
    video: _Video, rng: np.random.Generator, seconds: np.ndarray, *, is_small: bool
) -> tuple[list[list[_Stamp]], np.ndarray]:
    """Return what moves at each of (T,) moments, and where the head is then, (T, 2).

    Where objects are small, each comes after the hand that holds it.
    """
    stamps: list[list[_Stamp]] = [[] for _ in seconds]
    for action in video.actions:
        for index, stamp in _appearance(rng, action, seconds, is_small=is_small):
            stamps[index] += [_holding(stamp, action.lane), stamp] if is_small else [stamp]
    return stamps, _sway(rng, seconds)


def _holding(held: _Stamp, lane: int) -> _Stamp:
    """Return the hand that holds an object: below it, and a little to its own side."""
    rgb = np.array(_HAND.rgb, np.float32)
    return _Stamp(held.x + 3 * lane, held.y + len(held.cover) // 2, rgb, _cover(_HAND, _SMALL_RADIUS[1], 0.0), lane)


def _detections(video: _Video, others: list[_Stamp], rng: np.random.Generator) -> Iterator[bytes]:
    """Yield the message of each published frame: at 60 per second, or 50, whatever the rate of the video is.

    Some other objects are detected too, a hand is seen where there is none with a low score, and detections fail now
    and then for a while.
    """
    rate = 50 if video.is_extension else 60
    seconds = np.arange(math.ceil(video.duration_s * rate)) / rate
    stamps, sway = _scenes(video, rng, seconds, is_small=True)
    fails_from, fails_to = rng.uniform(*_MISSED_EVERY_S), 0.0
    for index, second in enumerate(seconds):
        if second > fails_from:
            fails_to = fails_from + rng.uniform(*_MISSED_S)
            fails_from = fails_to + rng.uniform(*_MISSED_EVERY_S)
        hands, objects = [Hand((0.0, 0.0, 0.2, 0.2), 0.3, 0, 1)], [Found(_box(others[0], sway[index]), 0.8)]
        objects += [Found(_box(other, sway[index]), 0.2) for other in others[1:3]]
        if second > fails_to:
            for hand, held in zip(stamps[index][::2], stamps[index][1::2], strict=True):
                hand_box, box = _box(hand, sway[index]), _box(held, sway[index])
                offset = (sum(box[axis::2]) / 2 - sum(hand_box[axis::2]) / 2 for axis in (0, 1))
                hands.append(Hand(hand_box, 0.95, 3, int(hand.side > 0), tuple(offset)))
                objects.append(Found(box, 0.9))
        yield message(video.video_id, index + 1, hands, objects)


def _box(stamp: _Stamp, head: np.ndarray) -> tuple[float, ...]:
    """Return the box of what a frame shows of something, in fractions of the picture, where the head is there."""
    rows, columns = (np.flatnonzero((stamp.cover > 0.5).any(axis=axis)) for axis in (1, 0))
    x, y = np.array([stamp.x, stamp.y]) - len(stamp.cover) // 2 - _MARGIN - head
    box = np.array([x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1])
    return tuple((box / (WIDTH, HEIGHT, WIDTH, HEIGHT)).clip(0, 1).tolist())


def _sway(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    """Return where the head is, (T, 2) whole pixels off in x and y: slow waves, within 4."""
    hertz, start = rng.uniform(0.05, 0.5, (3, 1, 2)), rng.uniform(0, 1, (3, 1, 2))
    waves = 4 / 3 * np.sin(2 * math.pi * (hertz * seconds[:, None] + start))  # (3, T, 2)
    return np.rint(waves.sum(axis=0)).astype(int)


@dataclass(frozen=True)
class _Stamp:
    """An object as it is on one frame: its middle on the worktop, its colour, its outline."""

    x: int
    y: int
    rgb: np.ndarray  # (3,) float32
    cover: np.ndarray  # (S, S) float32, 0..1
    side: int = 0  # of a hand: -1 left, 1 right

    def press(self, scene: np.ndarray) -> None:
        top, left = self.y - len(self.cover) // 2, self.x - len(self.cover) // 2
        region = scene[top:, left:][: len(self.cover), : len(self.cover)]
        region += self.cover[..., None] * (self.rgb - region)


def _appearance(
    rng: np.random.Generator, action: _Action, seconds: np.ndarray, *, is_small: bool
) -> Iterator[tuple[int, _Stamp]]:
    """Return the frames on which an action's object is, and how: lit from above, larger when near."""
    noun = NOUNS[action.noun_class]
    start_s, stop_s = action.start_cs / 100, action.stop_cs / 100
    first, end = np.searchsorted(seconds, [start_s - action.before_cs / 100, stop_s])
    share = (seconds[first:end] - start_s) / (stop_s - start_s)  # below 0 before the segment, where nothing moves
    is_before = share < 0
    inside_noun = _DISC if action.before_cs else noun
    angle = rng.normal(-math.pi / 2, _START_SPREAD) + motion(VERBS[action.verb_class].turns, share)
    nearness, height = 1 + _DEPTH * np.cos(angle), np.sin(angle)

    middle_x, middle_y = _MARGIN + np.array([WIDTH, HEIGHT]) / 2 + rng.uniform(-2, 2, 2)
    x = np.rint(middle_x + action.lane * (_LANE_X + _OUTWARD * np.cos(angle))).astype(int)
    y = np.rint(middle_y - _CIRCLE_RADIUS * height).astype(int)
    light, spread = rng.uniform(*_LIGHT), rng.normal(0, _COLOUR_SPREAD, 3)
    rgb = np.where(is_before[:, None], noun.rgb, inside_noun.rgb) * light + spread
    rgb = (rgb * (1 + 0.2 * height[:, None])).astype(np.float32)  # (T, 3)
    radius = (
        np.rint(2 * rng.uniform(*(_SMALL_RADIUS if is_small else _OBJECT_RADIUS)) * nearness) / 2
    )  # few sizes, drawn once each
    tilt = rng.normal(0, 0.25)
    shapes = {True: noun, False: inside_noun}
    pairs = sorted(set(zip(radius.tolist(), is_before.tolist(), strict=True)))
    covers = {(size, early): _cover(shapes[early], size, tilt) for size, early in pairs}
    for index in range(end - first):
        cover = covers[radius[index], bool(is_before[index])]
        yield first + index, _Stamp(x[index], y[index], rgb[index], cover)


def _cover(noun: Noun, radius: float, tilt: float) -> np.ndarray:
    """Draw an outline, (S, S) float32 with S odd: 1 inside, 0 outside, soft over a pixel between."""
    half = math.ceil(1.3 * radius) + 1  # a corner reaches out farther than the radius
    v, u = np.mgrid[-half : half + 1, -half : half + 1] / radius
    u, v = u * math.cos(tilt) + v * math.sin(tilt), v * math.cos(tilt) - u * math.sin(tilt)
    cover = np.zeros_like(u)
    for x, y, half_width, half_height, power in noun.parts:
        reach = np.abs((u - x) / half_width) ** power + np.abs((v - y) / half_height) ** power
        pixels_inside = (1 - reach ** (1 / power)) * radius * min(half_width, half_height)
        cover = np.maximum(cover, np.clip(pixels_inside + 0.5, 0, 1))
    return cover.astype(np.float32)


def main() -> None:
    """Make a miniature from the command line."""
    parser = argparse.ArgumentParser(description="Draw a miniature of EPIC-KITCHENS-100.")
    parser.add_argument("out", type=Path, help="folder to make; a finished miniature there is kept")
    parser.add_argument("--size", choices=_SIZES, default="demo", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="another draws another (default: 0)")
    parser.add_argument("--objects", choices=["large", "small"], default="large", help="default: %(default)s")
    parser.add_argument("--nouns", choices=["within", "before"], default="within", help="default: %(default)s")
    arguments = parser.parse_args()
    try:
        options = {"nouns": arguments.nouns, "objects": arguments.objects}
        write_miniature(arguments.out, size=arguments.size, seed=arguments.seed, **options)
    except FileExistsError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
