"""THE registry of losses: logits (B, K) and labels (B,) of one task -> the loss of each segment, (B,).

Contract: a loss is made as loss(counts, config), where counts (K,) int64 says how often each class stands in the
training segments, and forward(logits (B, K) float32, labels (B,) int64, done) gives (B,) float32. `done` is the share
of training that is over, from 0 to 1. What a loss derives from the counts is a buffer, so that it moves with its
device. A segment's loss depends on no other row, and no value of a tensor decides what is computed, so that
torch.func.vmap can carry a loss over several heads. Loss and gradient are finite for logits within 1e4 and for classes
of count 0. Mixup needs nothing of its own: share * loss(logits, labels) + (1 - share) * loss(logits, other_labels).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from heads.losses.class_counts import effective_number_weights, inverse_sqrt_weights, log_prior
from heads.registry import Registry, Spec, need_between, need_probability

_LOSSES = Registry("loss", option="--loss", set_option="--loss")
register, names, get, loss_config = _LOSSES.register, _LOSSES.names, _LOSSES.get, _LOSSES.config
parse_loss, loss_text, describe_losses = _LOSSES.parse_spec, _LOSSES.text, _LOSSES.describe


def build_loss(spec: Spec, counts: torch.Tensor) -> nn.Module:
    """Build a loss for one task, on the CPU.

    Args:
        spec: what parse_loss gives.
        counts: (K,) int64, how often each class of the task stands in the training segments.
    """
    entry = get(spec.name)
    return entry.build(counts, entry.config(**spec.options))


def _is_label(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Give (B, K) bool, true at each row's label."""
    return labels[:, None] == torch.arange(logits.shape[1], device=logits.device)


# ---- cross-entropy, and what changes the share of hard segments


@dataclass(frozen=True)
class CrossEntropyConfig:
    """smoothing: share of the target that is spread evenly over all classes (Szegedy et al., CVPR 2016)."""

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        need_probability(self, "smoothing")


@register("ce", CrossEntropyConfig)
class CrossEntropy(nn.Module):
    """Cross-entropy, with label smoothing. Counts play no part."""

    def __init__(self, counts: torch.Tensor, config: CrossEntropyConfig) -> None:
        super().__init__()
        self.smoothing = config.smoothing

    def forward(self, logits: torch.Tensor, labels: torch.Tensor, done: float) -> torch.Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing, reduction="none")


@dataclass(frozen=True)
class FocalConfig:
    """Options of the focal loss.

    Attributes:
        gamma: how much less a segment counts that is recognised already; 0 is cross-entropy.
        alpha: a factor on the whole loss, the same for every class. In the paper it weighs objects against background,
            and a softmax over classes has no background; weights by class are what `cb` and `inv_sqrt` are for.
    """

    gamma: float = 2.0
    alpha: float = 1.0

    def __post_init__(self) -> None:
        need_between(self, 0, 100, "gamma")
        need_between(self, 0.001, 1000, "alpha")


@register("focal", FocalConfig)
class Focal(nn.Module):
    """alpha (1 - p)^gamma (-log p), p the softmax probability of the label. Counts play no part.

    Lin et al., "Focal loss for dense object detection", ICCV 2017, in the softmax form that is usual for one label of
    K; `sigmoid_focal` is the paper's own.
    """

    def __init__(self, counts: torch.Tensor, config: FocalConfig) -> None:
        super().__init__()
        self.gamma, self.alpha = config.gamma, config.alpha

    def forward(self, logits: torch.Tensor, labels: torch.Tensor, done: float) -> torch.Tensor:
        log_p = logits.log_softmax(dim=1)
        # log(1 - p), from the other classes. For gamma below 1 the slope of (1 - p)^gamma has no bound at p = 1, and
        # autograd multiplies it by a slope of 0: NaN. This way it never leaves the logarithm.
        log_miss = log_p.masked_fill(_is_label(logits, labels), -math.inf).logsumexp(dim=1)
        return self.alpha * (self.gamma * log_miss).exp() * -log_p.gather(1, labels[:, None])[:, 0]


