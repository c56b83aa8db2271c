"""What the class counts of the training segments give: log priors, and weights. Knows no logits and no loss.

Counts are (K,) int64. A class that no training segment shows has count 0 and is taken as shown once: then its prior and
its weight are those of the rarest class there can be, and finite. What is given is (K,) float32, on the CPU.
"""

from __future__ import annotations

import torch


def log_prior(counts: torch.Tensor) -> torch.Tensor:
    """Give the logarithm of the share of each class, (K,).

    Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, use it in two ways: added to the logits in
    training (heads/losses/tasks.py, `logit_adjusted`), or subtracted from the logits of a head that is trained without
    it, logits - tau * log_prior(counts). The second lifts a class that training never shows by as much as one
    that it shows once, though no head can have learned it.
    """
    shown = _shown(counts)
    return (shown / shown.sum()).log().float()


def inverse_sqrt_weights(counts: torch.Tensor) -> torch.Tensor:
    """Give weights in proportion to count^(-1/2), (K,), whose mean over the training segments is 1."""
    return _with_mean_one(_shown(counts).rsqrt(), counts)


def effective_number_weights(counts: torch.Tensor, beta: float) -> torch.Tensor:
    """Give weights in proportion to (1 - beta) / (1 - beta^count), (K,), whose mean over the training segments is 1.

    Cui et al., "Class-balanced loss based on effective number of samples", CVPR 2019. They scale the weights to a mean
    of 1 over the classes instead: then most segments, which are of frequent classes, weigh far below 1, and the loss
    as a whole shrinks with beta.

    Args:
        beta: in [0, 1). All weights are 1 at 0; towards 1 they become inverse counts.
    """
    return _with_mean_one(1 / (1 - beta ** _shown(counts)), counts)


def _shown(counts: torch.Tensor) -> torch.Tensor:
    # On the CPU, for MPS has no float64.
    return counts.cpu().clamp(min=1).double()


def _with_mean_one(weights: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    share = counts.cpu().double() / counts.cpu().sum()
    return (weights / (share * weights).sum()).float()
