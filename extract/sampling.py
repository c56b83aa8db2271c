"""Which frames of a video are wanted, and which clips they form. Pure arithmetic: knows no video file, no tensor.

A position in time is turned into a frame by its presentation time: the frame nearest to it. So variable frame
rates, and videos whose first frame is not at 0, need no further thought.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.featureset import Sampling
from features.store import SegmentTimes

# A last frame is shown for one frame interval; containers and annotations round on top of that. The one published
# segment that passes the end of its video (P29_05_563) does so by 0.013 s.
END_TOLERANCE_S = 0.1
# A frame this far from the moment it is to show is another moment: the file has a hole there.
MAX_GAP_S = 1.0


@dataclass(frozen=True)
class ClipShape:
    """What a backbone takes in one forward pass, and gives.

    Attributes:
        num_frames: L, frames of a clip; 1 for an image backbone.
        fps: frames of a clip a second; None for an image backbone.
        num_steps: P, rows of features a clip gives; L is a multiple of it.
    """

    num_frames: int = 1
    fps: float | None = None
    num_steps: int = 1

    def __post_init__(self) -> None:
        assert self.num_frames % self.num_steps == 0
        assert (self.fps is None) == (self.num_frames == 1)


@dataclass(frozen=True, eq=False)
class VideoPlan:
    """The clips of one video.

    Attributes:
        narration_id: the S segments that can be had.
        clips: (C, L) int64 frame numbers, counted from 0 in presentation order, ascending within a clip.
        clip_offset: (S + 1,) int64; the clips of segment s are rows clip_offset[s]:clip_offset[s + 1].
        seconds: (C, P) float64, the centre of each step that a clip gives.
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


def segment_sampling(num_frames: int, clip: ClipShape) -> Sampling:
    """Give the record of `num_frames` a segment, seen in clips of a backbone's own shape."""
    return Sampling(
        kind="segment",
        num_frames=num_frames,
        clip_frames=clip.num_frames,
        clip_fps=clip.fps,
        steps_per_clip=clip.num_steps,
    )


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
    end_s = end_of_video(frame_seconds)
    centres = spread(segments.start_s, segments.stop_s, num_clips)  # (S, K)
    reached = segments.stop_s <= end_s + END_TOLERANCE_S
    off = np.abs(frame_seconds[nearest_frames(frame_seconds, centres)] - centres).max(axis=1, initial=0)
    shown = off <= MAX_GAP_S
    kept = np.flatnonzero(reached & shown)
    positions = clip_positions(centres[kept].reshape(-1), clip)  # (C, L)
    clips = nearest_frames(frame_seconds, positions)
    steps = positions.reshape(-1, clip.num_steps, clip.num_frames // clip.num_steps).mean(axis=2)  # (C, P)
    # Where a clip reaches past an end it repeats that frame; its steps lie no further out than the video does.
    steps = np.clip(steps, frame_seconds[0], end_s)
    return VideoPlan(
        narration_id=tuple(segments.narration_id[index] for index in kept),
        clips=clips,
        clip_range=np.stack([np.arange(len(kept)), np.arange(1, len(kept) + 1)], axis=1) * num_clips,
        seconds=steps,
        frame=nearest_frames(frame_seconds, steps).astype(np.int32),
        beyond_end=_beyond_end(segments, np.flatnonzero(~reached), end_s),
        in_gap=_in_gap(segments, np.flatnonzero(reached & ~shown), off),
    )


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


def choose_sampling(num_frames, every_s, clip):
    return segment_sampling(num_frames, clip)


def plan_video(frame_seconds, segments, sampling, clip):
    return plan_segments(frame_seconds, segments, num_frames=sampling.num_frames, clip=clip)
