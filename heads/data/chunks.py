"""The features of a split in memory: all at once if they fit, else one chunk of videos at a time.

A stream is what one feature set has of the split's segments. heads/data/reading.py reads the files.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from features.progress import progress
from heads.data.layout import Layout, Source, VideoLayout
from heads.data.reading import VideoReader

_CPU = torch.device("cpu")
# MPS copies larger tensors wrongly, and silently (pytorch/pytorch#124335, in torch 2.1 and 2.2).
_MOST_ON_MPS = 2**32


@dataclass(frozen=True, eq=False)
class Stream:
    """The steps of a chunk's segments in one feature set.

    Attributes:
        features: (N, V, D) float16, on the device if they fit there.
        seconds: (N,) float32, the centre of each step in its video. This and what follows is on the CPU.
        first, stop: (S,) int64, the rows that a head sees of each segment.
        inner_first, inner_stop: (S,) int64, those of the segment itself.
        video_first, video_stop: (S,) int64, those of the segment's video.
        is_dense: whether its steps are spread over whole videos.
        has_view: (S, V) bool, which views each segment's video has; None if all have all. The first view stands in for
            those that it lacks.
        has_region: (N, V, cells) bool, which cells of a step have their region, the same in all views; it lies beside
            the features. None in a set without regions.
    """

    features: torch.Tensor
    seconds: torch.Tensor
    first: torch.Tensor
    stop: torch.Tensor
    inner_first: torch.Tensor
    inner_stop: torch.Tensor
    video_first: torch.Tensor
    video_stop: torch.Tensor
    is_dense: bool
    has_view: torch.Tensor | None = None
    has_region: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class Chunk:
    """Segments of a split with their features in memory.

    Attributes:
        index: (S,) int64, positions of these segments in the split.
        middle_s: (S,) float32, the middle of each segment in its video.
        intervals: (S, 2) float64, start and stop of each segment in its video, in seconds.
    """

    index: torch.Tensor
    middle_s: torch.Tensor
    streams: tuple[Stream, ...]
    intervals: torch.Tensor

    def __len__(self) -> int:
        return len(self.index)


class BufferPool:
    """Memory for chunks, kept between passes and shared by splits that are read one after the other.

    The system takes longer to provide new memory than features take to read.
    """

    def __init__(self) -> None:
        self.free: list[np.ndarray] = []

    def take(self, num_bytes: float) -> np.ndarray:
        """Return a buffer of float16 values; a pass that starts while another one goes on gets its own."""
        buffer = self.free.pop() if self.free else _new_buffer(0)
        return buffer if buffer.nbytes >= num_bytes else _new_buffer(num_bytes)

    def give_back(self, buffers: Sequence[np.ndarray]) -> None:
        """Keep the buffers of a pass for the next one, in place of any others."""
        self.free = list(buffers)


class Split:
    """Segments with features: all in memory, on the device if they fit there, or read one chunk of videos at a time.

    Attributes:
        segments: those that have features in every stream, S of them.
        num_missing: number of segments in the annotations that have not.
        sources: the feature sets.
        size_bytes: of all features.
        is_resident: whether they are all in memory.

    Args:
        memory_bytes: the memory that features may take. Of a larger split, chunks of a third of it are read: the one in
            use, the next one, and what reading takes.
        buffers: memory for chunks that several splits share.

    Raises:
        DataError: a file is damaged, or features of a segment are not finite.
    """

    def __init__(
        self, layout: Layout, device: torch.device, *, memory_bytes: float, buffers: BufferPool | None = None
    ) -> None:
        self.segments, self.num_missing, self.sources = layout.segments, layout.num_missing, layout.sources
        self._videos = layout.videos
        self.size_bytes = sum(_size_of(video, self.sources) for video in self._videos)
        self.is_resident = self.size_bytes <= memory_bytes
        self._chunk_bytes = memory_bytes / 3
        self._buffers = BufferPool() if buffers is None else buffers
        self._reader = VideoReader(self.segments, self.sources, reads_again=not self.is_resident)
        if self.is_resident:
            most = _MOST_ON_MPS if device.type == "mps" else math.inf
            fits_device = self.size_bytes < min(free_bytes(device) / 2, most)
            label = f"load {self.segments.source}"
            with progress(total=len(self._videos), unit="videos", label=label, delay_s=2) as bar:
                buffer = _new_buffer(self.size_bytes)
                self._chunk = self._read(self._videos, buffer, device if fits_device else _CPU, bar.update)

    def __len__(self) -> int:
        return len(self.segments)

    def __repr__(self) -> str:
        return f"Split({len(self)} segments in {len(self._videos)} videos, {self.num_missing} missing)"

    def num_without_all_views(self, number: int) -> int:
        """Return how many segments have some, but not all, of the views that are read of feature set `number`."""
        views = self.sources[number].views
        return sum(len(video.index) for video in self._videos if video.views[number] != views)

    def num_without_regions(self, number: int) -> int:
        """Return how many segments have no region in any of their own steps in feature set `number`."""
        return sum(_num_without_regions(video, number) for video in self._videos)

    def chunks(self, generator: torch.Generator | None = None) -> Iterator[tuple[Chunk, torch.Tensor]]:
        """Return all segments, as chunks with the order to read each in: (S,) positions in the chunk.

        If features are not all in memory, those of a chunk are valid until the next chunk is asked for.

        Args:
            generator: draws the order, of the videos and within each chunk; without it, the order is that of the files.
        """
        for chunk in [self._chunk] if self.is_resident else self._streamed(generator):
            unshuffled = torch.arange(len(chunk))
            yield chunk, unshuffled if generator is None else torch.randperm(len(chunk), generator=generator)

    def _streamed(self, generator: torch.Generator | None) -> Iterator[Chunk]:
        """Read chunk after chunk. A thread reads the next one into one buffer while the other buffer is in use."""
        videos = self._videos
        if generator is not None:  # so that chunks hold other videos in each pass
            videos = tuple(videos[number] for number in torch.randperm(len(videos), generator=generator).tolist())
        sizes = [_size_of(video, self.sources) for video in videos]
        chunks = cut(videos, sizes, self._chunk_bytes)
        buffers = [self._buffers.take(max(self._chunk_bytes, *sizes)) for _ in range(2)]
        try:
            with ThreadPoolExecutor(1, "prefetch") as reader:
                ahead = reader.submit(self._read, chunks[0], buffers[0])
                for number, following in enumerate([*chunks[1:], None], start=1):
                    chunk = ahead.result()
                    if following is not None:
                        ahead = reader.submit(self._read, following, buffers[number % 2])
                    yield chunk
        finally:
            self._buffers.give_back(buffers)

    def _read(
        self,
        videos: Sequence[VideoLayout],
        buffer: np.ndarray,
        device: torch.device = _CPU,
        after_video: Callable[[], object] = lambda: None,
    ) -> Chunk:
        """Read the features of videos into a buffer, so that memory never holds a second copy of everything.

        Arithmetic is numpy's, not torch's. In the thread that reads ahead, torch would start OpenMP threads of its own;
        with more of them than CPUs, the training threads sleep at each wait for one another, and their small steps take
        twice as long.
        """
        features = []
        for number, source in enumerate(self.sources):
            shape = sum(len(video.windows[number].rows) for video in videos), len(source.views), source.featureset.dim
            part, buffer = np.split(buffer, [math.prod(shape)])
            features.append(part.reshape(shape))
        num_read = [0] * len(self.sources)
        for video in videos:
            for number in range(len(self.sources)):
                first, num_rows = num_read[number], len(video.windows[number].rows)
                self._reader.read(number, video, features[number][first : first + num_rows])
                num_read[number] += num_rows
            after_video()
        index = np.concatenate([video.index for video in videos])
        intervals = self.segments.table[["start_s", "stop_s"]].to_numpy()[index]
        middle_s = (intervals.sum(axis=1) / 2).astype(np.float32)
        streams = tuple(
            stream_of(videos, number, torch.from_numpy(features[number]).to(device), source)
            for number, source in enumerate(self.sources)
        )
        return Chunk(torch.from_numpy(index), torch.from_numpy(middle_s), streams, torch.from_numpy(intervals))


def cut(videos: Sequence[VideoLayout], sizes: Sequence[int], chunk_bytes: float) -> list[list[VideoLayout]]:
    """Return the videos in chunks of at most `chunk_bytes`, or of one video."""
    chunks: list[list[VideoLayout]] = []
    left = 0.0
    for video, size in zip(videos, sizes, strict=True):
        left -= size
        if left < 0:
            chunks.append([])
            left = chunk_bytes - size
        chunks[-1].append(video)
    return chunks


def _size_of(video: VideoLayout, sources: Sequence[Source]) -> int:
    pairs = zip(sources, video.windows, strict=True)
    return sum(len(windows.rows) * source.row_bytes for source, windows in pairs)


def stream_of(videos: Sequence[VideoLayout], number: int, features: torch.Tensor, source: Source) -> Stream:
    """Return the stream of several videos in one feature set; their rows come one after the other."""
    windows = [video.windows[number] for video in videos]
    bases = np.cumsum([0, *[len(window.rows) for window in windows]])

    def joined(name: str) -> torch.Tensor:
        shifted = [getattr(window, name) + base for window, base in zip(windows, bases[:-1], strict=True)]
        return torch.from_numpy(np.concatenate(shifted))

    num_segments = [len(window.first) for window in windows]
    has_view = np.array([[view in video.views[number] for view in source.views] for video in videos])
    return Stream(
        features=features,
        seconds=torch.from_numpy(np.concatenate([video.seconds[number] for video in videos]).astype(np.float32)),
        first=joined("first"),
        stop=joined("stop"),
        inner_first=joined("inner_first"),
        inner_stop=joined("inner_stop"),
        video_first=torch.from_numpy(np.repeat(bases[:-1], num_segments)),
        video_stop=torch.from_numpy(np.repeat(bases[1:], num_segments)),
        is_dense=source.is_dense,
        has_view=None if has_view.all() else torch.from_numpy(np.repeat(has_view, num_segments, axis=0)),
        has_region=_regions(videos, number, source, features.device),
    )


def _regions(videos: Sequence[VideoLayout], number: int, source: Source, device: torch.device) -> torch.Tensor | None:
    """Return which regions the rows of several videos have, in each view: (N, V, cells); None without regions.

    A copy per view, so that the index of a row in one view is that of its regions too: it is small beside features.
    """
    parts = [part for video in videos if (part := video.has_region[number]) is not None]
    if not parts:
        return None
    return torch.from_numpy(np.repeat(np.concatenate(parts)[:, None], len(source.views), axis=1)).to(device)


def _num_without_regions(video: VideoLayout, number: int) -> int:
    has_region, windows = video.has_region[number], video.windows[number]
    if has_region is None:
        return 0
    before = np.concatenate([[0], np.cumsum(has_region.any(axis=1))])  # steps with a region before each row
    return int((before[windows.inner_first] == before[windows.inner_stop]).sum())


def _new_buffer(num_bytes: float) -> np.ndarray:
    return np.empty(math.ceil(num_bytes / np.dtype(np.float16).itemsize), dtype=np.float16)


def free_bytes(device: torch.device) -> float:
    """Return the free memory of a device; for a CPU or a Mac's GPU, half of the machine's memory."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
