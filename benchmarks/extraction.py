"""Measure extraction against its floor and against the usual alternatives, for `make bench`.

    D   decode floor: decode the needed packets, convert and scale the wanted frames by libswscale, one process per core
    B   backbone floor: the same clips, already in memory
    pipeline / floor, where the floor is D + B without a GPU, because both use the same cores, and max(D, B) with one;
                      of V views, D + V x B and max(D, V x B)

Alternatives open, seek and decode each segment by itself (PyAV, torchcodec), in as many processes of torch's
DataLoader, with torchvision's own transforms, before the same backbone.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import torch
from epic_like import FPS, HEIGHT, WIDTH, encoded_once, segments_like_epic
from record import HERE
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from extract.backbones import Backbone, get
from extract.clips import Request
from extract.decode.decoders import Decoders, num_workers_for
from extract.decode.pieces import pieces
from extract.decode.probing import probe
from extract.decode.video import DecodeTask, decode_frames, decode_task
from extract.extraction import usual_batch_size
from extract.forward import Forward, choose_precision
from extract.pipeline import Pipeline, WaitTimes
from extract.regions.boxes import REGIONS, VideoBoxes
from extract.regions.crops import Regions, boxes_of_clips
from extract.sampling import choose_sampling, plan_video, spread
from extract.views import View, choose_views
from extract.weights.load import load_backbone
from features.intervals import SegmentTimes

SECONDS = 600
VIDEO = HERE / "data" / f"epic_like_{WIDTH}x{HEIGHT}_{FPS}fps_{SECONDS}s.mp4"


@dataclass(frozen=True)
class Regime:
    """A backbone, its number of frames per segment, and the views and regions of each clip."""

    name: str
    backbone: str
    num_frames: int
    seconds: int  # of the video
    views: str = "centre"
    regions: str | None = None


REGIMES = (
    Regime("decode-bound, 16 frames", "tiny_cnn", 16, SECONDS),
    Regime("decode-bound, 32 frames", "tiny_cnn", 32, SECONDS),
    Regime("backbone-bound, 16 frames", "resnet50", 16, 120),  # on two cores all of it would take a quarter of an hour
    Regime("four views, backbone-bound", "resnet50", 16, 60, "centre,left,flip,augment:1"),
    Regime("four views, decode-bound", "tiny_cnn", 16, SECONDS, "centre,flip,augment:1,randaugment:1"),
    Regime("hands, decode-bound", "tiny_cnn", 16, SECONDS, regions="hands"),
    Regime("hands, backbone-bound", "resnet50", 16, 60, regions="hands"),
)


@dataclass(frozen=True)
class Result:
    """The seconds of one regime; None for an alternative that is not installed, or cannot give the views."""

    regime: str
    backbone: str
    num_frames: int
    num_views: int
    num_clips: int
    packets: int
    packets_decoded: int
    decode_floor_s: float
    backbone_floor_s: float
    floor_s: float
    pipeline_s: float
    pipeline_over_floor: float
    pyav_s: float | None
    torchcodec_s: float | None
    whole_frames_s: float | None = None  # what the pipeline takes for whole frames, where it is measured with regions


def measure(regimes: tuple[Regime, ...] = REGIMES, *, repeats: int = 3) -> list[Result]:
    """Measure all regimes on one video, which is encoded unless it exists."""
    encoded_once(VIDEO, SECONDS)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return [measure_regime(regime, device, VIDEO, repeats=repeats) for regime in regimes]


def measure_regime(
    regime: Regime, device: torch.device, video: Path, *, repeats: int, alternatives: bool = True
) -> Result:
    """Measure one regime on a video; without the alternatives, they count as not installed."""
    entry = get(regime.backbone)
    network, _ = load_backbone(entry, "random:0")
    forward = Forward(network, entry.preprocess, device, choose_precision("auto", device))
    views = choose_views(regime.views, entry.preprocess)
    segments = segments_like_epic(regime.seconds)
    regions = None if regime.regions is None else Regions(regime.regions)
    case = _Case(entry, forward, device, video, regime.num_frames, views, segments, num_workers_for(None), regions)
    info = probe(video)
    plan = case.plan(info.seconds)
    readings = [decode_task(info, np.unique(plan.clips[own])) for own in pieces(info.packets, info.pts, plan.clips)]
    num_decoded = sum(int(one.is_needed.sum()) for one in readings)
    # In turn, so that a machine that slows down for a while slows down all of them.
    num_looks = len(views) * (1 if regions is None else len(regions.names))
    decode, backbone, pipeline, whole = zip(
        *[
            (
                decode_floor(case, readings),
                backbone_floor(case, len(plan.clips) * num_looks),
                run_pipeline(case),
                run_pipeline(replace(case, regions=None)) if regions else 0.0,
            )
            for _ in range(repeats)
        ],
        strict=True,
    )
    decode_s, backbone_s, pipeline_s, whole_s = (
        statistics.median(times) for times in (decode, backbone, pipeline, whole)
    )
    alternatives &= len(views) == 1 and regions is None
    floor_s = decode_s + backbone_s if device.type == "cpu" else max(decode_s, backbone_s)
    return Result(
        regime=regime.name,
        backbone=regime.backbone,
        num_frames=regime.num_frames,
        num_views=len(views),
        num_clips=len(plan.clips),
        packets=len(info.packets.pts),
        packets_decoded=num_decoded,
        decode_floor_s=decode_s,
        backbone_floor_s=backbone_s,
        floor_s=floor_s,
        pipeline_s=pipeline_s,
        pipeline_over_floor=pipeline_s / floor_s,
        pyav_s=by_segment(case, _PyAV) if alternatives else None,
        torchcodec_s=by_segment(case, _TorchCodec) if alternatives and _has_torchcodec() else None,
        whole_frames_s=whole_s if regions else None,
    )


@dataclass(frozen=True, eq=False)
class _Case:
    entry: Backbone
    forward: Forward
    device: torch.device
    video: Path
    num_frames: int
    views: tuple[View, ...]
    segments: SegmentTimes
    num_processes: int
    regions: Regions | None = None

    def plan(self, frame_seconds: np.ndarray):
        sampling = choose_sampling(self.num_frames, None, self.entry.clip)
        return plan_video(frame_seconds, self.segments, sampling, self.entry.clip)

    def boxes(self, frame_seconds: np.ndarray, clips: np.ndarray) -> np.ndarray:
        """Boxes of a third of the picture that wander over it, at 60 per second."""
        assert self.regions is not None
        seconds = np.arange(0, frame_seconds[-1], 1 / 60)
        middle = 0.5 + 0.3 * np.stack([np.sin(seconds), np.cos(0.7 * seconds)], axis=1)
        half = (0.15 + 0.05 * np.sin(0.3 * seconds))[:, None]
        boxes = np.concatenate([middle - half, middle + half], axis=1).astype(np.float32)
        found = VideoBoxes(seconds, np.repeat(boxes[:, None], len(REGIONS), axis=1))
        return boxes_of_clips(found, frame_seconds, clips, self.regions)

    @property
    def batch_size(self) -> int:
        return usual_batch_size(self.device, self.entry.clip)


def seconds(work: Callable[[], object]) -> float:
    """Return how long a piece of work takes, in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# ---- the floor


