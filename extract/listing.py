"""The table of all backbones, for people and programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from extract.backbones import ALIASES, Backbone, PublishedRepo, get, names
from extract.weights.published import find_weights


@dataclass(frozen=True)
class Row:
    """What one backbone is; `Backbone` says what each field means.

    Attributes:
        side: positions of a side of the last map.
        published_as: the address of the weights, None where nobody published any.
        gated: whether one must accept a licence and log in to fetch them.
        weights_path: where they lie on this machine, None where they have not been fetched.
    """

    name: str
    aliases: tuple[str, ...]
    family: str
    pretraining: str
    clip_frames: int
    clip_fps: float | None
    steps: int
    dim: int
    side: int
    parameters: int
    gflops: float
    code_licence: str
    weights_licence: str
    published_as: str | None
    gated: bool
    weights_path: str | None
    source: str


def list_backbones(weights_dir: Path | None = None) -> list[Row]:
    """Give every backbone, and where its weights lie: in `weights_dir`, or in the libraries' own caches."""
    return [_row(get(name), weights_dir) for name in names()]


def _row(entry: Backbone, weights_dir: Path | None) -> Row:
    found = find_weights(entry, weights_dir) if entry.weights else None
    published_as = None
    if entry.weights:
        is_repo = isinstance(entry.weights, PublishedRepo)
        published_as = f"https://huggingface.co/{entry.weights.repo}" if is_repo else entry.weights.url
    return Row(
        name=entry.name,
        aliases=tuple(alias for alias, name in ALIASES.items() if name == entry.name),
        family=entry.family,
        pretraining=entry.pretraining,
        clip_frames=entry.clip.num_frames,
        clip_fps=entry.clip.fps,
        steps=entry.clip.num_steps,
        dim=entry.dim,
        side=entry.side,
        parameters=entry.parameters,
        gflops=entry.gflops,
        code_licence=entry.licence.code,
        weights_licence=entry.licence.weights,
        published_as=published_as,
        gated=getattr(entry.weights, "gated", False),
        weights_path=str(found.path) if found else None,
        source=entry.source,
    )
