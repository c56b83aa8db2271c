"""Frames of segments, decoded by stage 1's own plan and decoder: small RGB pictures, or the reason why there are none.

Each video is probed and decoded once, in order, whatever the number of its segments. Knows no prediction and no page.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from extract.backbone_input import ClipShape, Preprocess
from extract.decode.decoders import Decoders, Frames, TaskFailure, num_workers_for
from extract.decode.planes import PlaneBatch
from extract.decode.reading import decode_task
from extract.decode.sources import Source, needed_until, path_of
from extract.decode.video import VideoInfo
from extract.decode.worker import Finished
from extract.preprocess import normalised, scaled
from extract.sampling import END_TOLERANCE_S, VideoPlan, plan_segments
from extract.videos import missing_message
from features.failures import FailureKind
from features.intervals import SegmentTimes


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a video: `rgb` is (h, w, 3) uint8, `second` is when the video shows it."""

    rgb: np.ndarray
    second: float


@dataclass(frozen=True, eq=False)
class SegmentFrames:
    """The frames of a segment in the order of time; where there are none, the reason for people."""

    video_id: str
    narration_id: str
    frames: tuple[Frame, ...]
    missing: str = ""


@dataclass(frozen=True, eq=False)
class _Wanted:
    """A video to probe, and its segments."""

    video_id: str
    segments: SegmentTimes
    source: Source


@dataclass(frozen=True, eq=False)
class _Reading:
    """A video to decode; `pictures` are those that have arrived, (h, w, 3) by frame number."""

    wanted: _Wanted
    info: VideoInfo
    plan: VideoPlan
    pictures: dict[int, np.ndarray] = field(default_factory=dict)


def decode_segments(
    wanted: Mapping[str, SegmentTimes],
    sources: Mapping[str, Source | None],
    *,
    form: str | None,
    num_frames: int,
    max_height: int,
) -> Iterator[SegmentFrames]:
    """Yield the frames of every segment, those of a video together, in whatever order videos are done.

    Args:
        wanted: video id -> its segments.
        sources: video id -> where it is, as `extract.videos.find_videos` says; None if it is missing.
        form: what was looked for, if not all forms.
        num_frames: frames per segment, which are spread evenly over it.
        max_height: of the pictures; larger ones are made smaller.

    Raises:
        DataError: no process to decode videos can be started.
    """
    found: list[_Wanted] = []
    for video_id, segments in wanted.items():
        source = sources[video_id]
        if source is None:
            yield from _without_frames(video_id, dict.fromkeys(segments.narration_id, missing_message(video_id, form)))
        else:
            last_s = float(segments.stop_s.max()) + END_TOLERANCE_S
            found.append(_Wanted(video_id, segments, needed_until(source, last_s)))
    if found:
        yield from _decode(found, num_frames, max_height)


def _decode(videos: Sequence[_Wanted], num_frames: int, max_height: int) -> Iterator[SegmentFrames]:
    waiting = iter(videos)
    probed: deque[_Reading] = deque()
    with Decoders[_Wanted | _Reading](min(num_workers_for(None), len(videos))) as decoders:
        while True:
            while decoders.wants_task():
                if probed:
                    reading = probed.popleft()
                    decoders.submit(reading, decode_task(reading.info, reading.plan.wanted))
                elif (video := next(waiting, None)) is not None:
                    decoders.submit(video, video.source)
                else:
                    break
            if not decoders.num_open:
                return
            for event in decoders.events():
                if isinstance(event.key, _Reading):
                    yield from _decoded(event.key, event.result, max_height)
                elif isinstance(event.result, VideoInfo):
                    wanted = event.key
                    plan = plan_segments(event.result.seconds, wanted.segments, num_frames=num_frames, clip=ClipShape())
                    yield from _without_frames(wanted.video_id, {**plan.beyond_end, **plan.in_gap})
                    if plan.narration_id:
                        probed.append(_Reading(wanted, event.result, plan))
                elif isinstance(event.result, TaskFailure):
                    reason = _message(event.key, event.result)
                    yield from _without_frames(
                        event.key.video_id, dict.fromkeys(event.key.segments.narration_id, reason)
                    )


def _decoded(reading: _Reading, result: object, max_height: int) -> Iterator[SegmentFrames]:
    """Take some frames of a video; once there are no more of them, yield its segments."""
    if isinstance(result, Frames):
        rgb = _rgb(result.pictures, reading.info, max_height)
        result.release()
        reading.pictures.update(zip(result.frames, rgb, strict=True))
    elif isinstance(result, TaskFailure):
        yield from _segments_of(reading, _message(reading.wanted, result))
    elif isinstance(result, Finished):
        yield from _segments_of(reading, "")


def _segments_of(reading: _Reading, failure: str) -> Iterator[SegmentFrames]:
    """Yield the segments of a video once it is decoded, or once decoding has failed for a reason."""
    video_id = reading.wanted.video_id
    for narration_id, (first, stop) in zip(reading.plan.narration_id, reading.plan.clip_range, strict=True):
        numbers = reading.plan.clips[first:stop, 0].tolist()
        lost = next((number for number in numbers if number not in reading.pictures), None)
        if lost is not None:
            yield SegmentFrames(video_id, narration_id, (), failure or reading.info.why_lost(lost)[1])
            continue
        seconds = reading.info.seconds[numbers].tolist()
        frames = zip(numbers, seconds, strict=True)
        yield SegmentFrames(
            video_id, narration_id, tuple(Frame(reading.pictures[number], second) for number, second in frames)
        )


def _message(video: _Wanted, failure: TaskFailure) -> str:
    # The message of a video that cannot be read names its file already.
    is_named = failure.error == FailureKind.UNREADABLE_VIDEO
    return failure.message if is_named else f"{path_of(video.source)}: {failure.message}"


def _without_frames(video_id: str, reasons: Mapping[str, str]) -> Iterator[SegmentFrames]:
    """Yield the segments of a video that have no frames, narration_id -> reason."""
    for narration_id, reason in reasons.items():
        yield SegmentFrames(video_id, narration_id, (), reason)


def _rgb(batch: PlaneBatch, info: VideoInfo, max_height: int) -> np.ndarray:
    """Return K pictures as (K, h, w, 3) uint8, no higher than `max_height`."""
    height, width = batch.y.shape[1:]
    scale = min(1.0, max_height / height)
    size = max(1, round(scale * height)), max(1, round(scale * width))
    plain = Preprocess(size, None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    pictures = scaled(batch, plain, torch.device("cpu"))
    rgb = normalised(pictures, [info.colour] * len(pictures), plain)
    return (255 * rgb).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
