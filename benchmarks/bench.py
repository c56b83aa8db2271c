"""Measure what is meant to be fast, as ratios within one run: `make bench`. Nothing is asserted here.

Extraction (benchmarks/extraction.py) goes to results/extract.json and results/extract.png, training
(benchmarks/training.py) to results/heads.json.
"""

from __future__ import annotations

import os

# As the command line does, and before torch is loaded: its threads would else wait by spinning, on cores that decode.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import json
import platform
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from extraction import HERE, REGIMES, RESULTS, Regime, Result, measure
from plot import draw
from together import NUM_RUNS, TogetherResult, measure_together
from training import HeadResult, measure_heads

from extract.decoders import num_workers_for
from features.console import table
from heads.models import names


def main() -> None:
    """Measure extraction, then training; regimes, by their first words, and heads may be named as arguments."""
    named = tuple(sys.argv[1:])
    chosen = tuple(regime for regime in REGIMES if not named or regime.name.startswith(named))
    if chosen:
        results = measure(chosen)
        print(extraction_table(results))
        write_results(chosen, results)
    for device in devices():
        heads = [head for head in names() if not named or head in named]
        trained = measure_heads(HERE / "data", device, heads) if heads else []
        if trained:
            print(training_table(trained))
            write_head_results("heads", trained)
            together = measure_together(HERE / "data", device, heads)
            print(together_table(together))
            write_head_results("together", together)


def devices() -> list[torch.device]:
    """Give the devices that this machine has."""
    there = {"cpu": True, "mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available()}
    return [torch.device(name) for name, is_there in there.items() if is_there]


def extraction_table(results: list[Result]) -> str:
    """Lay out what extraction took; the alternatives as multiples of the pipeline's time."""

    def over(result: Result, alternative: float | None) -> str:
        return "not installed" if alternative is None else f"{alternative / result.pipeline_s:.2f} x"

    header = ["extraction", "D s", "B s", "pipeline s", "/ floor", "PyAV a segment", "torchcodec a segment"]
    rows = [
        [
            f"{result.backbone}, {result.regime}",
            f"{result.decode_floor_s:.2f}",
            f"{result.backbone_floor_s:.2f}",
            f"{result.pipeline_s:.2f}",
            f"{result.pipeline_over_floor:.2f}",
            over(result, result.pyav_s),
            over(result, result.torchcodec_s),
        ]
        for result in results
    ]
    return table(header, rows)


def write_results(chosen: tuple[Regime, ...], results: list[Result]) -> None:
    """Keep the figures with what they were measured on; those of regimes that were not measured stay."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "extract.json"
    earlier = json.loads(path.read_text())["regimes"] if path.is_file() and chosen != REGIMES else {}
    regimes = {**earlier, **{result.regime: asdict(result) for result in results}}
    record = {"command": "make bench", "when": time.strftime("%Y-%m-%d"), "machine": machine(), "regimes": regimes}
    path.write_text(json.dumps(record, indent=2) + "\n")
    draw(regimes, RESULTS / "extract.png")


def machine() -> dict[str, object]:
    """Describe what figures are measured on."""
    cpu = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cpus": num_workers_for(None),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "av")},
    }


def training_table(results: list[HeadResult]) -> str:
    """Lay out what an epoch of 67,217 segments takes."""
    header = ["an epoch of", "device", "s", "data path", "bfloat16", "streamed", "DataLoader over HDF5"]
    rows = [
        [
            one.head,
            one.device,
            f"{one.epoch_s:.1f}",
            f"{one.data_share:.1%}",
            f"{one.bfloat16_s / one.in_place_s:.2f} x",
            f"{one.streamed_s / one.epoch_s:.2f} x",
            f"{one.dataloader_s / one.epoch_s:.2f} x",
        ]
        for one in results
    ]
    return table(header, rows)


def together_table(results: list[TogetherResult]) -> str:
    """Lay out what one pass for several runs gains."""
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


def write_head_results(kind: str, results: list[HeadResult] | list[TogetherResult]) -> None:
    """Keep the figures of heads with what they were measured on; those of heads that were not measured stay."""
    path = RESULTS / "heads.json"
    earlier = json.loads(path.read_text()) if path.is_file() else {}
    measured = {f"{one.head} on {one.device}": asdict(one) for one in results}
    kept = {name: earlier.get(name, {}) for name in ("heads", "together")}
    kept[kind] = {**kept[kind], **measured}
    record = {"command": "make bench", "when": time.strftime("%Y-%m-%d"), "machine": machine(), **kept}
    path.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
