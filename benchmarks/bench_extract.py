"""Measure extraction, as ratios within one run: `make bench`, or `python benchmarks/bench_extract.py [REGIME ...]`.

Nothing is asserted. The figures of benchmarks/extraction.py go to results/extract.json and results/extract.png.
"""

from __future__ import annotations

import os

# As the command line does, before torch is loaded. Otherwise torch's idle threads spin on cores that decode.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import json
import sys
from dataclasses import asdict

from extraction import REGIMES, Regime, Result, measure
from plot import draw
from record import RESULTS, write_record

from features.console import table


def main() -> None:
    """Measure extraction. Arguments name regimes, by their first words; without any, all are measured."""
    named = tuple(sys.argv[1:])
    chosen = tuple(regime for regime in REGIMES if not named or regime.name.startswith(named))
    if not chosen:
        sys.exit(f"No regime begins with {' or '.join(named)}; there are {'; '.join(one.name for one in REGIMES)}.")
    results = measure(chosen)
    print(extraction_table(results))
    write_results(chosen, results)


def extraction_table(results: list[Result]) -> str:
    """Return a table of seconds; the alternatives are multiples of the pipeline's time."""

    def over(result: Result, alternative: float | None) -> str:
        if result.num_views > 1 or result.whole_frames_s is not None:
            return "one view of whole frames only"
        return "not installed" if alternative is None else f"{alternative / result.pipeline_s:.2f} x"

    header = [
        "extraction",
        "D s",
        "B s",
        "pipeline s",
        "/ floor",
        "/ whole frames",
        "PyAV a segment",
        "torchcodec a segment",
    ]
    rows = [
        [
            f"{result.backbone}, {result.regime}",
            f"{result.decode_floor_s:.2f}",
            f"{result.backbone_floor_s:.2f}",
            f"{result.pipeline_s:.2f}",
            f"{result.pipeline_over_floor:.2f}",
            "" if result.whole_frames_s is None else f"{result.pipeline_s / result.whole_frames_s:.2f}",
            over(result, result.pyav_s),
            over(result, result.torchcodec_s),
        ]
        for result in results
    ]
    return table(header, rows)


def write_results(chosen: tuple[Regime, ...], results: list[Result]) -> None:
    """Write the figures with a description of the machine; figures of regimes that were not measured stay."""
    path = RESULTS / "extract.json"
    earlier = json.loads(path.read_text())["regimes"] if path.is_file() and chosen != REGIMES else {}
    regimes = {**earlier, **{result.regime: asdict(result) for result in results}}
    write_record(path, {"regimes": regimes})
    draw(regimes, RESULTS / "extract.png")


if __name__ == "__main__":
    main()
