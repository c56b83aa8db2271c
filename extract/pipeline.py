"""From a video's plan to its features: decode in order, prepare each frame once, batch clips, run the backbone.

Knows no registry, no annotations and no HDF5. A frame is kept only until the last clip that needs it has been put
together, so memory does not grow with the length of the video.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from extract.preprocess import Preprocess, prepare
from extract.sampling import VideoPlan
from extract.video import VideoInfo, decode

# Enough to keep a device busy; a batch of 64 pictures of 224 x 224 is 39 MB.
_FRAMES_PER_BATCH = 64


@dataclass(frozen=True, eq=False)
class ClipFeatures:
    """The steps of K clips.

    Attributes:
        steps: (K, P, D) float32; not filled for clips with a lost frame.
        lost_frame: (K,) int64, the first frame of each clip that could not be decoded; -1 where all could.
    """

    steps: np.ndarray
    lost_frame: np.ndarray


def clip_features(
    info: VideoInfo,
    plan: VideoPlan,
    network: nn.Module,
    *,
    preprocess: Preprocess,
    dim: int,
    device: torch.device,
    on_clips: Callable[[int], None],
) -> ClipFeatures:
    """Decode the frames that a plan wants and run its clips through a backbone.

    Args:
        network: maps (B, C, L, H, W) float32 on `device` to (B, P, D).
        on_clips: told how many clips have just been done or lost.

    Raises:
        VideoError: the file cannot be opened.
    """
    num_clips, clip_frames = plan.clips.shape
    steps = np.empty((num_clips, plan.seconds.shape[1], dim), dtype=np.float32)
    lost_frame = np.full(num_clips, -1, dtype=np.int64)
    batch_size = max(1, _FRAMES_PER_BATCH // clip_frames)
    batch: list[_Clip] = []

    def run() -> None:
        x = torch.stack([torch.stack(clip.pictures, dim=1) for clip in batch])  # (B, C, L, H, W)
        steps[[clip.number for clip in batch]] = network(x).float().cpu().numpy()
        on_clips(len(batch))
        batch.clear()

    with torch.inference_mode():
        for clip in _gather(info, plan, preprocess, device):
            if clip.lost_frame is not None:
                lost_frame[clip.number] = clip.lost_frame
                on_clips(1)
                continue
            batch.append(clip)
            if len(batch) == batch_size:
                run()
        if batch:
            run()
    return ClipFeatures(steps, lost_frame)


@dataclass(frozen=True)
class _Clip:
    number: int
    pictures: list[torch.Tensor]  # L of (C, H, W)
    lost_frame: int | None


def _gather(info: VideoInfo, plan: VideoPlan, preprocess: Preprocess, device: torch.device) -> Iterator[_Clip]:
    """Give each clip as soon as its last frame has been passed, in that order."""
    pending = deque(np.argsort(plan.clips[:, -1], kind="stable").tolist())
    uses = Counter(plan.clips.reshape(-1).tolist())
    pictures: dict[int, torch.Tensor] = {}

    def put_together(number: int) -> _Clip:
        frames = plan.clips[number].tolist()
        lost = next((frame for frame in frames if frame not in pictures), None)
        clip = _Clip(number, [] if lost is not None else [pictures[frame] for frame in frames], lost)
        uses.subtract(frames)
        for frame in frames:
            if not uses[frame]:
                pictures.pop(frame, None)
        return clip

    for passed, picture in decode(info, plan.wanted):
        pictures[passed] = prepare(picture, preprocess, device)
        while pending and plan.clips[pending[0], -1] <= passed:
            yield put_together(pending.popleft())
    while pending:  # the end of the video did not come: their last frames are lost
        yield put_together(pending.popleft())
