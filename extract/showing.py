"""A contact sheet of a segment: its frames, and below them what a backbone sees of each region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from extract.backbone_input import Preprocess
from extract.backbones import get
from extract.decode.planes import Colour, Planes
from extract.decode.reading import decode, decode_task, probe
from extract.decode.sources import Source
from extract.preprocess import Scaler, normalised
from extract.regions.crops import MIN_SCORE, boxes_of_clips, choose_regions, pixel_box
from extract.regions.source import find_boxes
from extract.sampling import DEFAULT_FRAMES, choose_sampling, plan_video
from extract.videos import ENDINGS, find_videos, missing_message
from extract.views import PLAIN_VIEW
from features.annotations import Segments
from features.errors import DataError
from features.files import written_whole
from features.intervals import segment_times

_CPU = torch.device("cpu")
_GAP = 4  # pixels between pictures
_LINE = 2  # pixels
_BACKGROUND = 32  # grey
_COLOURS = {"left": (60, 140, 255), "right": (255, 150, 40), "held": (70, 220, 90), "hands": (250, 240, 60)}
_ABSENT = (230, 40, 40)


@dataclass(frozen=True)
class ShownFrame:
    """A column of a sheet: its second of the video, and the names of the regions that it has."""

    second: float
    regions: tuple[str, ...]


def show(
    segments: Segments,
    videos: Path,
    narration_id: str,
    out: Path,
    *,
    regions: str,
    boxes: Path | None,
    backbone: str,
    num_frames: int = DEFAULT_FRAMES,
    min_score: float = MIN_SCORE,
) -> list[ShownFrame]:
    """Write the contact sheet of a segment as a PNG file, and return what its columns show.

    The top row has whole frames with the squares that are cut out of them. Below, a row per region has what the
    backbone sees. Where a frame lacks a region, that is the centre crop, and it is crossed out.

    Args:
        videos: the folder of videos, or the file of the segment's video.
        num_frames: as `extract run --frames` takes it. A clip backbone sees whole clips.

    Raises:
        OptionError: there is no such backbone, or an option makes no sense.
        DataError: the segment, its video or its boxes are not there or cannot be read, or `out` cannot be written.
    """
    entry = get(backbone)
    chosen = choose_regions(regions, (PLAIN_VIEW,), boxes, min_score)
    assert chosen is not None
    assert boxes is not None
    sampling = choose_sampling(num_frames, None, entry.clip)
    is_wanted = segments.narration_id == narration_id
    if not is_wanted.any():
        raise DataError(f"{segments.source}: has no segment {narration_id}.")
    rows = segments.where(is_wanted)
    video_id = str(rows.table.video_id[0])
    found = find_boxes(boxes, [video_id], min_score=min_score).read(video_id)
    info = probe(_source(videos, video_id), on_packet=_do_nothing)
    plan = plan_video(info.seconds, segment_times(rows), sampling, entry.clip)
    for reason in (*plan.beyond_end.values(), *plan.in_gap.values()):
        raise DataError(f"{narration_id}: {reason}.")
    pictures = dict(decode(decode_task(info, plan.wanted), on_packet=_do_nothing))
    of_clips = boxes_of_clips(found, info.seconds, plan.clips, chosen)
    of_frames = of_clips.repeat(plan.clips.shape[1], axis=0)  # (C * L, R, 4)
    columns, shown = [], []
    for frame, own in zip(plan.clips.ravel().tolist(), of_frames, strict=True):
        if frame not in pictures:
            raise DataError(f"{narration_id}: {info.why_lost(frame)[1]}.")
        columns.append(
            _column(pictures[frame], info.colour, dict(zip(chosen.names, own, strict=True)), entry.preprocess)
        )
        there = tuple(name for name, box in zip(chosen.names, own, strict=True) if not np.isnan(box[0]))
        shown.append(ShownFrame(float(info.seconds[frame]), there))
    with written_whole(out) as temporary:
        Image.fromarray(_side_by_side(columns).permute(1, 2, 0).numpy()).save(temporary, format="PNG")
    return shown


def _source(videos: Path, video_id: str) -> Source:
    if videos.is_file() and videos.suffix.lower() in ENDINGS:
        return videos
    source = find_videos(videos, [video_id])[video_id]
    if source is None:
        raise DataError(f"{videos}: {missing_message(video_id, None)}.")
    return source


def _do_nothing() -> None:
    """There is no other process that waits for a sign of life."""


def _column(planes: Planes, colour: Colour, boxes: dict[str, np.ndarray], preprocess: Preprocess) -> list[torch.Tensor]:
    """Return a frame with the boxes that it has, and what is seen of each region: (3, h, w) uint8 RGB each."""
    # A turned picture is a view of another, which torch does not take.
    both = torch.from_numpy(planes.y[None].copy()), torch.from_numpy(np.stack([planes.u, planes.v])[None])
    scaler = Scaler(both, preprocess, _CPU)
    seen = []
    for box in boxes.values():
        if np.isnan(box[0]):
            seen.append(_crossed_out(_rgb(scaler.crop("centre"), colour)))
        else:
            seen.append(_rgb(scaler.boxed([0], box[None]), colour))
    height, width = planes.y.shape
    scale = seen[0].shape[2] / width
    small = replace(preprocess, resize=(max(2, round(scale * height)), seen[0].shape[2]), crop=None)
    whole = _rgb(Scaler(both, small, _CPU).crop("centre"), colour)
    for name, box in boxes.items():
        if not np.isnan(box[0]):
            square = pixel_box(box.tolist(), (height, width))
            _outline(whole, [scale * part for part in (square.top, square.left, square.height, square.width)], name)
    return [whole, *seen]


def _rgb(pictures: torch.Tensor, colour: Colour) -> torch.Tensor:
    """Return the first of some pictures from `Scaler` in RGB: (1, 3, h, w) -> (3, h, w) uint8."""
    return (255 * normalised(pictures, [colour], _PLAIN)[0]).round().byte()


_PLAIN = Preprocess(resize=1, crop=None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def _outline(picture: torch.Tensor, square: Sequence[float], name: str) -> None:
    """Draw the border of a square (top, left, height, width in pixels) in the colour of a region."""
    colour = torch.tensor(_COLOURS[name], dtype=torch.uint8)[:, None, None]
    top, left = (round(pixels) for pixels in square[:2])
    bottom, right = round(square[0] + square[2]), round(square[1] + square[3])
    inside = picture[:, top:bottom, left:right]
    for edge in (inside[:, :_LINE], inside[:, -_LINE:], inside[:, :, :_LINE], inside[:, :, -_LINE:]):
        edge[:] = colour


def _crossed_out(picture: torch.Tensor) -> torch.Tensor:
    """Return a picture with a cross from corner to corner."""
    height, width = picture.shape[1:]
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    is_cross = torch.minimum((x - y).abs(), (x + y - 1).abs()) < _LINE / min(height, width)
    return torch.where(is_cross, torch.tensor(_ABSENT, dtype=torch.uint8)[:, None, None], picture)


def _side_by_side(columns: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
    """Return pictures, column by column, as one: (3, H, W) uint8."""
    return torch.cat([torch.cat([_framed(picture) for picture in column], dim=1) for column in columns], dim=2)


def _framed(picture: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(picture, (_GAP, _GAP, _GAP, _GAP), value=_BACKGROUND)
