"""The features of a split in memory: at once where they fit, else a chunk of videos at a time. Knows no head.

A stream is what one feature set has of the split's segments.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from features.direct import FeaturesPlace, find_features, read_unchanged
from features.errors import DataError
from features.progress import progress
from features.store import read_features, video_path
from features.windows import Windows
from heads.data.layout import Layout, Source, VideoLayout

_BYTES = np.dtype(np.float16).itemsize
_NOT_FINITE = 0x7C00  # the exponent bits of a float16 that is infinite or NaN


@dataclass(frozen=True, eq=False)
class Stream:
    """The steps of a chunk's segments in one feature set.

    Attributes:
        features: (N, V, D) float16, where there is room for them.
        seconds: (N,) float32, the centre of each step in its video. As all that follows, on the CPU.
        first, stop: (S,) int64, the rows that a head sees of each segment.
        inner_first, inner_stop: (S,) int64, those of the segment itself.
        video_first, video_stop: (S,) int64, those of the segment's video.
        is_dense: whether its steps are spread over whole videos.
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


@dataclass(frozen=True, eq=False)
class Chunk:
    """Segments of a split with their features in memory.

    Attributes:
        index: (S,) int64, which segments of the split these are.
        middle_s: (S,) float32, the middle of each in its video.
    """

    index: torch.Tensor
    middle_s: torch.Tensor
    streams: tuple[Stream, ...]

    def __len__(self) -> int:
        return len(self.index)


class Split:
    """Segments with features: all in memory, on the device if they fit there, or read a chunk of videos at a time.

    Attributes:
        segments: those that have features in every stream, S of them.
        num_missing: how many segments of the annotations have not.
        sources: the feature sets.
        size_bytes: of all features.
        is_resident: whether they are all in memory.

    Args:
        memory_bytes: how much memory features may take; of a split with more, chunks of a third of that are read, since
            there are the one in use, the next one, and what reading it takes.
        rooms: for splits that are read one after the other, where the memory for chunks is kept meanwhile.

    Raises:
        DataError: a file is damaged, or features of a segment are not finite.
    """

    def __init__(
        self, layout: Layout, device: torch.device, *, memory_bytes: float, rooms: list[np.ndarray] | None = None
    ) -> None:
        self.segments, self.num_missing, self.sources = layout.segments, layout.num_missing, layout.sources
        self._parts = layout.parts
        # Where the features lie in those files of each set that were read and found sound.
        self._places: dict[tuple[int, str], FeaturesPlace | None] = {}
        self.size_bytes = sum(map(self._bytes_of, self._parts))
        self.is_resident = self.size_bytes <= memory_bytes
        if not self.is_resident:
            self._chunk_bytes = memory_bytes / 3
            self._rooms = [] if rooms is None else rooms
            return
        home = device if self.size_bytes < free_bytes(device) / 2 else torch.device("cpu")
        label = f"load {self.segments.source}"
        with progress(total=len(self._parts), unit="videos", label=label, delay_s=2) as bar:
            self._chunk = self._read(self._parts, _room(self.size_bytes), home, bar.update)

    def __len__(self) -> int:
        return len(self.segments)

    def __repr__(self) -> str:
        return f"Split({len(self)} segments in {len(self._parts)} videos, {self.num_missing} missing)"

    def chunks(self, generator: torch.Generator | None = None) -> Iterator[tuple[Chunk, torch.Tensor]]:
        """Give all segments, as chunks with the order to read each in: (S,) places in the chunk.

        Where features are not all in memory, a chunk's are there until the next one is asked for.

        Args:
            generator: draws the order, of the videos and within each chunk; without it, it is that of the files.
        """
        for chunk in self._loaded(generator):
            unshuffled = torch.arange(len(chunk))
            yield chunk, unshuffled if generator is None else torch.randperm(len(chunk), generator=generator)

    def _loaded(self, generator: torch.Generator | None) -> Iterator[Chunk]:
        if self.is_resident:
            yield self._chunk
            return
        parts = self._parts
        if generator is not None:  # other videos together each time
            parts = [parts[place] for place in torch.randperm(len(parts), generator=generator).tolist()]
        chunks = self._cut(parts)
        # Two that take turns, in every pass: memory that is new takes the system longer to give than features to read.
        most = max(self._chunk_bytes, *map(self._bytes_of, parts))
        rooms = [self._take_room(most) for _ in range(2)]
        try:
            with ThreadPoolExecutor(1, "prefetch") as reader:
                ahead = reader.submit(self._read, chunks[0], rooms[0])
                for number, following in enumerate([*chunks[1:], None], start=1):
                    chunk = ahead.result()
                    if following is not None:
                        ahead = reader.submit(self._read, following, rooms[number % 2])
                    yield chunk
        finally:
            self._rooms[:] = rooms

    def _take_room(self, num_bytes: float) -> np.ndarray:
        """Take memory for a chunk out of what is kept; another pass that goes on meanwhile has to have its own."""
        kept = self._rooms.pop() if self._rooms else _room(0)
        return kept if kept.nbytes >= num_bytes else _room(num_bytes)

    def _places_in(self, room: np.ndarray, parts: Sequence[VideoLayout]) -> list[np.ndarray]:
        """Give where in memory the features of videos go, (N, V, D) of each set."""
        found = []
        for number, source in enumerate(self.sources):
            shape = sum(len(part.windows[number].rows) for part in parts), len(source.views), source.featureset.dim
            own, room = np.split(room, [math.prod(shape)])
            found.append(own.reshape(shape))
        return found

    def _cut(self, parts: Sequence[VideoLayout]) -> list[list[VideoLayout]]:
        """Cut videos into chunks of at most `_chunk_bytes`, or of one video."""
        chunks: list[list[VideoLayout]] = []
        room = 0.0
        for part in parts:
            room -= self._bytes_of(part)
            if room < 0:
                chunks.append([])
                room = self._chunk_bytes - self._bytes_of(part)
            chunks[-1].append(part)
        return chunks

    def _bytes_of(self, part: VideoLayout) -> int:
        pairs = zip(self.sources, part.windows, strict=True)
        return sum(len(windows.rows) * source.row_bytes for source, windows in pairs)

    def _read(
        self,
        parts: Sequence[VideoLayout],
        room: np.ndarray,
        home: torch.device = torch.device("cpu"),  # noqa: B008
        each: Callable[[], object] = lambda: None,
    ) -> Chunk:
        """Read the features of videos into memory that is there: never a second copy of everything.

        Arithmetic is numpy's: torch's would start threads for the one that reads, and as soon as OpenMP has more than
        there are CPUs, those that train sleep at each wait for one another, and their small steps take twice as long.
        """
        table = self.segments.table
        index = np.concatenate([part.index for part in parts])
        middle_s = ((table.start_s.to_numpy() + table.stop_s.to_numpy())[index] / 2).astype(np.float32)
        features = self._places_in(room, parts)
        filled = [0] * len(features)
        for part in parts:
            for place in range(len(self.sources)):
                rows = part.windows[place].rows
                self._read_video(features[place][filled[place] : filled[place] + len(rows)], place, part)
                filled[place] += len(rows)
            each()
        streams = [
            _stream(parts, place, torch.from_numpy(features[place]).to(home), source.is_dense)
            for place, source in enumerate(self.sources)
        ]
        return Chunk(torch.from_numpy(index), torch.from_numpy(middle_s), tuple(streams))

    def _read_video(self, out: np.ndarray, number: int, part: VideoLayout) -> None:
        """Read a video's features in one set; a file that has not changed since it was read is not checked again."""
        source, windows, key = self.sources[number], part.windows[number], (number, part.video_id)
        place = self._places.get(key)
        if place is not None and (found := read_unchanged(place, out=out)) is not None:
            _take(found, out, source, windows.rows)
            return
        where = {"root": source.root, "video_id": part.video_id, "digest": source.featureset.digest}
        place = None if self.is_resident else find_features(**where)
        found = read_features(**where, out=out)
        num_views, dim = len(source.featureset.views), source.featureset.dim
        if found.dtype != np.float16 or found.shape[1:] != (num_views, dim) or len(found) <= windows.rows.max():
            raise DataError(
                f"{video_path(source.root, part.video_id)}: features are {found.dtype} {found.shape}, not float16 "
                f"({windows.rows.max() + 1} or more, {num_views}, {dim}); delete the file and run the extraction again."
            )
        _take(found, out, source, windows.rows)
        self._need_finite(source, part, windows, out)
        self._places[key] = place

    def _need_finite(self, source: Source, part: VideoLayout, windows: Windows, features: np.ndarray) -> None:
        bad = (features.view(np.int16) & _NOT_FINITE) == _NOT_FINITE
        if not bad.any():
            return
        row = int(np.flatnonzero(bad.any(axis=(1, 2)))[0])
        names = self.segments.narration_id[part.index[(windows.inner_first <= row) & (row < windows.inner_stop)]]
        whose = f"segment {names[0]}" if len(names) else f"step {windows.rows[row]}"
        raise DataError(
            f"{video_path(source.root, part.video_id)}: features of {whose} are not finite; delete the file and run "
            "the extraction again."
        )


