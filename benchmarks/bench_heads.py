"""Measure training, as ratios within one run: `make bench`, or `python benchmarks/bench_heads.py [HEAD ...]`.

Nothing is asserted. The figures of one run (benchmarks/training.py), of several runs per pass
(benchmarks/together.py) go to results/heads.json, and so do those of windows that segments share
(benchmarks/windows.py). This script and bench_extract.py are two, because torch's threads
wait for each other in different ways in extraction and in training.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import torch
from record import HERE, RESULTS, write_record
from together import NUM_RUNS, TogetherResult, measure_together
from training import HeadResult, measure_heads
from windows import WindowsResult, measure_windows

from features.console import table
from heads.models.catalogue import is_fitted, names, reads_windows


def main() -> None:
    """Measure training on each device of this machine. Arguments name heads; without any, all are measured."""
    trained_heads = [name for name in names() if not is_fitted(name)]
    if unknown := set(sys.argv[1:]) - set(trained_heads):
        sys.exit(f"There is no trained head {' or '.join(sorted(unknown))}; there are {', '.join(trained_heads)}.")
    heads = sys.argv[1:] or trained_heads
    for device in devices():
        by_segment = [head for head in heads if not reads_windows(head)]
        if by_segment:
            trained = measure_heads(HERE / "data", device, by_segment)
            print(training_table(trained))
            write_head_results("heads", trained)
            together = measure_together(HERE / "data", device, by_segment)
            print(together_table(together))
            write_head_results("together", together)
        if len(by_segment) < len(heads):
            shared = measure_windows(HERE / "data", device)
            print(windows_table(shared))
            write_head_results("windows", shared)


def devices() -> list[torch.device]:
    """Return the devices of this machine."""
    there = {"cpu": True, "mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available()}
    return [torch.device(name) for name, is_there in there.items() if is_there]


def training_table(results: list[HeadResult]) -> str:
    """Return a table of the seconds that an epoch of 67,217 segments takes."""
    header = ["an epoch of", "device", "s", "data path", "bfloat16", "streamed", "DataLoader over HDF5"]
    rows = [
        [
            one.head,
            one.device,
            f"{one.epoch_s:.1f}",
            f"{one.data_share:.1%}",
            "none" if one.bfloat16_s is None else f"{one.bfloat16_s / one.in_place_s:.2f} x",
            f"{one.streamed_s / one.epoch_s:.2f} x",
            f"{one.dataloader_s / one.epoch_s:.2f} x",
        ]
        for one in results
    ]
    return table(header, rows)


def together_table(results: list[TogetherResult]) -> str:
    """Return a table of what one pass for several runs gains."""
    header = [f"an epoch of {NUM_RUNS} runs of", "device", "each alone, s", "together, s", "gain", "data path"]
    rows = [
        [
            one.head,
            one.device,
            f"{one.alone_s:.1f}",
            f"{one.together_s:.1f}",
            f"{one.gain:.2f} x",
            f"{one.data_s / one.together_s:.1%}",
        ]
        for one in results
    ]
    return table(header, rows)


def windows_table(results: list[WindowsResult]) -> str:
    """Return a table of what windows that segments share gain over a window for each segment."""
    header = ["windows of 20 s", "device", "segments per second", "steps per segment", "as many as the first"]
    rows = [
        [
            one.head,
            one.device,
            f"{one.segments_per_s:.0f}",
            f"{one.steps:.0f}",
            f"{one.segments_per_s / results[0].segments_per_s:.2f} x",
        ]
        for one in results
    ]
    return table(header, rows)


def write_head_results(kind: str, results: list[HeadResult] | list[TogetherResult] | list[WindowsResult]) -> None:
    """Write the figures with a description of the machine; figures of heads that were not measured stay."""
    path = RESULTS / "heads.json"
    earlier = json.loads(path.read_text()) if path.is_file() else {}
    measured = {f"{one.head} on {one.device}": asdict(one) for one in results}
    kept = {name: earlier.get(name, {}) for name in ("heads", "together", "windows")}
    write_record(path, {**kept, kind: {**kept[kind], **measured}})


if __name__ == "__main__":
    main()
