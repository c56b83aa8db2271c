"""All losses of one task: logits (B, K) and labels (B,) -> the loss of each segment, (B,). Loads no torch.

Each entry has a name, a record of options, and a function that imports the loss (heads/losses/tasks.py) and builds it.
The first line of the function's docstring is what `heads list` prints. To add a loss, write it in tasks.py and add an
entry here.

Contract: a loss is built as loss(counts, config), where counts (K,) int64 says how often each class occurs in the
training segments. forward(logits (B, K) float32, labels (B,) int64, progress) gives (B,) float32. `progress` is the
share of training that is over, from 0 to 1. What a loss derives from the counts is a buffer, so that it moves with its
device. A segment's loss depends on no other row. Loss and gradient are finite for logits within 1e4 and for classes of
count 0. Mixup needs nothing of its own: share * loss(logits, labels) + (1 - share) * loss(logits, other_labels).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from heads.registry import Registry, Spec, need_between, need_probability

if TYPE_CHECKING:
    import torch
    from torch import nn

_LOSSES = Registry("loss", option="--loss", set_option="--loss")
register, names, get, loss_config = _LOSSES.register, _LOSSES.names, _LOSSES.get, _LOSSES.config
parse_loss, loss_text, describe_losses = _LOSSES.parse_spec, _LOSSES.text, _LOSSES.describe


def build_loss(spec: Spec, counts: torch.Tensor) -> nn.Module:
    """Return a loss for one task, on the CPU.

    Args:
        spec: what parse_loss gives.
        counts: (K,) int64, how often each class of the task occurs in the training segments.
    """
    entry = get(spec.name)
    return entry.build(counts, entry.config(**spec.options))


# ---- cross-entropy, and losses that change the share of hard segments


@dataclass(frozen=True)
class CrossEntropyConfig:
    """Options of a cross-entropy.

    Attributes:
        smoothing: share of the target that is spread evenly over all classes (Szegedy et al., CVPR 2016).
    """

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        need_probability(self, "smoothing")


@register("ce", CrossEntropyConfig)
def ce(counts: torch.Tensor, config: CrossEntropyConfig) -> nn.Module:
    """Cross-entropy, with label smoothing. Class counts play no part."""
    from heads.losses.tasks import CrossEntropy

    return CrossEntropy(config.smoothing)


@dataclass(frozen=True)
class FocalConfig:
    """Options of the focal loss.

    Attributes:
        gamma: how much less a segment counts that is recognised already; 0 is cross-entropy.
        alpha: a factor on the whole loss, the same for every class. In the paper it weighs objects against background,
            and a softmax over classes has no background; weights per class are what `cb` and `inv_sqrt` are for.
    """

    gamma: float = 2.0
    alpha: float = 1.0

    def __post_init__(self) -> None:
        need_between(self, 0, 100, "gamma")
        need_between(self, 0.001, 1000, "alpha")


@register("focal", FocalConfig)
def focal(counts: torch.Tensor, config: FocalConfig) -> nn.Module:
    """alpha (1 - p)^gamma (-log p), p the softmax probability of the label. Class counts play no part."""
    from heads.losses.tasks import Focal

    return Focal(config)


@dataclass(frozen=True)
class SigmoidFocalConfig:
    """Options of the sigmoid focal loss; the defaults are the paper's.

    Attributes:
        gamma: how much less a class counts that is recognised already; 0 is binary cross-entropy.
        alpha: weight of the label; each other class has the weight 1 - alpha. -1 gives all the weight 1.
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
def sigmoid_focal(counts: torch.Tensor, config: SigmoidFocalConfig) -> nn.Module:
    """Binary focal loss of each class against all others, summed over the classes. Class counts play no part."""
    from heads.losses.tasks import SigmoidFocal

    return SigmoidFocal(config)


# ---- weights per class


@register("inv_sqrt", CrossEntropyConfig)
def inv_sqrt(counts: torch.Tensor, config: CrossEntropyConfig) -> nn.Module:
    """Cross-entropy weighted by count^(-1/2) of the label; the mean weight over the training segments is 1.

    So the same learning rate suits it and `ce`, and where all counts are equal the two are the same.
    """
    from heads.losses.class_counts import inverse_sqrt_weights
    from heads.losses.tasks import WeightedCrossEntropy

    return WeightedCrossEntropy(inverse_sqrt_weights(counts.numpy()), config.smoothing)


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
def cb(counts: torch.Tensor, config: ClassBalancedConfig) -> nn.Module:
    """Cross-entropy weighted by the inverse effective number of the label's segments.

    Cui et al., "Class-balanced loss based on effective number of samples", CVPR 2019; weights are scaled so that their
    mean over the training segments is 1, not over the classes (heads/losses/class_counts.py says why).
    """
    from heads.losses.class_counts import effective_number_weights
    from heads.losses.tasks import WeightedCrossEntropy

    return WeightedCrossEntropy(effective_number_weights(counts.numpy(), config.beta), config.smoothing)


# ---- priors and margins in the logits


@dataclass(frozen=True)
class LogitAdjustedConfig:
    """Options of the logit-adjusted loss.

    Attributes:
        tau: how much of the log prior is added; 0 is cross-entropy, 1 aims at the mean accuracy over classes.
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        need_between(self, 0, 100, "tau")


@register("logit_adjusted", LogitAdjustedConfig)
def logit_adjusted(counts: torch.Tensor, config: LogitAdjustedConfig) -> nn.Module:
    """Cross-entropy of logits + tau * log prior, so that the logits need not learn the prior."""
    from heads.losses.class_counts import log_prior
    from heads.losses.tasks import LogitAdjusted

    return LogitAdjusted(log_prior(counts.numpy()), config.tau)


@dataclass(frozen=True)
class BalancedSoftmaxConfig:
    """No options."""


@register("balanced_softmax", BalancedSoftmaxConfig)
def balanced_softmax(counts: torch.Tensor, config: BalancedSoftmaxConfig) -> nn.Module:
    """Cross-entropy of a softmax that counts each class as often as it occurs in training.

    Ren et al., "Balanced meta-softmax for long-tailed visual recognition", NeurIPS 2020, without its meta sampler. It
    is `logit_adjusted` at tau = 1.
    """
    return logit_adjusted(counts, LogitAdjustedConfig(tau=1.0))


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
def ldam(counts: torch.Tensor, config: LdamConfig) -> nn.Module:
    """Cross-entropy of scale * (logits, less the label's margin); late in training weighted as in `cb`."""
    from heads.losses.tasks import Ldam

    return Ldam(counts, config)
