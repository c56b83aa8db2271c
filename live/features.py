"""The features of windows of a video, planned, decoded and computed by the extraction's own code, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from extract.clips import Piece, Request, UnusableVideo
from extract.decode.decoders import Decoders
from extract.decode.probing import VideoInfo
from extract.extraction import usual_batch_size, usual_chunk_bytes
from extract.pipeline import Pipeline, WaitTimes
from extract.sampling import VideoPlan, plan_video
from extract.views import View
from features.errors import DataError
from features.intervals import SegmentTimes
from features.progress import progress
from live.backbone import SetBackbone
from live.windows import chosen


@dataclass(frozen=True, eq=False)
class WindowFeatures:
    """The steps of windows in one feature set, as the set would hold them of segments.

    Attributes:
        features: (N, V, D) float16.
        seconds: (N,) float64, the centre of each step.
        windows: the S windows that have features.
        offset: (S + 1,) int64; the steps of window s are rows offset[s]:offset[s + 1]. Of no use in a dense set.
        views: names of the V views.
        reason: why windows have no features; empty if all have.
    """

    features: np.ndarray
    seconds: np.ndarray
    windows: SegmentTimes
    offset: np.ndarray
    views: tuple[str, ...]
    reason: str = ""


def features_of_video(
    backbone: SetBackbone, views: Sequence[View], info: VideoInfo, windows: SegmentTimes, *, workers: int
) -> WindowFeatures:
    """Return the features of the windows of a video file.

    Args:
        info: of the video, as `extract.decode.reading.probe` returns it.
        workers: processes that decode.

    Raises:
        DataError: the file cannot be read at all, or no window has features.
    """
    plan = plan_video(info.seconds, windows, backbone.featureset.sampling, backbone.shape)
    kept, rows_of = (plan, np.arange(len(plan.clips))) if _depend_on_segment(views) else _without_repeats(plan)
    label = f"{info.path.name}, {backbone.featureset.backbone}"
    with (
        progress(total=len(kept.clips) * len(views), unit="clips", label=label) as bar,
        Decoders[Request | Piece](workers, chunk_bytes=usual_chunk_bytes(backbone.device)) as decoders,
    ):

        def clips_ended(_: str, num_ended: int, __: int) -> None:
            bar.update(num_ended)

        pipeline = Pipeline(
            backbone.forward,
            preprocess=backbone.preprocess,
            dim=backbone.featureset.dim,
            device=backbone.device,
            batch_size=usual_batch_size(backbone.device, backbone.shape),
            wait_times=WaitTimes(),
            on_clips=clips_ended,
        )
        is_dense = backbone.featureset.sampling.kind == "dense"
        request = Request(info.path.stem, info.path, lambda _: kept, None, tuple(views), is_dense=is_dense)
        (result,) = pipeline.run(iter([request]), decoders)
    if isinstance(result, UnusableVideo):
        raise DataError(result.message)
    steps = result.steps[rows_of]
    lost = {row: result.failures.get(kept_row) for row, kept_row in enumerate(rows_of.tolist())}
    failures = {row: failure.message for row, failure in lost.items() if failure is not None}
    return gathered(plan, steps, windows, views, is_dense=is_dense, failures=failures, place=info.path)


def _depend_on_segment(views: Sequence[View]) -> bool:
    """Return whether a clip of the same frames can look different in another window."""
    return any(view.kind != "plain" or view.shift for view in views)


def _without_repeats(plan: VideoPlan) -> tuple[VideoPlan, np.ndarray]:
    """Return a plan with each clip once, and the row there of each clip of the given plan, (C,).

    Windows overlap: with 16 single frames per window of 2 s, windows 0.25 s apart share seven of eight frames.
    """
    clips, rows, rows_of = np.unique(plan.clips, axis=0, return_index=True, return_inverse=True)
    kept = replace(
        plan,
        clips=clips,
        moments=plan.moments[rows],
        interval_s=plan.interval_s[rows],
        seconds=plan.seconds[rows],
        frame=plan.frame[rows],
    )
    return kept, rows_of.reshape(-1)  # numpy 2.0.0 gives it another shape


def gathered(
    plan: VideoPlan,
    steps: np.ndarray,
    windows: SegmentTimes,
    views: Sequence[View],
    *,
    is_dense: bool,
    failures: Mapping[int, str],
    place: object,
) -> WindowFeatures:
    """Return the features of the windows whose clips all have steps.

    Args:
        plan: of these windows.
        steps: (C, P, V, D) float16 of its clips.
        failures: clip -> why it has no steps.
        place: what error messages begin with.

    Raises:
        DataError: no window has features; the message has the first reason.
    """
    reasons = {**plan.beyond_end, **plan.in_gap}
    for name, (first, stop) in zip(plan.narration_id, plan.clip_range.tolist(), strict=True):
        if failed := next((failures[clip] for clip in range(first, stop) if clip in failures), None):
            reasons[name] = failed
    reason = next(iter(reasons.values()), "")
    kept = chosen(windows, frozenset(plan.narration_id) - frozenset(reasons))
    if not kept.narration_id:
        raise DataError(f"{place}: no window of it has features: {reason}.")
    ranges = dict(zip(plan.narration_id, plan.clip_range.tolist(), strict=True))
    if is_dense:
        clips = np.array([clip for clip in range(len(steps)) if clip not in failures], dtype=np.int64)
        offset = np.zeros(1, dtype=np.int64)
    else:
        clips = np.concatenate([np.arange(*ranges[name]) for name in kept.narration_id])
        num_steps = [(ranges[name][1] - ranges[name][0]) * steps.shape[1] for name in kept.narration_id]
        offset = np.cumsum([0, *num_steps])
    if len(clips) < len(steps):  # mostly none is left out, and features of a long video are large
        steps = steps[clips]
    return WindowFeatures(
        features=steps.reshape(-1, *steps.shape[2:]),
        seconds=plan.seconds[clips].reshape(-1),
        windows=kept,
        offset=offset,
        views=tuple(view.name for view in views),
        reason=reason,
    )
