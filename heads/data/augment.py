"""Mixing segments of a batch with one another, and noise, in feature space.

Features are mixed before they are standardised. Standardising is affine in each dimension and the shares of a mixture
add up to one, so both orders give the same result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from features.device import moved
from heads.config import Augmentation
from heads.data.steps import Batch, Steps


@dataclass(frozen=True, eq=False)
class Mixture:
    """The partner that each segment is mixed with, (B,) int64, and the segment's own share, (B,) float32.

    The share is that of the segment in the values of its own steps, as they were mixed, a mean over the feature sets.
    Context steps carry no labels and do not count.
    """

    partner: torch.Tensor
    own: torch.Tensor


def augmented(batch: Batch, augmentation: Augmentation, deviations: list[torch.Tensor]) -> tuple[Batch, Mixture | None]:
    """Return a batch with its segments mixed by mixup or CutMix, and with noise, as the settings say.

    If both ways to mix are switched on, one is drawn for the batch. All random numbers but the noise come from torch's
    global generator on the CPU, so that every device draws the same.

    Args:
        batch: returned as it is if no setting is switched on.
        deviations: standard deviation of each dimension, (D,) per stream.
    """
    streams, mixture = list(batch.streams), None
    choices = [name for name in ("mixup", "cutmix") if getattr(augmentation, name)]
    if choices:
        choice = choices[int(torch.randint(len(choices), ()))] if len(choices) > 1 else choices[0]
        streams, mixture = _mixed(streams, len(batch.index), choice, getattr(augmentation, choice))
    if augmentation.noise:
        streams = [_noisy(steps, std * augmentation.noise) for steps, std in zip(streams, deviations, strict=True)]
    return (replace(batch, streams=tuple(streams)) if choices or augmentation.noise else batch), mixture


def _mixed(streams: list[Steps], num_segments: int, choice: str, alpha: float) -> tuple[list[Steps], Mixture]:
    device = streams[0].features.device
    both = torch.full((num_segments,), float(alpha))
    own = torch.distributions.Beta(both, both).sample()
    own = torch.maximum(own, 1 - own)  # a segment keeps the larger share, so that its length and times are right
    start = torch.rand(num_segments) * own
    # Together, as each copy is waited for on MPS; numbers of segments are exact in float32.
    partner, own, start = moved(torch.stack([torch.randperm(num_segments).float(), own, start]), device)
    partner = partner.long()
    if choice == "mixup":
        mixed = [_mixed_up(steps, partner, own) for steps in streams]
    else:
        mixed = [_cut_in(steps, partner, own, start) for steps in streams]
    return [steps for steps, _ in mixed], Mixture(partner, torch.stack([share for _, share in mixed]).mean(dim=0))


def _mixed_up(steps: Steps, partner: torch.Tensor, own: torch.Tensor) -> tuple[Steps, torch.Tensor]:
    """Return steps averaged with those of the partner (Zhang et al., ICLR 2018), and the segment's own share in them.

    The first step of a segment is averaged with the first one of its partner, and so on; so is the context before,
    counted back from the segment's first step, and the context after, counted from its end. Where the partner has no
    such step, the step stays as it is, and the segment's own share is the larger for it. Like its length and times, its
    regions stay those of the segment: it has the larger share.
    """
    rows, has_partner = _partner_rows(steps, partner)
    num_segments, longest, dim = steps.features.shape
    flat = (partner[:, None] * longest + rows).flatten()
    taken = steps.features.reshape(-1, dim).index_select(0, flat).view(num_segments, longest, dim)
    partners = torch.where(has_partner.unsqueeze(-1), taken, steps.features)
    features = torch.lerp(partners.float(), steps.features.float(), own[:, None, None])
    share_mixed = (has_partner & steps.within).sum(dim=1) / steps.within.sum(dim=1)
    return steps._replace(features=features), torch.lerp(torch.ones_like(own), own, share_mixed)


def _partner_rows(steps: Steps, partner: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which of the partner's steps each step is mixed with, (B, T) int64, and whether there is one, (B, T)."""
    longest = steps.mask.shape[1]
    first = steps.within.int().argmax(dim=1)
    stop = first + steps.within.sum(dim=1)
    step = torch.arange(longest, device=first.device)
    is_after = step >= stop[:, None]
    rows = step + torch.where(is_after, (stop[partner] - stop)[:, None], (first[partner] - first)[:, None])
    is_there = (rows >= 0) & (rows < longest)
    rows = rows.clamp(0, longest - 1)
    is_there &= steps.mask[partner].gather(1, rows) & (steps.within[partner].gather(1, rows) == steps.within)
    return rows, is_there


def _cut_in(steps: Steps, partner: torch.Tensor, own: torch.Tensor, start: torch.Tensor) -> tuple[Steps, torch.Tensor]:
    """Return steps with a span replaced by the same span of the partner, and the share of its own steps that is left.

    Yun et al., "CutMix", ICCV 2019, along time instead of in the image. The context stays. Regions go with their steps.
    """
    count = steps.within.sum(dim=1)
    first = steps.within.int().argmax(dim=1)
    number = torch.arange(steps.mask.shape[1], device=count.device) - first[:, None]  # among the segment's own steps
    time = (number + 0.5) / count[:, None]  # from 0 to 1 over the segment
    cut = steps.within & (time >= start[:, None]) & (time < (start + 1 - own)[:, None])
    source = first[partner, None] + (time * count[partner, None]).long()
    rows = torch.where(cut, source, 0)

    def replaced(values: torch.Tensor) -> torch.Tensor:
        taken = values[partner].gather(1, rows.unsqueeze(-1).expand_as(values))
        return torch.where(cut.unsqueeze(-1), taken, values)

    has_region = None if steps.has_region is None else replaced(steps.has_region)
    return steps._replace(features=replaced(steps.features), has_region=has_region), 1 - cut.sum(dim=1) / count


def _noisy(steps: Steps, std: torch.Tensor) -> Steps:
    features = steps.features.float()
    return steps._replace(features=features + std * torch.randn_like(features))
