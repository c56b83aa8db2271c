"""Which frames of a video are wanted, and which clips they form. Pure arithmetic: knows no video file, no tensor.

A position in time is turned into a frame by its presentation time: the frame nearest to it. So variable frame
rates, and videos whose first frame is not at 0, need no further thought.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from extract.backbone_input import ClipShape
from features.errors import OptionError
from features.featureset import Sampling
from features.intervals import SegmentTimes

# A last frame is shown for one frame interval; containers and annotations round on top of that. The one published
# segment that passes the end of its video (P29_05_563) does so by 0.013 s.
END_TOLERANCE_S = 0.1
# A frame this far from the moment it is to show is another moment: the file has a hole there.
MAX_GAP_S = 1.0


@dataclass(frozen=True, eq=False)
class VideoPlan:
    """The clips of one video.

    Attributes:
        narration_id: the S segments that can be had.
        clips: (C, L) int64 frame numbers, counted from 0 in presentation order, ascending within a clip.
        clip_range: (S, 2) int64; the clips of segment s are rows clip_range[s, 0]:clip_range[s, 1], at least one.
        seconds: (C, P) float64, the centre of each step that a clip gives; with fewer steps than the backbone gives,
            each is the average of as many in a row.
        frame: (C, P) int32, the frame of the video nearest to that.
        beyond_end: narration_id -> what is wrong, for segments that the video does not reach.
        in_gap: likewise for segments where the video has no frames.
    """

    narration_id: tuple[str, ...]
    clips: np.ndarray
    clip_range: np.ndarray
    seconds: np.ndarray
    frame: np.ndarray
    beyond_end: dict[str, str]
    in_gap: dict[str, str]

    @property
    def wanted(self) -> np.ndarray:
        """(M,) int64, the distinct frames of all clips, ascending."""
        return np.unique(self.clips)


def choose_sampling(num_frames: int, every_s: float | None, clip: ClipShape) -> Sampling:
    """Give the record of `num_frames` a segment in clips of a backbone's own shape, or of a clip every `every_s`.

    Raises:
        OptionError: a number makes no sense.
    """
    if every_s is None:
        if num_frames < 1:
            raise OptionError("--frames", f"{num_frames} is not a number of frames above 0.")
        return Sampling("segment", clip.num_frames, clip.num_steps, num_frames=num_frames, clip_fps=clip.fps)
    if not (math.isfinite(every_s) and every_s > 0):
        raise OptionError("--every", f"{every_s} is not a number of seconds above 0.")
    return Sampling("dense", clip.num_frames, 1, every_s=every_s, clip_fps=clip.fps)


def plan_video(frame_seconds: np.ndarray, segments: SegmentTimes, sampling: Sampling, clip: ClipShape) -> VideoPlan:
    """Plan the clips of a video as a sampling says; `plan_segments` and `plan_dense` say how."""
    if sampling.kind == "segment":
        return plan_segments(frame_seconds, segments, num_frames=sampling.num_frames, clip=clip)
    return plan_dense(frame_seconds, segments, every_s=sampling.every_s, clip=clip)


def plan_segments(
    frame_seconds: np.ndarray,
    segments: SegmentTimes,
    *,
    num_frames: int,
    clip: ClipShape,
) -> VideoPlan:
    """Plan clips over segments: as many of the backbone's length as cover `num_frames` frames, spread evenly.

    The segment is cut into equal parts, one a clip, and each clip is centred in its part. An image backbone's clip
    is the frame there. A clip backbone's keeps its own frame rate, so in a short segment it looks beyond both ends,
    and at the ends of the video it repeats the first or last frame.

    Args:
        frame_seconds: (F,) float64 presentation times of the video's frames, strictly ascending.
    """
    num_clips = max(1, -(-num_frames // clip.num_frames))
    centres = spread(segments.start_s, segments.stop_s, num_clips)  # (S, K)
    reached = _reached(frame_seconds, segments)
    off = _off(frame_seconds, centres).max(axis=1, initial=0)
    kept = np.flatnonzero(reached & (off <= MAX_GAP_S))
    positions = clip_positions(centres[kept].reshape(-1), clip)  # (C, L)
    first = np.arange(len(kept)) * num_clips
    return VideoPlan(
        narration_id=tuple(segments.narration_id[index] for index in kept),
        clip_range=np.stack([first, first + num_clips], axis=1),
        **_clips(frame_seconds, positions, clip.num_steps),
        beyond_end=_beyond_end(segments, np.flatnonzero(~reached), end_of_video(frame_seconds)),
        in_gap=_in_gap(segments, np.flatnonzero(reached & (off > MAX_GAP_S)), off),
    )


def plan_dense(frame_seconds: np.ndarray, segments: SegmentTimes, *, every_s: float, clip: ClipShape) -> VideoPlan:
    """Plan a clip every `every_s` seconds over the whole video, each of which gives one step.

        |  c  |  c  |  c  |  c  |  c  |         c: the centre of a clip, amid its part of the video
             [ segment ]                        touches the parts of the second to the fourth

    Where the video has a hole there are no clips. The segments are those of whose clips the caller wants to know.

    Args:
        frame_seconds: (F,) float64 presentation times of the video's frames, strictly ascending.
    """
    start_s, end_s = frame_seconds[0], end_of_video(frame_seconds)
    num_parts = max(1, math.ceil((end_s - start_s) / every_s - 0.5))  # the last centre lies within the video
    centres = start_s + (np.arange(num_parts) + 0.5) * every_s
    off = _off(frame_seconds, centres)
    kept = np.flatnonzero(off <= MAX_GAP_S)
    touched = _touched(segments, start_s, every_s, num_parts)  # (S, 2), of the parts
    reached = _reached(frame_seconds, segments)
    worst = np.array([off[first:stop].max() for first, stop in touched])
    worst = np.maximum(worst, start_s - segments.start_s)  # before the first frame there is nothing either
    ours = np.flatnonzero(reached & (worst <= MAX_GAP_S))
    return VideoPlan(
        narration_id=tuple(segments.narration_id[index] for index in ours),
        clip_range=np.searchsorted(kept, touched[ours]),
        **_clips(frame_seconds, clip_positions(centres[kept], clip), 1),
        beyond_end=_beyond_end(segments, np.flatnonzero(~reached), end_s),
        in_gap=_in_gap(segments, np.flatnonzero(reached & (worst > MAX_GAP_S)), worst),
    )


def _touched(segments: SegmentTimes, start_s: float, every_s: float, num_parts: int) -> np.ndarray:
    """Give the parts of the video that each segment has some of, (S, 2), at least one."""
    # Borders of segments and of parts often coincide, but for rounding.
    first = np.clip(np.floor((segments.start_s - start_s) / every_s + 1e-6), 0, num_parts - 1)
    stop = np.clip(np.ceil((segments.stop_s - start_s) / every_s - 1e-6), first + 1, num_parts)
    return np.stack([first, stop], axis=1).astype(np.int64)


def _reached(frame_seconds: np.ndarray, segments: SegmentTimes) -> np.ndarray:
    return segments.stop_s <= end_of_video(frame_seconds) + END_TOLERANCE_S


def _off(frame_seconds: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Give how far the nearest frame is from each position, in seconds."""
    return np.abs(frame_seconds[nearest_frames(frame_seconds, positions)] - positions)