def _room(num_bytes: float) -> np.ndarray:
    return np.empty(math.ceil(num_bytes / _BYTES), dtype=np.float16)


def _take(found: np.ndarray, out: np.ndarray, source: Source, rows: np.ndarray) -> None:
    """Put those rows and views that are looked at into `out`, unless what was read there is just them."""
    num_rows, num_views, _ = found.shape
    is_all = source.views == tuple(range(num_views)) and np.array_equal(rows, np.arange(num_rows))
    if found is not out or not is_all:
        out[:] = found[rows[:, None], source.views]


def _stream(parts: Sequence[VideoLayout], place: int, features: torch.Tensor, is_dense: bool) -> Stream:
    """Join what is read of several videos in one feature set; their rows stand one after the other."""
    windows = [part.windows[place] for part in parts]
    bases = np.cumsum([0, *[len(one.rows) for one in windows]])

    def joined(name: str) -> torch.Tensor:
        shifted = [getattr(one, name) + base for one, base in zip(windows, bases[:-1], strict=True)]
        return torch.from_numpy(np.concatenate(shifted))

    num_segments = [len(one.first) for one in windows]
    return Stream(
        features=features,
        seconds=torch.from_numpy(np.concatenate([part.seconds[place] for part in parts]).astype(np.float32)),
        **{name: joined(name) for name in ("first", "stop", "inner_first", "inner_stop")},
        video_first=torch.from_numpy(np.repeat(bases[:-1], num_segments)),
        video_stop=torch.from_numpy(np.repeat(bases[1:], num_segments)),
        is_dense=is_dense,
    )


def free_bytes(device: torch.device) -> float:
    """Give how much memory a device has left; of a CPU or a Mac's GPU, half of the machine's."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