@dataclass(frozen=True)
class SigmoidFocalConfig:
    """Options of the sigmoid focal loss; the defaults are the paper's.

    Attributes:
        gamma: how much less a class counts that is told already; 0 is binary cross-entropy.
        alpha: weight of the label, 1 - alpha that of each other class; -1 weighs all by 1.
        prior: probability of every class where all logits are 0, as they nearly are before training. At 0.5 the many
            other classes would make up the whole loss at first; the paper sets the last layer's bias against that.
    """

    gamma: float = 2.0
    alpha: float = 0.25
    prior: float = 0.01

    def __post_init__(self) -> None:
        need_between(self, 0, 100, "gamma")
        if self.alpha != -1 and not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}, not from 0 to 1, nor -1 for none.")
        need_between(self, 1e-6, 0.999999, "prior")


@register("sigmoid_focal", SigmoidFocalConfig)
class SigmoidFocal(nn.Module):
    """Binary focal loss of each class against all others, summed over the classes. Counts play no part.

    Lin et al., "Focal loss for dense object detection", ICCV 2017 (RetinaNet). The bias that makes `prior` true is
    added here and not in the head: it is the same for all classes, so the softmax that scores predictions does not see
    it. That softmax keeps the order of the classes, but its probabilities are not those that were trained, and average
    badly with another head's.
    """

    def __init__(self, counts: torch.Tensor, config: SigmoidFocalConfig) -> None:
        super().__init__()
        self.gamma = config.gamma
        self.label_weight, self.other_weight = (config.alpha, 1 - config.alpha) if config.alpha != -1 else (1.0, 1.0)
        self.bias = math.log(config.prior / (1 - config.prior))

    def forward(self, logits: torch.Tensor, labels: torch.Tensor, done: float) -> torch.Tensor:
        is_label = _is_label(logits, labels)
        logits = logits + self.bias
        log_right = F.logsigmoid(torch.where(is_label, logits, -logits))
        log_wrong = F.logsigmoid(torch.where(is_label, -logits, logits))
        losses = (self.gamma * log_wrong).exp() * -log_right  # (B, K)
        weights = torch.full_like(losses, self.other_weight).masked_fill(is_label, self.label_weight)
        return (losses * weights).sum(dim=1)


# ---- weights by class


class _Weighted(nn.Module):
    """Cross-entropy of each segment, times the weight of its label.

    Label smoothing smooths the target first: the weight is the segment's. (torch's cross_entropy instead gives each
    class's share of the smoothed target that class's weight, so that the rarest classes, weights in the hundreds, get
    most of it in every segment.)
    """

    def __init__(self, weights: torch.Tensor, smoothing: float) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        self.smoothing = smoothing

    def forward(self, logits: torch.Tensor, labels: torch.Tensor, done: float) -> torch.Tensor:
        loss = F.cross_entropy(logits, labels, label_smoothing=self.smoothing, reduction="none")
        return loss * self.weights[labels]


@register("inv_sqrt", CrossEntropyConfig)
class InverseSqrt(_Weighted):
    """Cross-entropy weighted by count^(-1/2) of the label; the mean weight over the training segments is 1.

    The same learning rate so suits it and `ce`, which it is where all counts are equal. A class of count 0 is the label
    of no training segment: its weight, that of count 1, is never used in training.
    """

    def __init__(self, counts: torch.Tensor, config: CrossEntropyConfig) -> None:
        super().__init__(inverse_sqrt_weights(counts), config.smoothing)


@dataclass(frozen=True)
class ClassBalancedConfig:
    """Options of the class-balanced loss.

    Attributes:
        beta: of the effective number of segments, (1 - beta^n) / (1 - beta): beyond 1 / (1 - beta) segments a class
            gains little more. 0 is cross-entropy; towards 1 the weights become inverse counts.
        smoothing: as in `ce`.
    """

    beta: float = 0.999
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        need_probability(self, "beta", "smoothing")


@register("cb", ClassBalancedConfig)
class ClassBalanced(_Weighted):
    """Cross-entropy weighted by the inverse effective number of the label's segments.

    Cui et al., "Class-balanced loss based on effective number of samples", CVPR 2019; weights are scaled so that their
    mean over the training segments is 1, not over the classes (heads/losses/class_counts.py says why). A class of
    count 0 is the label of no training segment: its weight, that of count 1, is never used in training.
    """

    def __init__(self, counts: torch.Tensor, config: ClassBalancedConfig) -> None:
        super().__init__(effective_number_weights(counts, config.beta), config.smoothing)