def _clips(frame_seconds: np.ndarray, positions: np.ndarray, num_steps: int) -> dict[str, np.ndarray]:
    """Give clips whose frames are at these positions, (C, L), and their steps."""
    num_clips, clip_frames = positions.shape
    steps = positions.reshape(num_clips, num_steps, clip_frames // num_steps).mean(axis=2)  # (C, P)
    # Where a clip reaches past an end it repeats that frame; its steps lie no further out than the video does.
    steps = np.clip(steps, frame_seconds[0], end_of_video(frame_seconds))
    return {
        "clips": nearest_frames(frame_seconds, positions),
        "seconds": steps,
        "frame": nearest_frames(frame_seconds, steps).astype(np.int32),
    }


def _beyond_end(segments: SegmentTimes, which: np.ndarray, end_s: float) -> dict[str, str]:
    where = [f"it lasts from {segments.start_s[index]:.2f} to {segments.stop_s[index]:.2f} s" for index in which]
    names = [segments.narration_id[index] for index in which]
    return {
        name: f"{what}, but the video's frames end at {end_s:.2f} s" for name, what in zip(names, where, strict=True)
    }


def _in_gap(segments: SegmentTimes, which: np.ndarray, off: np.ndarray) -> dict[str, str]:
    return {
        segments.narration_id[index]: f"the video has a hole there: the nearest frame is {off[index]:.2f} s away"
        for index in which
    }


def end_of_video(frame_seconds: np.ndarray) -> float:
    """Give the second at which the last frame (of (F,) ascending seconds) is over."""
    if len(frame_seconds) == 1:
        return float(frame_seconds[0])
    return float(frame_seconds[-1] + np.median(np.diff(frame_seconds)))


def spread(start_s: np.ndarray, stop_s: np.ndarray, num: int) -> np.ndarray:
    """Give the centres of `num` equal parts of each interval, (S, num).

    >>> spread(np.array([0.0]), np.array([4.0]), 2)
    array([[1., 3.]])
    """
    fractions = (np.arange(num) + 0.5) / num
    return start_s[:, None] + (stop_s - start_s)[:, None] * fractions


def clip_positions(centres: np.ndarray, clip: ClipShape) -> np.ndarray:
    """Give the seconds of the frames of clips with these centres, (C, L)."""
    if clip.fps is None:
        return centres[:, None]
    return centres[:, None] + (np.arange(clip.num_frames) - (clip.num_frames - 1) / 2) / clip.fps


def nearest_frames(frame_seconds: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Give the number of the frame nearest to each position, any shape, int64; the earlier one of two as near."""
    if len(frame_seconds) == 1:
        return np.zeros(positions.shape, dtype=np.int64)
    after = np.clip(np.searchsorted(frame_seconds, positions), 1, len(frame_seconds) - 1)
    before = after - 1
    is_before = positions - frame_seconds[before] <= frame_seconds[after] - positions
    return np.where(is_before, before, after)
