"""Workers give what decoding here would give; one that dies or hangs is reported and replaced, and nothing waits."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from encode import number_in, planes_of_all, write_video

from extract.decode import decoders
from extract.decode.decoders import Decoders, Event, Frames, TaskFailure
from extract.decode.probing import VideoInfo, probe
from extract.decode.video import decode, decode_task
from extract.decode.worker import (
    BUFFER_BYTES,
    CHUNK_BYTES,
    CHUNK_BYTES_FOR_GPU,
    NUM_BUFFERS,
    Finished,
    batch_in,
)


def _all_events(pool: Decoders, *, release: bool = True) -> list[Event]:
    """Take events until all tasks have ended; pictures become the numbers painted in them."""
    events = []
    while pool.num_open:
        for event in pool.events():
            if not isinstance(event.result, Frames):
                events.append(event)
                continue
            numbers = tuple(number_in(y) for y in event.result.pictures.y)
            assert numbers == event.result.frames
            events.append(Event(event.key, numbers))
            event.result.release()
    return events


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "P01_01.mp4", num_frames=600)


@pytest.fixture(scope="module")
def pool():
    """Two workers that every test here may leave in any sound state."""
    with Decoders(2) as workers:
        yield workers


def _kill_at_work(worker) -> None:
    """Kill a worker soon after it has started."""
    while not worker.is_ready:
        time.sleep(0.05)
    time.sleep(0.3)
    os.kill(worker.process.pid, signal.SIGKILL)


def _fifo(folder: Path) -> Path:
    """Return the path of a named pipe without a writer: opening it blocks forever."""
    path = folder / "P01_09.mp4"
    os.mkfifo(path)
    return path


def test_probing_in_a_worker_gives_the_same(pool, video):
    pool.submit("it", video)
    first, last = _all_events(pool)
    expected = probe(video)
    assert isinstance(first.result, VideoInfo)
    np.testing.assert_array_equal(first.result.pts, expected.pts)
    assert (first.result.fps, first.result.colour, first.result.path) == (expected.fps, expected.colour, video)
    assert (first.key, last.key, last.result) == ("it", "it", Finished())


def test_frames_come_in_order_and_once(pool, video):
    info = probe(video)
    numbers = np.unique(np.random.default_rng(0).integers(0, 600, 400))
    pool.submit(1, decode_task(info, numbers))
    *chunks, end = _all_events(pool)
    assert [frame for chunk in chunks for frame in chunk.result] == numbers.tolist()
    assert len(chunks) > NUM_BUFFERS  # so that buffers were used again
    assert end.result == Finished()


def test_tasks_of_all_workers_keep_apart(pool, video):
    info = probe(video)
    parts = np.array_split(np.arange(600), 7)
    for number, part in enumerate(parts):
        pool.submit(number, decode_task(info, part))
    events = _all_events(pool)
    for number, part in enumerate(parts):
        results = [event.result for event in events if event.key == number]
        assert [frame for frames in results[:-1] for frame in frames] == part.tolist()
        assert results[-1] == Finished()


def test_pictures_stay_until_they_are_released(pool, video):
    info = probe(video)
    pool.submit(1, decode_task(info, np.arange(600)))
    batches: list[Frames] = []
    while len(batches) < NUM_BUFFERS:
        batches += [event.result for event in pool.events()]
    time.sleep(0.5)  # time enough for the worker to spoil them
    for frames in batches:
        assert tuple(number_in(y) for y in frames.pictures.y) == frames.frames
        frames.release()
    _all_events(pool)


def test_video_that_cannot_be_used_is_refused_by_name(pool, tmp_path):
    path = tmp_path / "P01_02.mp4"
    path.write_bytes(b"")
    pool.submit("it", path)
    [event] = _all_events(pool)
    assert event.result.error == "UnreadableVideo"
    assert "P01_02.mp4" in event.result.message


def test_worker_that_dies_costs_its_own_task_alone(video, tmp_path):
    with Decoders(2) as pool:
        pool.submit("lost", _fifo(tmp_path))
        for number in range(4):  # one of them waits behind the one that is lost
            pool.submit(number, video)
        threading.Thread(target=_kill_at_work, args=(pool._workers[0],)).start()
        events = _all_events(pool)
    failures = {event.key: event.result for event in events if isinstance(event.result, TaskFailure)}
    assert failures == {"lost": TaskFailure("WorkerDied", "the process that read it ended by signal 9")}
    assert {event.key for event in events if isinstance(event.result, VideoInfo)} == set(range(4))


def test_pictures_of_a_worker_that_died_stay_until_they_are_released(video):
    """Its buffers go to the worker that takes over, but for those that are still read."""
    with Decoders(1) as pool:
        pool.submit("first", decode_task(probe(video), np.arange(600)))
        kept: list[Frames] = []
        while not kept:
            kept = [event.result for event in pool.events() if isinstance(event.result, Frames)]
        os.kill(pool._workers[0].process.pid, signal.SIGKILL)
        while pool.num_open:  # what the worker had filled before is never released, and not taken by the next one
            list(pool.events())
        pool.submit("second", decode_task(probe(video), np.arange(600)))
        held = pool._unreleased[0].copy()
        if len(held) == NUM_BUFFERS:
            kept.pop().release()
        events = _all_events(pool)
        assert [number for event in events[:-1] for number in event.result] == list(range(600))
        for frames in kept:
            assert tuple(number_in(y) for y in frames.pictures.y) == frames.frames
            frames.release()


def test_worker_that_hangs_costs_its_own_task_alone(video, tmp_path, monkeypatch):
    monkeypatch.setattr(decoders, "HUNG_S", 3.0)
    with Decoders(2) as pool:
        pool.submit("lost", _fifo(tmp_path))
        for number in range(4):
            pool.submit(number, video)
        events = _all_events(pool)
    failures = {event.key: event.result.error for event in events if isinstance(event.result, TaskFailure)}
    assert failures == {"lost": "WorkerHung"}
    assert {event.key for event in events if isinstance(event.result, VideoInfo)} == set(range(4))


def test_worker_that_waits_for_a_buffer_is_not_taken_for_hung(video, monkeypatch):
    monkeypatch.setattr(decoders, "HUNG_S", 3.0)
    with Decoders(1) as pool:
        pool.submit(1, decode_task(probe(video), np.arange(600)))
        batches: list[Frames] = []
        while len(batches) < NUM_BUFFERS:
            batches += [event.result for event in pool.events()]
        time.sleep(4)
        for frames in batches:
            frames.release()
        assert _all_events(pool)[-1].result == Finished()


def test_workers_end_with_the_pool():
    with Decoders(2) as pool:
        processes = [worker.process for worker in pool._workers]
    assert all(process.poll() is not None for process in processes)


@pytest.mark.parametrize("chunk_bytes", [CHUNK_BYTES, CHUNK_BYTES_FOR_GPU])
@pytest.mark.parametrize("size", [(360, 640), (1080, 1920), (2160, 4096), (4096, 8192), (47, 33), (1, 1)], ids=str)
def test_pictures_of_a_buffer_lie_within_it_and_apart(size, chunk_bytes):
    buffer = np.zeros(BUFFER_BYTES, np.uint8)
    batch = batch_in(buffer, *size, chunk_bytes)
    assert len(batch) >= 1
    assert len(batch) == 1 or batch.y.nbytes + batch.uv.nbytes <= chunk_bytes
    batch.y[:] += 1
    batch.uv[:] += 1
    half = (size[0] + 1) // 2, (size[1] + 1) // 2
    assert batch.uv.shape == (len(batch), 2, *half)
    assert buffer.max() == 1  # no byte belongs to two
    assert buffer.sum(dtype=np.int64) == batch.y.size + batch.uv.size


def test_large_picture_comes_whole(pool, tmp_path):
    height, width = 2988, 5312  # GoPro's 5.3K
    picture = np.random.default_rng(0).integers(0, 256, (9, 16, 3), np.uint8).repeat(332, 0).repeat(332, 1)
    path = write_video(tmp_path / "P01_03.mp4", num_frames=2, b_frames=0, picture=lambda _: picture)
    [_, expected] = planes_of_all(path)
    pool.submit(1, decode_task(probe(path), np.array([1])))
    while pool.num_open:
        for event in pool.events():
            if isinstance(event.result, Frames):
                assert event.result.pictures.y.shape == (1, height, width)
                np.testing.assert_array_equal(event.result.pictures.y[0], expected[0])
                np.testing.assert_array_equal(event.result.pictures.uv[0], expected[1:])
                event.result.release()
            else:
                assert event.result == Finished()


def test_decoding_here_and_there_gives_the_same_pixels(pool, video):
    info = probe(video)
    expected = {frame: planes.u.copy() for frame, planes in decode(decode_task(info, np.arange(50)))}
    pool.submit(1, decode_task(info, np.arange(50)))
    num_frames = 0
    while pool.num_open:
        for event in pool.events():
            if isinstance(event.result, Frames):
                for frame, uv in zip(event.result.frames, event.result.pictures.uv, strict=True):
                    np.testing.assert_array_equal(uv[0], expected[frame])
                    num_frames += 1
                event.result.release()
    assert num_frames == 50
