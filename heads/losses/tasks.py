"""The losses of heads/losses/catalogue.py, which states their contract and describes their options."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from heads.losses.class_counts import effective_number_weights, log_prior
from heads.losses.options import FocalConfig, LdamConfig, SigmoidFocalConfig


def _is_label(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return (B, K) bool, true at each row's label."""
    return labels[:, None] == torch.arange(logits.shape[1], device=logits.device)


class TaskLoss(nn.Module):
    """A loss of one task: logits (B, K), labels (B,), progress -> (B,)."""

    def initial_logits(self, counts: np.ndarray) -> np.ndarray:
        """Return the logits (K,) float32 at which a head that sees nothing loses least: where classifiers begin.

        Args:
            counts: (K,) int64, how often each class occurs in the training segments.
        """
        return log_prior(counts)


class CrossEntropy(TaskLoss):
    """Cross-entropy with label smoothing."""

    def __init__(self, smoothing: float) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, logits: torch.Tensor, labels: torch.Tensor, progress: float) -> torch.Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing, reduction="none")


class Focal(TaskLoss):
    """alpha (1 - p)^gamma (-log p), p the softmax probability of the label.

    Lin et al., "Focal loss for dense object detection", ICCV 2017, in the softmax form that is usual for one label of
    K; `SigmoidFocal` is the paper's own.
    """

    def __init__(self, config: FocalConfig) -> None:
        super().__init__()
        self.gamma, self.alpha = config.gamma, config.alpha

    def forward(self, logits: torch.Tensor, labels: torch.Tensor, progress: float) -> torch.Tensor:
        log_p = logits.log_softmax(dim=1)
        # log(1 - p), from the other classes. For gamma below 1 the slope of (1 - p)^gamma has no bound at p = 1, and
        # autograd multiplies it by a slope of 0: NaN. This way it never leaves the logarithm.
        log_miss = log_p.masked_fill(_is_label(logits, labels), -math.inf).logsumexp(dim=1)
        return self.alpha * (self.gamma * log_miss).exp() * -log_p.gather(1, labels[:, None])[:, 0]


class SigmoidFocal(TaskLoss):
    """Binary focal loss of each class against all others, summed over the classes.

    Lin et al., "Focal loss for dense object detection", ICCV 2017 (RetinaNet). The bias that makes `prior` true is
    added here and not in the head: it is the same for all classes, so it does not change the softmax that scores
    predictions. That softmax keeps the order of the classes, but its probabilities are not those that were trained,
    and they average badly with another head's.
    """

    def __init__(self, config: SigmoidFocalConfig) -> None:
        super().__init__()
        self.gamma = config.gamma
        self.label_weight, self.other_weight = (config.alpha, 1 - config.alpha) if config.alpha != -1 else (1.0, 1.0)
        self.bias = math.log(config.prior / (1 - config.prior))

    def initial_logits(self, counts: np.ndarray) -> np.ndarray:
        """Return 0 for each class: the prior of this loss is in `bias`."""
        return np.zeros(len(counts), dtype=np.float32)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor, progress: float) -> torch.Tensor:
        is_label = _is_label(logits, labels)
        logits = logits + self.bias
        log_right = F.logsigmoid(torch.where(is_label, logits, -logits))
        log_wrong = F.logsigmoid(torch.where(is_label, -logits, logits))
        losses = (self.gamma * log_wrong).exp() * -log_right  # (B, K)
        weights = torch.full_like(losses, self.other_weight).masked_fill(is_label, self.label_weight)
        return (losses * weights).sum(dim=1)


class WeightedCrossEntropy(TaskLoss):
    """Cross-entropy of each segment, times the weight of its label.

    Label smoothing smooths the target first: the weight is the segment's. (torch's cross_entropy instead gives each
    class's share of the smoothed target that class's weight, so that the rarest classes, weights in the hundreds, get
    most of it in every segment.)

    Args:
        weights: (K,) float32.
    """

    weights: torch.Tensor

    def __init__(self, weights: np.ndarray, smoothing: float) -> None:
        super().__init__()
        self.register_buffer("weights", torch.from_numpy(weights))
        self.smoothing = smoothing

    def forward(self, logits: torch.Tensor, labels: torch.Tensor, progress: float) -> torch.Tensor:
        loss = F.cross_entropy(logits, labels, label_smoothing=self.smoothing, reduction="none")
        return loss * self.weights[labels]

    def initial_logits(self, counts: np.ndarray) -> np.ndarray:
        """Return the log prior of the weighted classes."""
        return log_prior(counts, self.weights.cpu().numpy())


class LogitAdjusted(TaskLoss):
    """Cross-entropy of logits + tau * log prior.

    Menon et al., "Long-tail learning via logit adjustment", ICLR 2021. A class of count 0 is treated as shown once, so
    it stays in the softmax, where the paper's prior of 0 would take it out.

    Args:
        log_prior: (K,) float32.
    """

    adjustment: torch.Tensor

    def __init__(self, log_prior: np.ndarray, tau: float) -> None:
        super().__init__()
        self.tau = tau
        self.register_buffer("adjustment", tau * torch.from_numpy(log_prior))

    def initial_logits(self, counts: np.ndarray) -> np.ndarray:
        """Return the share of the log prior that the loss does not add: 0 for tau = 1."""
        return (1 - self.tau) * super().initial_logits(counts)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor, progress: float) -> torch.Tensor:
        return F.cross_entropy(logits + self.adjustment, labels, reduction="none")


class Ldam(TaskLoss):
    """Cross-entropy of scale * (logits, less the label's margin); late in training weighted as `cb` is.

    Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019. Departures:
    - Theirs has a cosine classifier, logits in [-1, 1], and so scale 30 and a margin of 0.5. Ours takes any head's
      logits, which grow as they need to: the default scale is 1, so that softmax reads them as trained. A margin of 0.5
      is then a gentle one, and the weights do most of the work.
    - Weights have a mean of 1 over the training segments, and are not divided by their sum in the batch.
    A class of count 0 has the margin max_margin.
    """

    margins: torch.Tensor
    weights: torch.Tensor

    def __init__(self, counts: torch.Tensor, config: LdamConfig) -> None:
        super().__init__()
        self.scale, self.defer = config.scale, config.defer
        rarest = counts[counts > 0].min()
        self.register_buffer("margins", config.max_margin * (rarest / counts.clamp(min=rarest)) ** 0.25)
        self.register_buffer("weights", torch.from_numpy(effective_number_weights(counts.numpy(), config.beta)))

    def initial_logits(self, counts: np.ndarray) -> np.ndarray:
        """Return the log prior in units of the scaled logits."""
        return super().initial_logits(counts) / np.float32(self.scale)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor, progress: float) -> torch.Tensor:
        less_margin = logits - self.margins * _is_label(logits, labels)
        loss = F.cross_entropy(self.scale * less_margin, labels, reduction="none")
        return loss * self.weights[labels] if progress >= self.defer else loss
