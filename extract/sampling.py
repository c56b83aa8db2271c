"""Plan the clips of a video: which frames they show, and when. Pure arithmetic: knows no video file and no tensor.

A moment of the video becomes the frame whose presentation time is nearest to it. So variable frame rates, and videos
whose first frame is not at 0, need no special treatment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from extract.backbone_input import ClipShape
from features.errors import OptionError
from features.featureset import Sampling
from features.intervals import SegmentTimes

# The last frame is shown for one frame interval, and containers and annotations round their times. The only published
# segment that passes the end of its video (P29_05_563) does so by 0.013 s.
END_TOLERANCE_S = 0.1
# A frame further than this from the wanted moment shows another moment: the file has a gap there.
MAX_GAP_S = 1.0
DEFAULT_FRAMES = 16


@dataclass(frozen=True, eq=False)
class VideoPlan:
    """The clips of one video.

    Attributes:
        narration_id: the S segments that lie within the video.
        clips: (C, L) int64 frame numbers, counted from 0 in presentation order, ascending within a clip.
        clip_range: (S, 2) int64; the clips of segment s are rows clip_range[s, 0]:clip_range[s, 1], at least one.
        moments: (C, L) float64, the second that each frame of a clip is to show.
        interval_s: (C,) float64, the time from one moment of the sampling to the next, at each clip.
        seconds: (C, P) float64, the centre of each step of a clip. If P is smaller than the backbone's number of steps,
            each step is the average of an equal run of the backbone's.
        frame: (C, P) int32, the frame of the video nearest to that.
        beyond_end: narration_id -> reason, for segments that end after the video does.
        in_gap: narration_id -> reason, for segments where the video has no frames.
    """

    narration_id: tuple[str, ...]
    clips: np.ndarray
    clip_range: np.ndarray
    moments: np.ndarray
    interval_s: np.ndarray
    seconds: np.ndarray
    frame: np.ndarray
    beyond_end: dict[str, str]
    in_gap: dict[str, str]

    @property
    def wanted(self) -> np.ndarray:
        """(M,) int64, the distinct frames of all clips, ascending."""
        return np.unique(self.clips)


def frames_per_segment(frames: int | None, every: float | None) -> int:
    """Return the number of frames per segment: `frames`, or 16 by default.

    Raises:
        OptionError: both `frames` and `every` are given.
    """
    if frames is not None and every is not None:
        raise OptionError(
            None, "--frames and --every exclude each other: frames of each segment, or clips over the whole video."
        )
    return DEFAULT_FRAMES if frames is None else frames


def choose_clip(choice: str | float | None, clip: ClipShape, every_s: float | None) -> ClipShape:
    """Return the clip of a backbone with another choice of its frames.

    Args:
        choice: "spread" to spread them over each segment, or their frames per second; None for the backbone's own way.
        every_s: seconds from one clip to the next if whole videos are sampled, where there is nothing to spread over.

    Raises:
        OptionError: the choice makes no sense.
    """
    if choice is None:
        return clip
    if clip.num_frames == 1:
        raise OptionError("--clip", f"{choice} is of no use: this backbone sees single frames, not clips.")
    if choice == "spread":
        if every_s is not None:
            raise OptionError("--clip", "spread needs segments; with --every, give frames per second, such as 8.")
        return replace(clip, spread=True)
    try:
        fps = float(choice)
    except ValueError:
        fps = math.nan
    if not (math.isfinite(fps) and fps > 0):
        raise OptionError("--clip", f"{choice} is neither spread nor a number of frames per second above 0.")
    return replace(clip, fps=fps, spread=False)


def choose_sampling(num_frames: int, every_s: float | None, clip: ClipShape) -> Sampling:
    """Return the record of a sampling: `num_frames` per segment, or else a clip every `every_s` seconds.

    Raises:
        OptionError: a number makes no sense.
    """
    if every_s is None:
        if num_frames < 1:
            raise OptionError("--frames", f"{num_frames} is not a number of frames above 0.")
        clip_fps = None if clip.spread else clip.fps
        return Sampling("segment", clip.num_frames, clip.num_steps, num_frames=num_frames, clip_fps=clip_fps)
    if not (math.isfinite(every_s) and every_s > 0):
        raise OptionError("--every", f"{every_s} is not a number of seconds above 0.")
    return Sampling("dense", clip.num_frames, 1, every_s=every_s, clip_fps=clip.fps)


def plan_video(frame_seconds: np.ndarray, segments: SegmentTimes, sampling: Sampling, clip: ClipShape) -> VideoPlan:
    """Return the clips of a video under a sampling; see `plan_segments` and `plan_dense`."""
    if sampling.kind == "dense":
        assert sampling.every_s is not None
        return plan_dense(frame_seconds, segments, every_s=sampling.every_s, clip=clip)
    assert sampling.num_frames is not None
    return plan_segments(frame_seconds, segments, num_frames=sampling.num_frames, clip=clip)


def plan_segments(
    frame_seconds: np.ndarray,
    segments: SegmentTimes,
    *,
    num_frames: int,
    clip: ClipShape,
) -> VideoPlan:
    """Return clips spread evenly over each segment, as many of the backbone's length as hold `num_frames` frames.

        | f f f f | f f f f | f f f f |         spread: the frames of all clips lie evenly
        |  ffff   |  ffff   |  ffff   |         at a rate of its own

    A segment is cut into equal parts, one per clip, and each clip is centred in its part. The clip of an image backbone
    is the frame at that centre. A clip that is spread covers its part and repeats frames where the part has fewer. A
    clip with a frame rate reaches beyond both ends of a short segment, and at the ends of the video it repeats the
    first or last frame.

    Args:
        frame_seconds: (F,) float64 presentation times of the video's frames, strictly ascending.
    """
    num_clips = max(1, -(-num_frames // clip.num_frames))
    moments = spread(segments.start_s, segments.stop_s, num_clips * (clip.num_frames if clip.spread else 1))
    is_reached = _is_reached(frame_seconds, segments)
    gap_s = _distance_to_frame(frame_seconds, moments).max(axis=1, initial=0)
    kept = np.flatnonzero(is_reached & (gap_s <= MAX_GAP_S))
    if clip.spread:
        positions = moments[kept].reshape(-1, clip.num_frames)  # (C, L)
    else:
        positions = clip_positions(moments[kept].reshape(-1), clip)
    interval_s = (segments.stop_s - segments.start_s)[kept] / moments.shape[1]
    first = np.arange(len(kept)) * num_clips
    clips, seconds, frame = _clips(frame_seconds, positions, clip.num_steps)
    return VideoPlan(
        narration_id=tuple(segments.narration_id[index] for index in kept),
        clips=clips,
        clip_range=np.stack([first, first + num_clips], axis=1),
        moments=positions,
        interval_s=np.repeat(interval_s, num_clips),
        seconds=seconds,
        frame=frame,
        beyond_end=_beyond_end(segments, np.flatnonzero(~is_reached), end_of_video(frame_seconds)),
        in_gap=_in_gap(segments, np.flatnonzero(is_reached & (gap_s > MAX_GAP_S)), gap_s),
    )


def moved_clips(plan: VideoPlan, frame_seconds: np.ndarray, shift: float) -> np.ndarray:
    """Return the clips of a plan with their moments moved by a share of the sampling's interval: (C, L) frame numbers.

    Within a quarter of the interval the centre of a clip stays in its own part of the segment or of the video.
    """
    return nearest_frames(frame_seconds, plan.moments + shift * plan.interval_s[:, None])


def plan_dense(frame_seconds: np.ndarray, segments: SegmentTimes, *, every_s: float, clip: ClipShape) -> VideoPlan:
    """Return a clip every `every_s` seconds over the whole video; each clip gives one step.

        |  c  |  c  |  c  |  c  |  c  |         c: the centre of a clip, in the middle of its part of the video
             [ segment ]                        this segment touches the parts of the second to the fourth clip

    There are no clips in a gap of the video. The plan also says which clips belong to each of the given segments.

    Args:
        frame_seconds: (F,) float64 presentation times of the video's frames, strictly ascending.
    """
    start_s, end_s = frame_seconds[0], end_of_video(frame_seconds)
    num_parts = max(1, math.ceil((end_s - start_s) / every_s - 0.5))  # the last centre lies within the video
    centres = start_s + (np.arange(num_parts) + 0.5) * every_s
    gap_s = _distance_to_frame(frame_seconds, centres)
    kept = np.flatnonzero(gap_s <= MAX_GAP_S)
    touched = _touched_parts(segments, start_s, every_s, num_parts)  # (S, 2)
    is_reached = _is_reached(frame_seconds, segments)
    worst_s = np.array([gap_s[first:stop].max() for first, stop in touched])
    worst_s = np.maximum(worst_s, start_s - segments.start_s)  # before the first frame there is a gap, too
    ours = np.flatnonzero(is_reached & (worst_s <= MAX_GAP_S))
    positions = clip_positions(centres[kept], clip)
    clips, seconds, frame = _clips(frame_seconds, positions, 1)
    return VideoPlan(
        narration_id=tuple(segments.narration_id[index] for index in ours),
        clips=clips,
        clip_range=np.searchsorted(kept, touched[ours]),
        moments=positions,
        interval_s=np.full(len(kept), every_s),
        seconds=seconds,
        frame=frame,
        beyond_end=_beyond_end(segments, np.flatnonzero(~is_reached), end_s),
        in_gap=_in_gap(segments, np.flatnonzero(is_reached & (worst_s > MAX_GAP_S)), worst_s),
    )


def _touched_parts(segments: SegmentTimes, start_s: float, every_s: float, num_parts: int) -> np.ndarray:
    """Return the range of parts of the video that each segment touches, (S, 2), at least one part."""
    # Borders of segments and of parts often coincide, but for rounding.
    first = np.clip(np.floor((segments.start_s - start_s) / every_s + 1e-6), 0, num_parts - 1)
    stop = np.clip(np.ceil((segments.stop_s - start_s) / every_s - 1e-6), first + 1, num_parts)
    return np.stack([first, stop], axis=1).astype(np.int64)


def _is_reached(frame_seconds: np.ndarray, segments: SegmentTimes) -> np.ndarray:
    """Return whether the video lasts until the end of each segment, (S,) bool."""
    return segments.stop_s <= end_of_video(frame_seconds) + END_TOLERANCE_S


def _distance_to_frame(frame_seconds: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return how far the nearest frame is from each position, in seconds."""
    return np.abs(frame_seconds[nearest_frames(frame_seconds, positions)] - positions)