def decode_floor(case: _Case, readings: list[DecodeTask]) -> float:
    """Decode, convert and scale, in processes that have started before."""
    height, width = _resized(case.entry)
    context = multiprocessing.get_context("spawn")
    with context.Pool(case.num_processes, initializer=_one_thread) as pool:
        pool.map(abs, range(case.num_processes * 4))  # so that all have started
        return seconds(lambda: pool.starmap(_decode_piece, [(one, width, height) for one in readings], chunksize=1))


def _one_thread() -> None:
    torch.set_num_threads(1)


def _decode_piece(what: DecodeTask, width: int, height: int) -> int:
    num = 0
    for _, frame in decode_frames(what):
        frame.reformat(width=width, height=height, format="rgb24", interpolation="BILINEAR")
        num += 1
    return num


def _resized(entry: Backbone) -> tuple[int, int]:
    resize = entry.preprocess.resize
    return resize if isinstance(resize, tuple) else (resize, resize * WIDTH // HEIGHT)


def backbone_floor(case: _Case, num_clips: int) -> float:
    """Run the backbone over as many batches of clips in memory."""
    crop = case.entry.preprocess.crop or _resized(case.entry)
    whole, rest = divmod(num_clips, case.batch_size)
    x = torch.randn(case.batch_size, 3, case.entry.clip.num_frames, *crop, device=case.device)
    case.forward.steps(x)

    def run() -> None:
        pending = [case.forward.steps(x) for _ in range(whole)]
        if rest:
            pending.append(case.forward.steps(x[:rest]))
        for one in pending:
            one.get()

    return seconds(run)


# ---- the pipeline


def run_pipeline(case: _Case) -> float:
    """Run a whole extraction, including the start of its workers."""

    def run() -> None:
        pipeline = Pipeline(
            case.forward,
            preprocess=case.entry.preprocess,
            dim=case.entry.dim,
            device=case.device,
            batch_size=case.batch_size,
            wait_times=WaitTimes(),
            on_clips=lambda *_: None,
        )
        with Decoders(case.num_processes) as decoders:
            [result] = pipeline.run(iter([_request(case)]), decoders)
        assert not result.failures, result.failures

    return seconds(run)


def _request(case: _Case) -> Request:
    boxes = None if case.regions is None else case.boxes
    return Request("P01_101", case.video, case.plan, None, case.views, boxes=boxes)


# ---- the usual alternatives


class _BySegment(Dataset):
    """Frames of one segment at a time, as the backbone wants them: (T, 3, h, w)."""

    def __init__(self, entry: Backbone, segments: SegmentTimes, num_frames: int) -> None:
        self.times = spread(segments.start_s, segments.stop_s, num_frames)  # (S, T)
        self.transform = _transform(entry)

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(self.frames(self.times[index]))


class _PyAV(_BySegment):
    def frames(self, times: np.ndarray) -> torch.Tensor:
        """Seek to the key frame before the first, decode up to the last, keep the nearest ones."""
        with av.open(str(VIDEO)) as container:
            stream = container.streams.video[0]
            container.seek(int(times[0] / stream.time_base), stream=stream)
            found: list[np.ndarray] = []
            half = 0.5 / FPS
            for frame in container.decode(stream):
                picture = None
                while len(found) < len(times) and times[len(found)] <= frame.time + half:
                    picture = frame.to_ndarray(format="rgb24") if picture is None else picture
                    found.append(picture)
                if len(found) == len(times):
                    break
        return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)


