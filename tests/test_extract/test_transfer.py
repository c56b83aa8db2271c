"""On CUDA, no buffer goes back to its worker before the device has copied it, and no worker waits for one forever."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from encode import number_in, write_video
from pretended_device import PretendedDevice
from torch import nn

from extract import preprocess
from extract.backbone_input import ClipShape, Preprocess
from extract.backbones.networks.clip_network import ClipNetwork, LayerTokens
from extract.clips import ClipFeatures, Request
from extract.decode.decoders import Decoders, Frames
from extract.decode.planes import PlaneBatch
from extract.decode.worker import NUM_BUFFERS, batch_in
from extract.forward import Forward
from extract.pipeline import Pipeline, WaitTimes
from extract.sampling import plan_segments
from extract.transfer import _ToCuda, transfer_to
from features.intervals import SegmentTimes

CUDA = torch.device("cuda")
UNSCALED = Preprocess(resize=(48, 64), crop=None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
SEGMENTS = SegmentTimes(("P01_101_0", "P01_101_1"), np.array([0.0, 1.0]), np.array([2.0, 3.0]))


class _Driver:
    """What torch has of CUDA's runtime: memory is registered, or refused with an error."""

    def __init__(self, error: int = 0) -> None:
        self.error = error
        self.registered: dict[int, int] = {}

    def cudaHostRegister(self, start: int, size: int, _: int) -> int:  # noqa: N802
        if not self.error:
            self.registered[start] = size
        return self.error

    def cudaHostUnregister(self, start: int) -> int:  # noqa: N802
        del self.registered[start]
        return 0


class _LateEvent:
    """An event of a device that copies later: what precedes the event is done some time after it is recorded."""

    delay_s = 0.02

    def record(self, _: object = None) -> None:
        self._recorded = time.monotonic()

    def query(self) -> bool:
        return time.monotonic() - self._recorded > self.delay_s

    def synchronize(self) -> None:
        while not self.query():
            time.sleep(0.001)


@pytest.fixture
def cuda(monkeypatch) -> Iterator[PretendedDevice]:
    with PretendedDevice("cuda") as device:
        monkeypatch.setattr(torch.cuda, "Event", _LateEvent)
        yield device
    for cached in (preprocess._folded, preprocess._bounds):  # what they keep is of this device
        cached.cache_clear()


@pytest.fixture
def driver(monkeypatch) -> _Driver:
    driver = _Driver()
    monkeypatch.setattr(torch.cuda, "cudart", lambda: driver)
    return driver


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "P01_101.mp4", num_frames=180, fps=50)


class _Reader(ClipNetwork):
    """Average each block of 16 x 16 pixels: enough to read the number painted in a frame."""

    def __init__(self) -> None:
        super().__init__(nn.AvgPool3d((1, 16, 16)))

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        return (LayerTokens(self.network(x).mean(dim=1).flatten(2)[:, :, None, None]),)


def _extracted(video: Path, pool: Decoders, device: torch.device) -> ClipFeatures:
    pipeline = Pipeline(
        Forward(_Reader(), UNSCALED, device, "float32"),
        preprocess=UNSCALED,
        dim=12,
        device=device,
        batch_size=7,
        wait_times=WaitTimes(),
        on_clips=lambda *_: None,
    )
    request = Request("P01_101", video, lambda s: plan_segments(s, SEGMENTS, num_frames=40, clip=ClipShape()))
    [result] = pipeline.run(iter([request]), pool)
    return result


def _batch(memory: np.ndarray) -> PlaneBatch:
    return batch_in(memory, 48, 64, len(memory))


def test_a_buffer_is_released_once_it_is_copied(cuda, driver, monkeypatch):
    monkeypatch.setattr(_LateEvent, "delay_s", 1.0)  # longer than a busy machine needs for the lines below
    buffers = np.zeros((2, 4096 * 3), np.uint8)
    released: list[int] = []
    with transfer_to(CUDA, buffers) as to_cuda:
        assert driver.registered == {buffer.ctypes.data: buffer.nbytes for buffer in buffers}
        for number, buffer in enumerate(buffers):
            y, uv = to_cuda.planes(_batch(buffer))
            assert cuda.holds(y)
            assert cuda.holds(uv)
            frames = Frames((number,), _batch(buffer), lambda number=number: released.append(number))
            to_cuda.release(frames)
            assert released == []
        assert to_cuda.poll()
        time.sleep(1.1)
        assert not to_cuda.poll()
        assert released == [0, 1]
    assert driver.registered == {}


def test_buffers_are_released_and_unpinned_when_a_run_breaks_off(cuda, driver):
    buffer = np.zeros((1, 4096 * 3), np.uint8)
    released: list[int] = []
    with pytest.raises(KeyboardInterrupt), transfer_to(CUDA, buffer) as to_cuda:  # noqa: PT012
        to_cuda.planes(_batch(buffer[0]))
        to_cuda.release(Frames((0,), _batch(buffer[0]), lambda: released.append(0)))
        raise KeyboardInterrupt
    assert released == [0]
    assert driver.registered == {}


def test_memory_that_cannot_be_pinned_is_copied_first_and_that_is_said(cuda, driver, capsys):
    driver.error = 801
    buffer = np.zeros((1, 4096 * 3), np.uint8)
    released: list[int] = []
    with transfer_to(CUDA, buffer) as to_cuda:
        to_cuda.planes(_batch(buffer[0]))
        to_cuda.release(Frames((0,), _batch(buffer[0]), lambda: released.append(0)))
        assert released == [0]
    assert "cudaHostRegister: error 801" in capsys.readouterr().err


class _WithBuffers(Decoders):
    """One worker that is given fewer buffers than it might have, and fills each with up to eight small pictures."""

    def __init__(self, num_buffers: int) -> None:
        self._withheld = set(range(num_buffers, NUM_BUFFERS))
        super().__init__(1, chunk_bytes=8 * 48 * 64 * 3 // 2)

    def _started(self, number: int):
        self._unreleased[number] |= self._withheld
        return super()._started(number)


@pytest.mark.process
@pytest.mark.parametrize("num_buffers", [1, NUM_BUFFERS])
def test_frames_stay_until_they_are_copied_and_a_single_buffer_will_do(cuda, driver, video, monkeypatch, num_buffers):
    """Also if the device copies each frame only at the last moment, when its event says that it is done."""
    is_right: list[bool] = []
    release = _ToCuda.release

    def checked(to_cuda: _ToCuda, frames: Frames) -> None:
        event = to_cuda._copied

        def copied() -> None:
            is_right.append(event.query() and [number_in(y) for y in frames.pictures.y] == list(frames.frames))
            frames.release()

        release(to_cuda, replace(frames, release=copied))

    monkeypatch.setattr(_ToCuda, "release", checked)
    with _WithBuffers(num_buffers) as pool:
        result = _extracted(video, pool, CUDA)
    assert not result.failures
    np.testing.assert_array_equal((result.steps[:, :, 0] > 0.5) @ 2 ** np.arange(12), result.plan.clips)
    assert len(is_right) > 2 * NUM_BUFFERS
    assert all(is_right)