def _clips(
    frame_seconds: np.ndarray, positions: np.ndarray, num_steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `clips`, `seconds` and `frame` of a plan whose clips show the moments `positions`, (C, L) seconds."""
    num_clips, clip_frames = positions.shape
    steps = positions.reshape(num_clips, num_steps, clip_frames // num_steps).mean(axis=2)  # (C, P)
    # A clip that reaches past an end repeats that frame; its steps lie within the video.
    steps = np.clip(steps, frame_seconds[0], end_of_video(frame_seconds))
    return nearest_frames(frame_seconds, positions), steps, nearest_frames(frame_seconds, steps).astype(np.int32)


def _beyond_end(segments: SegmentTimes, indices: np.ndarray, end_s: float) -> dict[str, str]:
    return {
        segments.narration_id[index]: (
            f"it lasts from {segments.start_s[index]:.2f} to {segments.stop_s[index]:.2f} s, "
            f"but the video's frames end at {end_s:.2f} s"
        )
        for index in indices
    }


def _in_gap(segments: SegmentTimes, indices: np.ndarray, gap_s: np.ndarray) -> dict[str, str]:
    return {
        segments.narration_id[index]: f"the video has a hole there: the nearest frame is {gap_s[index]:.2f} s away"
        for index in indices
    }


def end_of_video(frame_seconds: np.ndarray) -> float:
    """Return the second at which the last frame ends; `frame_seconds` are (F,) ascending."""
    if len(frame_seconds) == 1:
        return float(frame_seconds[0])
    return float(frame_seconds[-1] + np.median(np.diff(frame_seconds)))


def spread(start_s: np.ndarray, stop_s: np.ndarray, num: int) -> np.ndarray:
    """Return the centres of `num` equal parts of each interval, (S, num).

    >>> spread(np.array([0.0]), np.array([4.0]), 2)
    array([[1., 3.]])
    """
    fractions = (np.arange(num) + 0.5) / num
    return start_s[:, None] + (stop_s - start_s)[:, None] * fractions


def clip_positions(centres: np.ndarray, clip: ClipShape) -> np.ndarray:
    """Return the seconds of the frames of clips with these centres, (C, L)."""
    if clip.fps is None:
        return centres[:, None]
    return centres[:, None] + (np.arange(clip.num_frames) - (clip.num_frames - 1) / 2) / clip.fps


def nearest_frames(frame_seconds: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the number of the frame nearest to each position, any shape, int64; of two as near, the earlier."""
    if len(frame_seconds) == 1:
        return np.zeros(positions.shape, dtype=np.int64)
    after = np.clip(np.searchsorted(frame_seconds, positions), 1, len(frame_seconds) - 1)
    before = after - 1
    is_before = positions - frame_seconds[before] <= frame_seconds[after] - positions
    return np.where(is_before, before, after)
