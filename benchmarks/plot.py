"""Draw the figures of extraction that `make bench` measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Okabe and Ito's colours, which colour-blind people can tell apart.
_DECODE, _BACKBONE, _OURS, _OTHERS = "#0072B2", "#E69F00", "#009E73", "#999999"


def draw(regimes: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw a row of bars per regime: the floor, the pipeline, and each alternative, as multiples of the floor."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, every = plt.subplots(len(regimes), 1, figsize=(8, 1.2 + 1.5 * len(regimes)), sharex=True, squeeze=False)
    for axes, (name, result) in zip(every[:, 0], regimes.items(), strict=True):
        floor = result["floor_s"]
        decode, backbone = result["decode_floor_s"] / floor, result["backbone_floor_s"] / floor
        axes.barh("floor", decode, color=_DECODE, label="decode")
        axes.barh("floor", backbone, left=decode, color=_BACKBONE, label="backbone")
        bars = {"pipeline": result["pipeline_s"], "PyAV": result["pyav_s"], "torchcodec": result["torchcodec_s"]}
        for label, taken in bars.items():
            if taken is not None:
                axes.barh(label, taken / floor, color=_OURS if label == "pipeline" else _OTHERS)
                axes.text(taken / floor, label, f" {taken / floor:.2f}", va="center")
        axes.axvline(1, color="black", linewidth=0.8)
        axes.invert_yaxis()
        axes.set_title(f"{result['backbone']}, {name} a segment ({floor:.1f} s at the floor)", loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.12)
    every[0, 0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=9)
    every[-1, 0].set_xlabel("time / floor; PyAV and torchcodec read each segment by itself")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
