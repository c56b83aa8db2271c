"""Measure what is meant to be fast, as ratios within one run: `make bench`. Nothing is asserted here.

Extraction (benchmarks/extraction.py) goes to results/extract.json and results/extract.png; of training, the share of a
step that goes into putting its batch together is printed.
"""

from __future__ import annotations

import os

# As the command line does, and before torch is loaded: its threads would else wait by spinning, on cores that decode.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import json
import platform
import sys
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from extraction import REGIMES, RESULTS, Regime, Result, measure, seconds
from plot import draw

from extract.decoders import num_workers_for
from extract.run import extract_videos
from features.annotations import TRAIN_CSV, read_annotations, read_segments
from features.console import table
from heads.batches import batches, load_split
from heads.models import build_head

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from miniature import write_miniature

_CPU = torch.device("cpu")


def main() -> None:
    """Measure extraction, then training; regimes may be named by their first words as arguments."""
    chosen = tuple(regime for regime in REGIMES if not sys.argv[1:] or regime.name.startswith(tuple(sys.argv[1:])))
    results = measure(chosen)
    print(extraction_table(results))
    write_results(chosen, results)
    print()
    print(training_table())


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


def training_table() -> str:
    """Measure the data path's share of a training step, on the small miniature."""
    with tempfile.TemporaryDirectory() as folder:
        made = write_miniature(Path(folder) / "miniature", size="test", seed=0)
        out = Path(folder) / "features"
        extract_videos(
            read_annotations(made.annotations).train, made.videos, out, backbone="tiny_cnn", weights="random:0"
        )
        split = load_split(out, read_segments(made.annotations / TRAIN_CSV), allow_missing=False, device=_CPU)
        rows = [
            [f"data path, share of a step of {head}", f"{100 * data_share(split, head):.1f} %"]
            for head in ("mean_pool", "bilstm", "multiscale_lstm")
        ]
    return table(["training", "share"], rows)


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
