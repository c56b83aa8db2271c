"""Measure what is meant to be fast, as ratios within one run: `make bench`. Nothing is asserted here.

extraction    time of `extract run` over the time of decoding the same frames alone
training      share of a training step that goes into putting its batch together
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from extract.run import extract_videos
from extract.sampling import ClipShape, plan_segments
from extract.video import decode, probe
from extract.videos import find_videos
from features.annotations import TRAIN_CSV, Segments, read_annotations, read_segments
from features.console import table
from features.store import segment_times
from heads.batches import batches, load_split
from heads.models import build_head

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from miniature import write_miniature

_CPU = torch.device("cpu")


def main() -> None:
    """Print both measurements, on the small miniature."""
    with tempfile.TemporaryDirectory() as folder:
        made = write_miniature(Path(folder) / "miniature", size="test", seed=0)
        out = Path(folder) / "features"
        annotations = read_annotations(made.annotations)
        segments = annotations.train
        decoding = seconds(lambda: decode_only(segments, made.videos))
        extracting = seconds(
            lambda: extract_videos(segments, made.videos, out, backbone="tiny_cnn", weights="random:0")
        )
        rows = [["extract tiny_cnn, over decoding alone", f"{extracting / decoding:.2f} x"]]
        split = load_split(out, read_segments(made.annotations / TRAIN_CSV), allow_missing=False, device=_CPU)
        for head in ("mean_pool", "bilstm", "multiscale_lstm"):
            rows.append([f"data path, share of a step of {head}", f"{100 * data_share(split, head):.1f} %"])
    print(table(["measured", "ratio"], rows))


def seconds(work: Callable[[], object]) -> float:
    """Give how long a piece of work takes, in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def decode_only(segments: Segments, videos: Path) -> None:
    """Decode the frames that 16 a segment want, and do nothing with them."""
    for video_id, rows in segments.by_video():
        info = probe(find_videos(videos, [video_id])[video_id])
        plan = plan_segments(info.seconds, segment_times(rows), num_frames=16, clip=ClipShape())
        for _ in decode(info, plan.wanted):
            pass


def data_share(split, head: str) -> float:
    """Give the time of putting batches together over that of whole training steps, for a head at its own size."""
    order = torch.arange(len(split)).repeat(max(1, 256 // len(split)))
    network = build_head(head, split.features.shape[1], {})

    def train() -> None:
        for batch in batches(split, order, 64):
            verb, noun = network(batch.features, batch.mask)
            (verb.logsumexp(1).mean() + noun.logsumexp(1).mean()).backward()

    train()  # the first pass allocates
    data = min(seconds(lambda: list(batches(split, order, 64))) for _ in range(3))
    return data / min(seconds(train) for _ in range(3))


if __name__ == "__main__":
    main()
