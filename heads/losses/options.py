"""The options of each loss: frozen records with defaults, which check their values. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from heads.registry import need_between, need_probability


@dataclass(frozen=True)
class CrossEntropyConfig:
    """Options of a cross-entropy.

    Attributes:
        smoothing: share of the target that is spread evenly over all classes (Szegedy et al., CVPR 2016).
    """

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        need_probability(self, "smoothing")


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


@dataclass(frozen=True)
class LogitAdjustedConfig:
    """Options of the logit-adjusted loss.

    Attributes:
        tau: how much of the log prior is added; 0 is cross-entropy, 1 aims at the mean accuracy over classes.
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        need_between(self, 0, 100, "tau")


@dataclass(frozen=True)
class BalancedSoftmaxConfig:
    """No options."""


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
