"""Mixing segments of a batch with one another, and noise, in feature space.

Features are mixed before they are standardised. Standardising is affine in each dimension and the shares of a mixture
add up to one, so both orders give the same result.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from heads.config import Augmentation
from heads.data.batches import Batch
from heads.data.steps import Steps


@dataclass(frozen=True, eq=False)
class Mixture:
    """The partner that each segment is mixed with, (B,) int64, and the segment's own share, (B,) float32."""

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
    return (Batch(tuple(streams), batch.index) if choices or augmentation.noise else batch), mixture


def _mixed(streams: list[Steps], num_segments: int, choice: str, alpha: float) -> tuple[list[Steps], Mixture]:
    device = streams[0].features.device
    both = torch.full((num_segments,), float(alpha))
    own = torch.distributions.Beta(both, both).sample()
    own = torch.maximum(own, 1 - own)  # a segment keeps the larger share, so that its length and times are right
    start = torch.rand(num_segments) * own
    partner, own, start = (tensor.to(device) for tensor in (torch.randperm(num_segments), own, start))
    if choice == "mixup":
        return [_mixed_up(steps, partner, own) for steps in streams], Mixture(partner, own)
    cut = [_cut_in(steps, partner, own, start) for steps in streams]
    return [steps for steps, _ in cut], Mixture(partner, torch.stack([kept for _, kept in cut]).mean(dim=0))


def _mixed_up(steps: Steps, partner: torch.Tensor, own: torch.Tensor) -> Steps:
    """Return steps averaged with the partner's steps of the same position, if any (Zhang et al., ICLR 2018)."""
    partners = torch.where(steps.mask[partner].unsqueeze(-1), steps.features[partner], steps.features)
    return steps._replace(features=torch.lerp(partners.float(), steps.features.float(), own[:, None, None]))


def _cut_in(steps: Steps, partner: torch.Tensor, own: torch.Tensor, start: torch.Tensor) -> tuple[Steps, torch.Tensor]:
    """Return steps with a span replaced by the same span of the partner, and the share of its own steps that is left.

    Yun et al., "CutMix", ICCV 2019, along time instead of in the image. The context stays.
    """
    count = steps.within.sum(dim=1)
    first = steps.within.int().argmax(dim=1)
    number = torch.arange(steps.mask.shape[1], device=count.device) - first[:, None]  # among the segment's own steps
    time = (number + 0.5) / count[:, None]  # from 0 to 1 over the segment
    cut = steps.within & (time >= start[:, None]) & (time < (start + 1 - own)[:, None])
    source = first[partner, None] + (time * count[partner, None]).long()
    rows = torch.where(cut, source, 0)
    taken = steps.features[partner].gather(1, rows.unsqueeze(-1).expand_as(steps.features))
    features = torch.where(cut.unsqueeze(-1), taken, steps.features)
    return steps._replace(features=features), 1 - cut.sum(dim=1) / count


def _noisy(steps: Steps, std: torch.Tensor) -> Steps:
    features = steps.features.float()
    return steps._replace(features=features + std * torch.randn_like(features))
