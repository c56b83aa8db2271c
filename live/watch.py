"""`heads watch` on a video file: the actions of a run over windows that slide over it, as CSV, mp4 and on a screen."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extract.decode.decoders import num_workers_for
from extract.decode.probing import VideoInfo, probe
from extract.sampling import end_of_video
from extract.views import stored_views
from features.device import choose_device
from features.errors import DataError
from features.files import need_other_file
from features.intervals import SegmentTimes
from features.predictions import Predictions
from features.progress import progress
from live.actions import (
    Action,
    ActionNames,
    ActionSegment,
    best_actions,
    folders_of_names,
    read_names,
    read_true_segments,
    smoothed_segments,
    write_actions,
)
from live.backbone import load_backbones
from live.features import features_of_video
from live.overlay import Overlay, Timeline
from live.pictures import mp4_writer, pictures_of, shown_size
from live.run import WatchedRun, open_run
from live.screen import Shown, enlargement
from live.windows import chosen, need_window, sliding_windows, window_at

WINDOW_S, EVERY_S = 2.0, 0.25
_LONGEST_STILL_S = 0.2  # a machine that is too slow for the video shows a picture at least so often


@dataclass(frozen=True, eq=False)
class WatchedVideo:
    """The actions of a run in a video.

    Attributes:
        windows: the S windows that have features in every set.
        predictions: for these windows.
        segments: the actions of the video, smoothed.
        true: the annotated actions; none where no annotations are given.
        num_lost: how many windows have no features, and `reason`, why.
        notes: what of an ensemble was left out.
    """

    info: VideoInfo
    windows: SegmentTimes
    predictions: Predictions
    segments: Sequence[ActionSegment]
    true: Sequence[ActionSegment]
    names: ActionNames
    num_lost: int
    reason: str
    notes: tuple[str, ...]


def watch_video(
    run: Path,
    video: Path,
    *,
    annotations: Path | None = None,
    window_s: float = WINDOW_S,
    every_s: float = EVERY_S,
    features: Sequence[Path] = (),
    weights: Mapping[str, str] | None = None,
    weights_dir: Path | None = None,
    workers: int | None = None,
    device: str = "auto",
) -> WatchedVideo:
    """Return what a run, or an ensemble, predicts for windows that slide over a video file.

    Each window is treated as `extract run` and `heads predict` treat an annotated segment. Runs with context see what
    surrounds a window; runs with neighbours are refused.

    Args:
        annotations: CSV or folder with the true segments; by default the lists that the run was trained with.
        window_s, every_s: length of a window, and the time from one to the next.
        features: folders of the run's feature sets, where they have moved; only featureset.json is read.
        weights: name of a backbone -> file of its weights, where that has moved.
        weights_dir: folder of published weights; None for the caches of their libraries.
        workers: processes that decode; by default one per CPU.

    Raises:
        OptionError: a number makes no sense.
        DataError: the run or the video cannot be used; the message says why.
    """
    need_window(window_s, every_s)
    torch_device = choose_device(device)
    num_workers = num_workers_for(workers)
    if not video.is_file():
        raise DataError(f"{video}: no such video file.")
    watched = open_run(run, roots=features, device=torch_device)
    true = read_true_segments(annotations, watched.files, video.stem)
    names = read_names(folders_of_names(annotations, watched.files))
    info = probe(video)
    windows = sliding_windows(end_of_video(info.seconds), window_s=window_s, every_s=every_s)
    backbones = load_backbones(watched.sets, weights=weights or {}, weights_dir=weights_dir, device=torch_device)
    by_set = {
        digest: features_of_video(
            backbone, stored_views(watched.views[digest], watched.sets[digest][0]), info, windows, workers=num_workers
        )
        for digest, backbone in backbones.items()
    }
    kept = chosen(windows, frozenset.intersection(*(frozenset(of.windows.narration_id) for of in by_set.values())))
    if not kept.narration_id:
        raise DataError(f"{video}: no window of it has features in all sets.")
    predictions = watched.root.predict(by_set, kept, torch_device)
    need_finite(watched, predictions)
    return WatchedVideo(
        info=info,
        windows=kept,
        predictions=predictions,
        segments=smoothed_segments(predictions, kept, every_s=every_s),
        true=true,
        names=names,
        num_lost=len(windows.narration_id) - len(kept.narration_id),
        reason=next((of.reason for of in by_set.values() if of.reason), ""),
        notes=watched.notes,
    )


def need_finite(watched: WatchedRun, predictions: Predictions) -> None:
    """Raise DataError if predictions are not finite: actions would be ranked by their ids."""
    if not (np.isfinite(predictions.verb).all() and np.isfinite(predictions.noun).all()):
        raise DataError(f"{watched.root.path}: its logits are not finite; train it again with a lower --lr.")


def write_annotated(watched: WatchedVideo, path: Path) -> None:
    """Write the video with its actions drawn over it: same size, length and frame rate, without sound.

    Raises:
        DataError: the file cannot be written, or is the video itself.
    """
    info = watched.info
    need_other_file(path, info.path)
    annotated = Annotated(watched)
    label = f"write {path.name}"
    with mp4_writer(path, info.fps) as add, progress(total=len(info.seconds), unit="frames", label=label) as bar:
        for second, picture in pictures_of(info):
            add(second, annotated.picture(second, picture))
            bar.update()


def show(watched: WatchedVideo, screen: Shown) -> None:
    """Show the video with its actions at its own speed, until its end or until nobody wants more; skip late frames."""
    info = watched.info
    annotated = Annotated(watched, scale=enlargement(info.width))
    began = shown = time.monotonic()
    for second, picture in pictures_of(info):
        late_s = time.monotonic() - began - second
        if late_s > 1 / max(info.fps, 1.0) and time.monotonic() - shown < _LONGEST_STILL_S:
            continue
        screen.show(annotated.picture(second, picture))
        if not screen.wants_more(-late_s):
            return
        shown = time.monotonic()


class Annotated:
    """The pictures of a video with its actions drawn over them."""

    def __init__(self, watched: WatchedVideo, *, scale: int = 1) -> None:
        self._windows, self._actions = watched.windows, best_actions(watched.predictions)
        height, width = shown_size(watched.info)
        timeline = Timeline(end_of_video(watched.info.seconds), watched.true, watched.segments)
        self._scale = scale
        self._overlay = Overlay((height * scale, width * scale), watched.names, timeline)

    def actions_at(self, second: float) -> Sequence[Action]:
        """Return the best actions of the window whose middle is nearest."""
        return self._actions[window_at(self._windows, second)]

    def picture(self, second: float, picture: np.ndarray) -> np.ndarray:
        """Return a picture, (H, W, 3) uint8 RGB, of a moment with its overlay."""
        if self._scale > 1:
            picture = picture.repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        return self._overlay.draw(picture, second, self.actions_at(second))


def actions_path(video: Path) -> Path:
    """Return where the actions of a video are written: beside it.

    >>> str(actions_path(Path("videos/P01_101.mp4")))
    'videos/P01_101.actions.csv'
    """
    return video.with_suffix(".actions.csv")


def save_actions(watched: WatchedVideo, path: Path) -> None:
    """Write the smoothed actions of a video as CSV: start, stop, verb, noun, score.

    Raises:
        DataError: the file cannot be written, or is the video itself.
    """
    need_other_file(path, watched.info.path)
    write_actions(path, watched.segments, watched.names)