class _TorchCodec(_BySegment):
    def frames(self, times: np.ndarray) -> torch.Tensor:
        from torchcodec.decoders import VideoDecoder

        decoder = VideoDecoder(str(VIDEO), seek_mode="approximate", num_ffmpeg_threads=1)
        return decoder.get_frames_played_at(times.tolist()).data


def _has_torchcodec() -> bool:
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, RuntimeError) as error:  # a RuntimeError where FFmpeg's libraries are missing
        print(f"torchcodec is left out: {str(error).strip().splitlines()[0]}")
        return False
    return True


def _transform(entry: Backbone) -> v2.Transform:
    recipe = entry.preprocess
    size = [recipe.resize] if isinstance(recipe.resize, int) else list(recipe.resize)
    steps = [v2.Resize(size, antialias=recipe.antialias)]
    if recipe.crop is not None:
        steps.append(v2.CenterCrop(recipe.crop))
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(recipe.mean, recipe.std)])


def by_segment(case: _Case, kind: type[_BySegment]) -> float:
    """Extract each segment by itself, with as many processes, and the same backbone."""
    segments_a_batch = max(1, case.batch_size * case.entry.clip.num_frames // case.num_frames)
    loader = DataLoader(
        kind(case.entry, case.segments, case.num_frames),
        batch_size=segments_a_batch,
        num_workers=case.num_processes,
        worker_init_fn=_nothing_but_decode,
    )

    def run() -> None:
        for frames in loader:
            clips = frames.flatten(0, 1).unflatten(0, (-1, case.entry.clip.num_frames)).transpose(1, 2)
            case.forward.steps(clips.to(case.device)).get()

    return seconds(run)


def _nothing_but_decode(_: int) -> None:
    torch.set_num_threads(1)
