"""All losses of one task: logits (B, K) and labels (B,) -> the loss of each segment, (B,). Loads no torch.

Each entry has a name, a record of options, and a function that imports the loss (heads/losses/tasks.py) and builds it.
The first line of the function's docstring is what `heads list` prints. To add a loss, write it in tasks.py, its
options in options.py, and add an entry here.

Contract: a loss is built as loss(counts, config), where counts (K,) int64 says how often each class occurs in the
training segments. forward(logits (B, K) float32, labels (B,) int64, progress) gives (B,) float32. `progress` is the
share of training that is over, from 0 to 1. initial_logits(counts) gives the (K,) float32 that classifiers' biases
begin at. What a loss derives from the counts is a buffer, so that it moves with its
device. A segment's loss depends on no other row. Loss and gradient are finite for logits within 1e4 and for classes of
count 0. Mixup needs nothing of its own: share * loss(logits, labels) + (1 - share) * loss(logits, other_labels).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heads.losses.options import (
    BalancedSoftmaxConfig,
    ClassBalancedConfig,
    CrossEntropyConfig,
    FocalConfig,
    LdamConfig,
    LogitAdjustedConfig,
    SigmoidFocalConfig,
)
from heads.registry import Registry, Spec

if TYPE_CHECKING:
    import torch

    from heads.losses.tasks import TaskLoss

_LOSSES = Registry("loss", option="--loss", set_option="--loss")
register, names, get, loss_config = _LOSSES.register, _LOSSES.names, _LOSSES.get, _LOSSES.config
parse_loss, loss_text, describe_losses = _LOSSES.parse_spec, _LOSSES.text, _LOSSES.describe


def build_loss(spec: Spec, counts: torch.Tensor) -> TaskLoss:
    """Return a loss for one task, on the CPU.

    Args:
        spec: what parse_loss gives.
        counts: (K,) int64, how often each class of the task occurs in the training segments.
    """
    entry = get(spec.name)
    return entry.build(counts, entry.config(**spec.options))


# ---- cross-entropy, and losses that change the share of hard segments


@register("ce", CrossEntropyConfig)
def _ce(counts: torch.Tensor, config: CrossEntropyConfig) -> TaskLoss:
    """Cross-entropy, with label smoothing. Class counts play no part."""
    from heads.losses.tasks import CrossEntropy

    return CrossEntropy(config.smoothing)


@register("focal", FocalConfig)
def _focal(counts: torch.Tensor, config: FocalConfig) -> TaskLoss:
    """alpha (1 - p)^gamma (-log p), p the softmax probability of the label. Class counts play no part."""
    from heads.losses.tasks import Focal

    return Focal(config)


@register("sigmoid_focal", SigmoidFocalConfig)
def _sigmoid_focal(counts: torch.Tensor, config: SigmoidFocalConfig) -> TaskLoss:
    """Binary focal loss of each class against all others, summed over the classes. Class counts play no part."""
    from heads.losses.tasks import SigmoidFocal

    return SigmoidFocal(config)


# ---- weights per class


@register("inv_sqrt", CrossEntropyConfig)
def _inv_sqrt(counts: torch.Tensor, config: CrossEntropyConfig) -> TaskLoss:
    """Cross-entropy weighted by count^(-1/2) of the label; the mean weight over the training segments is 1.

    So the same learning rate suits it and `ce`, and where all counts are equal the two are the same.
    """
    from heads.losses.class_counts import inverse_sqrt_weights
    from heads.losses.tasks import WeightedCrossEntropy

    return WeightedCrossEntropy(inverse_sqrt_weights(counts.numpy()), config.smoothing)


@register("cb", ClassBalancedConfig)
def _cb(counts: torch.Tensor, config: ClassBalancedConfig) -> TaskLoss:
    """Cross-entropy weighted by the inverse effective number of the label's segments.

    Cui et al., "Class-balanced loss based on effective number of samples", CVPR 2019; weights are scaled so that their
    mean over the training segments is 1, not over the classes (heads/losses/class_counts.py says why).
    """
    from heads.losses.class_counts import effective_number_weights
    from heads.losses.tasks import WeightedCrossEntropy

    return WeightedCrossEntropy(effective_number_weights(counts.numpy(), config.beta), config.smoothing)


# ---- priors and margins in the logits


@register("logit_adjusted", LogitAdjustedConfig)
def _logit_adjusted(counts: torch.Tensor, config: LogitAdjustedConfig) -> TaskLoss:
    """Cross-entropy of logits + tau * log prior, so that the logits need not learn the prior."""
    from heads.losses.class_counts import log_prior
    from heads.losses.tasks import LogitAdjusted

    return LogitAdjusted(log_prior(counts.numpy()), config.tau)


@register("balanced_softmax", BalancedSoftmaxConfig)
def _balanced_softmax(counts: torch.Tensor, config: BalancedSoftmaxConfig) -> TaskLoss:
    """Cross-entropy of a softmax that counts each class as often as it occurs in training.

    Ren et al., "Balanced meta-softmax for long-tailed visual recognition", NeurIPS 2020, without its meta sampler. It
    is `logit_adjusted` at tau = 1.
    """
    return _logit_adjusted(counts, LogitAdjustedConfig(tau=1.0))


@register("ldam", LdamConfig)
def _ldam(counts: torch.Tensor, config: LdamConfig) -> TaskLoss:
    """Cross-entropy of scale * (logits, less the label's margin); late in training weighted as in `cb`."""
    from heads.losses.tasks import Ldam

    return Ldam(counts, config)
