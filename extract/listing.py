"""The table of all backbones, for people and programs. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from extract.backbones import ALIASES, Backbone, PublishedPage, get, names
from extract.weights.published import find_weights


@dataclass(frozen=True)
class BackboneRow:
    """One backbone in the table; the fields mean what they mean in `Backbone` and its `ClipShape`.

    Attributes:
        published_as: the address of the weights; None if nobody published any.
        gated: whether a user must accept a licence and log in to fetch them.
        by_hand: whether the weights have to be downloaded from a page.
        weights_path: where the weights lie on this machine; None if they have not been fetched.
    """

    name: str
    aliases: tuple[str, ...]
    family: str
    pretraining: str
    clip_frames: int
    clip_fps: float | None
    clip_spread: bool
    steps: int
    dim: int
    side: int
    class_token: bool
    num_layers: int
    tokens: str
    parameters: int
    gflops: float
    code_licence: str
    weights_licence: str
    published_as: str | None
    gated: bool
    by_hand: bool
    weights_path: str | None
    source: str
    seen_of_epic: str


def list_backbones(weights_dir: Path | None = None) -> list[BackboneRow]:
    """Return every backbone, and where its weights lie: in `weights_dir`, or in the libraries' own caches."""
    return [_row(get(name), weights_dir) for name in names()]


def _row(entry: Backbone, weights_dir: Path | None) -> BackboneRow:
    local = find_weights(entry, weights_dir) if entry.weights else None
    return BackboneRow(
        name=entry.name,
        aliases=tuple(alias for alias, name in ALIASES.items() if name == entry.name),
        family=entry.family,
        pretraining=entry.pretraining,
        clip_frames=entry.clip.num_frames,
        clip_fps=entry.clip.fps,
        clip_spread=entry.clip.spread,
        steps=entry.clip.num_steps,
        dim=entry.dim,
        side=entry.side,
        class_token=entry.class_token,
        num_layers=entry.num_layers,
        tokens=entry.tokens,
        parameters=entry.parameters,
        gflops=entry.gflops,
        code_licence=entry.licence.code,
        weights_licence=entry.licence.weights,
        published_as=entry.weights.address if entry.weights else None,
        gated=entry.weights.gated if entry.weights else False,
        by_hand=isinstance(entry.weights, PublishedPage),
        weights_path=str(local.path) if local else None,
        source=entry.source,
        seen_of_epic=entry.seen_of_epic,
    )
