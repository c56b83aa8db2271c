"""A report with a gallery: the segments that heads/report chooses, with strips of frames from their videos."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from extract.videos import find_videos
from features.errors import DataError
from features.intervals import SegmentTimes
from features.progress import progress
from heads.api.arguments import AnyPath
from heads.api.scores import report_of
from heads.report.gallery import FRAMES_PER_STRIP, Example, Examples, Gallery, Picture, Strip, examples_of
from heads.report.html import as_page
from heads.report.plots import draw
from heads.scoring.evaluation import labelled_validation
from live.boxes import HandBoxes
from live.frames import SegmentFrames, decode_segments

# A mail server or a chat takes a file of this size, and a phone opens it.
MAX_PAGE_BYTES = 20_000_000
# Height in pixels and JPEG quality of the frames of a strip: the first that the strip's share of the page has room for.
_LOOKS = ((216, 80), (216, 65), (180, 65), (180, 50), (160, 50), (160, 35))
# The words of a strip, and the HTML around them and its pictures.
_WORDS_BYTES = 3_000
# The filters, and the style and script of the gallery.
_AROUND_BYTES = 100_000


def make_report(
    sources: Sequence[AnyPath] = (),
    *,
    videos: AnyPath,
    num_strips: int = 200,
    annotations: AnyPath | None = None,
    runs: AnyPath = "runs",
    scores: str | Sequence[str] = (),
    input_form: str | None = None,
    frames_fps: float | None = None,
    boxes: AnyPath | None = None,
) -> tuple[str, Gallery]:
    """Return a report as the text of a page with a gallery, and the gallery.

    A segment whose video is missing or cannot be read has a strip that says why.

    Args:
        sources, annotations, runs, scores: as for `heads.make_report`.
        videos: folder of the videos, in any of the forms and layouts that `extract.videos.find_videos` knows.
        num_strips: segments to show. Fewer are shown if the page would be larger than 20 MB.
        input_form, frames_fps: as for `extract.run`.
        boxes: of hands and what they hold, to draw over the frames, as for `extract.run`.

    Raises:
        OptionError: `input_form` or `frames_fps` makes no sense.
        DataError: as for `heads.make_report`, there is no folder of videos, a video is there twice, or `boxes` are none
            of these videos.
    """
    folder = Path(videos)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of videos.")
    report = report_of(sources, annotations=annotations, runs=runs, scores=scores)
    examples = examples_of(report, num_strips)
    plots = draw(report)
    room = MAX_PAGE_BYTES - _AROUND_BYTES - len(as_page(report, plots).encode())
    known = labelled_validation(report.best.group.members.scored.annotations)
    wanted = _by_video(examples.examples)
    found = find_videos(folder, wanted, known_ids=known.table.video_id, form=input_form, frames_fps=frames_fps)
    decoded = decode_segments(wanted, found, form=input_form, num_frames=FRAMES_PER_STRIP, max_height=_LOOKS[0][0])
    hands = None if boxes is None else HandBoxes(Path(boxes), wanted)
    num = len(examples.examples)
    # base64 writes three bytes as four letters.
    per_strip = max(0, room // num - _WORDS_BYTES) * 3 // 4
    strips = {
        segment.narration_id: (tuple(_pictures(segment, per_strip, hands)), segment.missing)
        for segment in progress(decoded, total=num, unit="strips", label="decoding", delay_s=2)
    }
    gallery = _fitting(examples, strips, room)
    if hands is not None:
        gallery = replace(gallery, has_boxes=True, without_boxes=tuple(hands.missing.values()))
    return as_page(report, plots, gallery), gallery


def _by_video(examples: Sequence[Example]) -> dict[str, SegmentTimes]:
    """Return the segments of each video, by the ids of videos."""
    videos: dict[str, list[Example]] = {}
    for example in examples:
        videos.setdefault(example.video_id, []).append(example)
    return {
        video_id: SegmentTimes(
            tuple(example.narration_id for example in videos[video_id]),
            np.array([example.start_s for example in videos[video_id]]),
            np.array([example.stop_s for example in videos[video_id]]),
        )
        for video_id in sorted(videos)
    }


def _pictures(segment: SegmentFrames, max_bytes: int, hands: HandBoxes | None = None) -> Iterator[Picture]:
    """Yield the frames of a segment as JPEG, in the best look of which all of them have room in `max_bytes`.

    If no look is small enough, it is the smallest.
    """
    if not segment.frames:
        return
    for height, quality in _LOOKS:
        images = [_no_higher(Image.fromarray(frame.rgb), height) for frame in segment.frames]
        jpegs = [_jpeg(image, quality) for image in images]
        if sum(map(len, jpegs)) <= max_bytes:
            break
    seconds = [frame.second for frame in segment.frames]
    boxes = [()] * len(seconds) if hands is None else hands.at(segment.video_id, seconds)
    for image, jpeg, second, of_frame in zip(images, jpegs, seconds, boxes, strict=True):
        yield Picture(jpeg, width=image.width, height=image.height, second=second, boxes=of_frame)


def _no_higher(image: Image.Image, height: int) -> Image.Image:
    if image.height <= height:
        return image
    return image.resize((max(1, round(image.width * height / image.height)), height), Image.Resampling.LANCZOS)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, optimize=True)
    return file.getvalue()


def _fitting(examples: Examples, strips: Mapping[str, tuple[tuple[Picture, ...], str]], room: int) -> Gallery:
    """Return a gallery of the first strips, as many as a page has room for."""
    shown: list[Strip] = []
    for example in examples.examples:
        pictures, missing = strips[example.narration_id]
        room -= _WORDS_BYTES + sum(4 * len(picture.jpeg) // 3 + 4 for picture in pictures)
        if room < 0:
            break
        shown.append(Strip(example, pictures, missing))
    return Gallery(tuple(shown), examples, num_left_out=len(examples.examples) - len(shown))
