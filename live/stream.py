"""`heads watch` on a camera: the actions of the last seconds, with the delay, without a queue anywhere.

    camera -> thread -> at most one picture waits -> small pictures of the last seconds -> drawn and shown
                                                        | at most one window at a time
                                                        +-> thread: backbone, head -> best actions

The thread that shows pictures never waits for the backbone: actions are those of the last window that is done.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import torch

from extract.views import View, stored_views
from features.device import choose_device
from features.errors import DataError
from live.actions import Action, ActionNames, best_actions, folders_of_names, read_names
from live.backbone import SetBackbone, load_backbones
from live.camera import Camera, LatestPicture, Snapshot, planes_of_bgr
from live.overlay import Overlay
from live.recent import Recent, RecentPictures, features_now, now, plain_view
from live.run import WatchedRun, open_run
from live.screen import Shown, enlargement
from live.watch import EVERY_S, WINDOW_S, need_finite
from live.windows import need_window

# The delays that are kept to be reported: of the last quarter of an hour.
_DELAYS_KEPT = 3600


@dataclass(eq=False)
class StreamReport:
    """What has been seen of a camera.

    Attributes:
        num_read, num_dropped: how many pictures came, and how many of them gave way to newer ones.
        num_windows: how many windows were predicted.
        delays_s: of the last windows, the time from the last picture in it to the moment when its actions are shown.
        most_kept: the largest number of small pictures that were kept at a time.
    """

    num_read: int = 0
    num_dropped: int = 0
    num_windows: int = 0
    delays_s: deque[float] = field(default_factory=lambda: deque(maxlen=_DELAYS_KEPT))
    most_kept: int = 0

    @property
    def median_delay_ms(self) -> float:
        """The median of the delays, in milliseconds; NaN before the first window."""
        return 1000 * median(self.delays_s) if self.delays_s else math.nan


@dataclass(frozen=True, eq=False)
class LiveModel:
    """A run with its backbones, ready for the pictures of a camera."""

    watched: WatchedRun
    backbones: Mapping[str, SetBackbone]
    views: Mapping[str, View]
    names: ActionNames
    window_s: float
    device: torch.device

    def actions(self, recent: Recent) -> Sequence[Action]:
        """Return the best actions of the window that ends now; none while there is less than a window."""
        window = now(recent, self.window_s)
        if window is None:
            return ()
        by_set = {
            digest: features_now(recent, window, digest, backbone, self.views[digest])
            for digest, backbone in self.backbones.items()
        }
        predictions = self.watched.root.predict(by_set, window, self.device)
        need_finite(self.watched, predictions)
        return best_actions(predictions)[0]


def open_live(
    run: Path,
    *,
    annotations: Path | None = None,
    window_s: float = WINDOW_S,
    every_s: float = EVERY_S,
    features: Sequence[Path] = (),
    weights: Mapping[str, str] | None = None,
    weights_dir: Path | None = None,
    device: str = "auto",
) -> LiveModel:
    """Open a run or an ensemble for a camera. Arguments and errors are those of `live.watch.watch_video`.

    Raises:
        DataError: besides, a run sees context: the seconds after a window are still to come.
    """
    need_window(window_s, every_s)
    torch_device = choose_device(device)
    watched = open_run(run, roots=features, device=torch_device)
    for trained in watched.trained:
        settings = trained.model.settings
        if settings.context or settings.window is not None:
            option = (
                f"--window {settings.window:g}" if settings.window is not None else f"--context {settings.context:g}"
            )
            raise DataError(
                f"{trained.path}: was trained with {option}, and of a camera the seconds after a window are still to "
                "come; watch a run without context."
            )
    views = {}
    for digest, names in watched.views.items():
        root = watched.sets[digest][0]
        if len(names) > 1:
            raise DataError(f"{run}: its runs read several views of {root} ({', '.join(names)}); a camera has one.")
        views[digest] = plain_view(stored_views(names, root)[0], root)
    return LiveModel(
        watched,
        load_backbones(watched.sets, weights=weights or {}, weights_dir=weights_dir, device=torch_device),
        views,
        read_names(folders_of_names(annotations, watched.files)),
        window_s,
        torch_device,
    )


def watch_camera(
    model: LiveModel,
    camera: Camera,
    screen: Shown,
    *,
    name: str,
    every_s: float = EVERY_S,
) -> StreamReport:
    """Show the pictures of a camera with the best actions until nobody wants more; return what has been seen.

    Raises:
        DataError: the camera stops.
    """
    report = StreamReport()
    recent = RecentPictures(model.backbones, model.views, model.window_s)
    actions: Sequence[Action] = ()
    note, overlay, due_s = "no actions yet", None, 0.0
    running: tuple[Future[Sequence[Action]], Snapshot] | None = None
    with LatestPicture(camera, name) as pictures, ThreadPoolExecutor(1, "window") as worker:
        while True:
            snapshot = pictures.take()
            recent.add(snapshot.second, planes_of_bgr(snapshot.picture))
            picture = _enlarged(snapshot.picture)
            if overlay is None:
                overlay = Overlay((picture.shape[0], picture.shape[1]), model.names)
            if running is not None and running[0].done():
                actions = running[0].result()
                delay_s = time.monotonic() - running[1].second
                running = None
                if actions:
                    report.num_windows += 1
                    report.delays_s.append(delay_s)
                    note = f"delay {1000 * delay_s:.0f} ms"
            if running is None and snapshot.second >= due_s:
                running = worker.submit(model.actions, recent.snapshot()), snapshot
                due_s = max(due_s + every_s, snapshot.second)
            report.num_read, report.num_dropped = pictures.num_read, pictures.num_dropped
            report.most_kept = max(report.most_kept, len(recent))
            screen.show(overlay.draw(picture, snapshot.second, actions, note=f"{note}, {report.num_dropped} dropped"))
            if not screen.wants_more(0.0):
                return report


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """Return a picture of a camera as (H, W, 3) uint8 RGB, a small one a whole number of times larger."""
    scale = enlargement(picture.shape[1])
    rgb = picture[:, :, ::-1]
    return np.ascontiguousarray(rgb if scale == 1 else rgb.repeat(scale, axis=0).repeat(scale, axis=1))