# ---- priors and margins in the logits


@dataclass(frozen=True)
class LogitAdjustedConfig:
    """tau: how much of the log prior is added; 0 is cross-entropy, 1 aims at the mean accuracy over classes."""

    tau: float = 1.0

    def __post_init__(self) -> None:
        need_between(self, 0, 100, "tau")


@register("logit_adjusted", LogitAdjustedConfig)
class LogitAdjusted(nn.Module):
    """Cross-entropy of logits + tau * log prior: what the prior says, the logits need not.

    Menon et al., "Long-tail learning via logit adjustment", ICLR 2021. A class of count 0 is taken as shown once, so it
    stays in the softmax, where the paper's prior of 0 would take it out.
    """

    def __init__(self, counts: torch.Tensor, config: LogitAdjustedConfig) -> None:
        super().__init__()
        self.register_buffer("adjustment", config.tau * log_prior(counts))

    def forward(self, logits: torch.Tensor, labels: torch.Tensor, done: float) -> torch.Tensor:
        return F.cross_entropy(logits + self.adjustment, labels, reduction="none")


@dataclass(frozen=True)
class BalancedSoftmaxConfig:
    """No options."""


@register("balanced_softmax", BalancedSoftmaxConfig)
class BalancedSoftmax(LogitAdjusted):
    """Cross-entropy of a softmax in which each class stands as often as in training.

    Ren et al., "Balanced meta-softmax for long-tailed visual recognition", NeurIPS 2020, without its meta sampler. It
    is `logit_adjusted` at tau = 1, so a class of count 0 is taken as shown once.
    """

    def __init__(self, counts: torch.Tensor, config: BalancedSoftmaxConfig) -> None:
        super().__init__(counts, LogitAdjustedConfig(tau=1.0))


@dataclass(frozen=True)
class LdamConfig:
    """Options of LDAM.

    Attributes:
        max_margin: of the rarest class, in units of the logits; others have less, by count^(-1/4).
        scale: factor on the logits after the margin; 1 leaves them to softmax as they will be scored.
        defer: share of training after which weights begin; the paper's is 160 of 200 epochs.
        beta: of these weights, as in `cb`.
    """

    max_margin: float = 0.5
    scale: float = 1.0
    defer: float = 0.8
    beta: float = 0.9999

    def __post_init__(self) -> None:
        need_between(self, 0, 100, "max_margin")
        need_between(self, 0.01, 100, "scale")
        need_between(self, 0, 1, "defer")
        need_probability(self, "beta")


@register("ldam", LdamConfig)
class Ldam(nn.Module):
    """Cross-entropy of scale * (logits, less the label's margin); late in training weighted as in `cb`.

    Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019. Departures:
    - Theirs has a cosine classifier, logits in [-1, 1], and so scale 30 and a margin of 0.5. Ours takes any head's
      logits, which grow as they need to: the default scale is 1, so that softmax reads them as trained. A margin of 0.5
      is then a gentle one, and the weights do most of the work.
    - Weights have a mean of 1 over the training segments, and are not divided by their sum in the batch.
    A class of count 0 is the label of no training segment: its margin, max_margin, and its weight, that of count 1, are
    never used in training.
    """

    def __init__(self, counts: torch.Tensor, config: LdamConfig) -> None:
        super().__init__()
        self.scale, self.defer = config.scale, config.defer
        rarest = counts[counts > 0].min()
        self.register_buffer("margins", config.max_margin * (rarest / counts.clamp(min=rarest)) ** 0.25)
        self.register_buffer("weights", effective_number_weights(counts, config.beta))

    def forward(self, logits: torch.Tensor, labels: torch.Tensor, done: float) -> torch.Tensor:
        less_margin = logits - self.margins * _is_label(logits, labels)
        loss = F.cross_entropy(self.scale * less_margin, labels, reduction="none")
        return loss * self.weights[labels] if done >= self.defer else loss
