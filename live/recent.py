"""The last seconds of a camera, scaled as the backbones take them, and the features of the window that ends now."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from extract.decode.planes import BT601, PlaneBatch
from extract.preprocess import scaled
from extract.sampling import VideoPlan, end_of_video, plan_video
from extract.views import View
from features.errors import DataError
from features.intervals import SegmentTimes
from live.backbone import SetBackbone
from live.features import WindowFeatures, gathered

WINDOW = "now"


@dataclass(frozen=True, eq=False)
class Recent:
    """The pictures of the last seconds.

    Attributes:
        seconds: (F,) float64, ascending, from 0 at the first picture.
        pictures: digest of a feature set -> its F pictures, (3, h, w) uint8 YUV.
    """

    seconds: np.ndarray
    pictures: Mapping[str, list[torch.Tensor]]


class RecentPictures:
    """Keeps the pictures of the last seconds, small: as much as a window and its clips need, and no more.

    Args:
        backbones: digest -> what makes the features of a set.
        views: digest -> the view that is read of the set.
    """

    def __init__(self, backbones: Mapping[str, SetBackbone], views: Mapping[str, View], window_s: float) -> None:
        self._backbones, self._views = backbones, views
        self._span_s = window_s + max(_reach_s(backbone) for backbone in backbones.values())
        self._kept: deque[tuple[float, dict[str, torch.Tensor]]] = deque()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, second: float, planes: PlaneBatch) -> None:
        """Scale a picture that came at a second, and forget those that no window needs any more."""
        pictures = {}
        for digest, backbone in self._backbones.items():
            view = self._views[digest]
            pictures[digest] = scaled(planes, backbone.preprocess, backbone.device, view.crop, flip=view.flip)[0]
        self._kept.append((second, pictures))
        while second - self._kept[0][0] > self._span_s:
            self._kept.popleft()

    def snapshot(self) -> Recent:
        """Return what is kept now."""
        kept = list(self._kept)
        seconds = np.array([second for second, _ in kept])
        return Recent(seconds - seconds[0], {key: [of[key] for _, of in kept] for key in self._backbones})


def _reach_s(backbone: SetBackbone) -> float:
    """Return by how many seconds a clip may reach beyond the window, and a picture more."""
    shape = backbone.shape
    return 0.5 + (0.0 if shape.fps is None or shape.spread else shape.num_frames / 2 / shape.fps)


def plain_view(view: View, root: object) -> View:
    """Return a view that a camera can have.

    Raises:
        DataError: it has random parts, or moves its frames in time.
    """
    if view.kind != "plain" or view.shift:
        raise DataError(f"{root}: its view {view.name} cannot be had of a camera; only crops and flip can.")
    return view


def now(recent: Recent, window_s: float) -> SegmentTimes | None:
    """Return the window that ends with the last picture; None while there is less than a window."""
    if len(recent.seconds) < 2:
        return None
    stop_s = end_of_video(recent.seconds)
    if stop_s < window_s:
        return None
    return SegmentTimes((WINDOW,), np.array([stop_s - window_s]), np.array([stop_s]))


def features_now(
    recent: Recent, window: SegmentTimes, digest: str, backbone: SetBackbone, view: View
) -> WindowFeatures:
    """Return the features of a window of the last seconds in one feature set.

    The clips are planned as those of a video that ends now: a clip that would reach beyond repeats the last picture.

    Raises:
        DataError: the camera gave no picture for too long in this window.
    """
    sampling = backbone.featureset.sampling
    plan = plan_video(recent.seconds, window, sampling, backbone.shape)
    if not plan.narration_id:
        raise DataError(f"{next(iter({**plan.in_gap, **plan.beyond_end}.values()))}")
    plan = _of_window(plan)
    pictures = torch.stack([recent.pictures[digest][frame] for frame in plan.clips.ravel().tolist()])
    started = backbone.forward.start(pictures, [BT601] * len(pictures), plan.clips.shape[1])
    dim = backbone.featureset.dim
    with np.errstate(over="ignore"):
        # As the extraction stores them: of a dense set, a step is the mean of its clip; rounded to float16.
        steps = started.get().numpy().reshape(len(plan.clips), plan.seconds.shape[1], -1, dim).mean(axis=2)
        stored = steps.astype(np.float16)[:, :, None]
    return gathered(plan, stored, window, [view], is_dense=sampling.kind == "dense", failures={}, place="camera")


def _of_window(plan: VideoPlan) -> VideoPlan:
    """Return the plan with the clips of its only segment alone: a dense plan covers all pictures."""
    first, stop = plan.clip_range[0].tolist()
    rows = slice(first, stop)
    return VideoPlan(
        plan.narration_id,
        plan.clips[rows],
        plan.clip_range - first,
        plan.moments[rows],
        plan.interval_s[rows],
        plan.seconds[rows],
        plan.frame[rows],
        plan.beyond_end,
        plan.in_gap,
    )
