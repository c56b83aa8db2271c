"""Measure what the main process of an extraction does per frame: `make bench`, or `python benchmarks/bench_feeding.py`.

A GPU needs this process to hand it every frame, and 16 decoding processes give some 10,000 wanted frames per second. So
its CPU time per frame is measured with a backbone that costs nothing, on a device that computes nothing: torch's
"meta", whose operations take this process about as long as starting a kernel does, or longer (some are Python). The
calls of CUDA itself (streams, events) are left out. Nothing is asserted; the figures go to results/feeding.json.
"""

from __future__ import annotations

import os

# As the command line does, before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import resource
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from epic_like import encoded_once, segments_like_epic
from extraction import SECONDS, VIDEO
from record import RESULTS, write_record

from extract import pipeline
from extract.backbones import Backbone, get
from extract.clips import Request
from extract.decode.decoders import Decoders, Frames
from extract.decode.planes import PlaneBatch
from extract.decode.probing import probe
from extract.decode.worker import CHUNK_BYTES_FOR_GPU
from extract.forward import Forward, PendingSteps
from extract.sampling import VideoPlan, choose_sampling, plan_video
from extract.views import choose_views
from features.console import table

META = torch.device("meta")
# Pictures per batch on CUDA.
_BATCH_FRAMES = 512


@dataclass(frozen=True)
class Case:
    """A backbone and its sampling: 16 frames per segment, or else a clip every so many seconds."""

    name: str
    backbone: str
    every_s: float | None = None
    views: str = "centre"


CASES = (
    Case("resnet50, 16 frames per segment", "resnet50"),
    Case("resnet50, 16 frames per segment, 3 views", "resnet50", views="centre,left,flip"),
    Case("videomae, a clip of 16 frames every 0.2 s", "videomae", every_s=0.2),
)


@dataclass(frozen=True)
class Result:
    """CPU microseconds of one case: of the main process, and of a process that decodes."""

    name: str
    num_frames: int  # wanted ones
    num_clip_frames: int  # of clips in all views
    host_us_per_frame: float
    host_us_per_clip_frame: float
    decode_us_per_frame: float
    host_over_decode: float


class _NullForward(Forward):
    """Prepares batches as `Forward` does, and gives zeros."""

    def __init__(self, entry: Backbone) -> None:
        self._preprocess = entry.preprocess
        self._shape = entry.clip.num_steps, entry.dim

    def steps(self, clips: torch.Tensor) -> PendingSteps:
        return PendingSteps(torch.zeros(len(clips), *self._shape), None)


class _ToMeta:
    """Releases a buffer one message later, as a device does that copies meanwhile."""

    def __init__(self) -> None:
        self._copying: deque[Frames] = deque()

    def planes(self, batch: PlaneBatch) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(batch.y).to(META), torch.from_numpy(batch.uv).to(META)

    def release(self, frames: Frames) -> None:
        self.poll()
        self._copying.append(frames)

    def poll(self) -> bool:
        while self._copying:
            self._copying.popleft().release()
        return False


@contextmanager
def _transfer_to_meta(device: torch.device, buffers: np.ndarray) -> Iterator[_ToMeta]:
    yield _ToMeta()


def measure(case: Case, video: Path, seconds: int, *, repeats: int = 3) -> Result:
    """Measure one case on a video: the main process and the process that decodes for it, medians of several turns."""
    entry = get(case.backbone)
    views = choose_views(case.views, entry.preprocess)
    sampling = choose_sampling(16, case.every_s, entry.clip)
    segments = segments_like_epic(seconds)

    def plan(frame_seconds: np.ndarray) -> VideoPlan:
        return plan_video(frame_seconds, segments, sampling, entry.clip)

    request = Request("P01_101", video, plan, views=views, is_dense=case.every_s is not None)
    feeding = pipeline.Pipeline(
        _NullForward(entry),
        preprocess=entry.preprocess,
        dim=entry.dim,
        device=META,
        batch_size=max(1, _BATCH_FRAMES // entry.clip.num_frames),
        wait_times=pipeline.WaitTimes(),
        on_clips=lambda *_: None,
    )
    host: list[float] = []
    decoding: list[float] = []
    with patch.object(pipeline, "transfer_to", _transfer_to_meta):
        for _ in range(repeats):
            started_us = _cpu_us_of_worker(lambda decoders: decoders.submit("start", video))
            decoding.append(
                _cpu_us_of_worker(lambda decoders: host.append(_fed(feeding, request, decoders))) - started_us
            )
    host_us, decode_us = statistics.median(host), statistics.median(decoding)
    whole = plan(probe(video).seconds)
    num_frames, num_clip_frames = len(whole.wanted), whole.clips.size * len(views)
    return Result(
        name=case.name,
        num_frames=num_frames,
        num_clip_frames=num_clip_frames,
        host_us_per_frame=host_us / num_frames,
        host_us_per_clip_frame=host_us / num_clip_frames,
        decode_us_per_frame=decode_us / num_frames,
        host_over_decode=host_us / decode_us,
    )


def _fed(feeding: pipeline.Pipeline, request: Request, decoders: Decoders) -> float:
    """Run an extraction and return the CPU microseconds of this process."""
    start = time.process_time()
    [result] = feeding.run(iter([request]), decoders)
    taken_us = 1e6 * (time.process_time() - start)
    assert not result.failures, result.failures
    return taken_us


def _cpu_us_of_worker(work: Callable[[Decoders], object]) -> float:
    """Return the CPU microseconds of a worker until some work and all its tasks have ended, with its start."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Decoders(1, chunk_bytes=CHUNK_BYTES_FOR_GPU) as decoders:
        work(decoders)
        while decoders.num_open:
            deque(decoders.events(), maxlen=0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e6 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def feeding_table(results: list[Result]) -> str:
    """Return a table of CPU microseconds."""
    header = ["feeding", "main us/frame", "us/clip-frame", "decoding us/frame", "main / decoding"]
    rows = [
        [
            result.name,
            f"{result.host_us_per_frame:.0f}",
            f"{result.host_us_per_clip_frame:.1f}",
            f"{result.decode_us_per_frame:.0f}",
            f"{result.host_over_decode:.3f}",
        ]
        for result in results
    ]
    return table(header, rows)


def main() -> None:
    """Measure all cases and write the figures."""
    torch.set_num_threads(1)
    encoded_once(VIDEO, SECONDS)
    measure(CASES[0], VIDEO, SECONDS, repeats=1)  # torch's operations take longer the first time
    results = [measure(case, VIDEO, SECONDS) for case in CASES]
    print(feeding_table(results))
    write_record(RESULTS / "feeding.json", {"cases": [asdict(result) for result in results]})


if __name__ == "__main__":
    main()
