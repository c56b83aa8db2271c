"""The settings of an ensemble."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from features.errors import OptionError
from heads.ensembles.blend import KINDS

# The corrections of a mean (heads/ensembles/posthoc.py).
CORRECTIONS = ("temperature", "adjust", "pairs", "fold_actions", "sequence")


@dataclass(frozen=True)
class EnsembleConfig:
    """How members are averaged.

    Attributes:
        kind: what is averaged, one of KINDS.
        weights: "uniform", "fitted", "greedy", or one number per member, in their order.
        per_task: fit weights for verbs and other ones for nouns.
        temperature, adjust, pairs, fold_actions, sequence: corrections to fit afterwards (heads/ensembles/posthoc.py).
        tta: average the runs' predictions with test-time augmentation.
        scores: what the scores in predictions files are, as typed after --scores.
    """

    kind: str = "probabilities"
    weights: str | tuple[float, ...] = "uniform"
    per_task: bool = False
    temperature: bool = False
    adjust: bool = False
    pairs: bool = False
    fold_actions: bool = False
    sequence: bool = False
    tta: bool = False
    scores: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise OptionError("--mean", f"{self.kind!r} is none of {', '.join(KINDS)}.")
        if isinstance(self.weights, str) and self.weights not in ("uniform", "fitted", "greedy"):
            raise OptionError("--weights", f"{self.weights!r} is none of uniform, fitted, greedy, nor numbers.")
        if not isinstance(self.weights, str) and (min(self.weights) < 0 or not 0 < sum(self.weights) < np.inf):
            raise OptionError("--weights", "weights are not below 0, and not all 0.")
        if self.weights == "greedy" and self.kind != "probabilities":
            raise OptionError("--weights", "greedy chooses members for the mean of probabilities; leave out --mean.")
        if self.per_task and not self.has_fitted_weights:
            raise OptionError("--per-task", "is for --weights fitted or greedy.")

    @property
    def has_fitted_weights(self) -> bool:
        """Whether the weights are fitted to labelled segments."""
        return self.weights in ("fitted", "greedy")

    @property
    def is_fitted(self) -> bool:
        """Whether weights or corrections are fitted to labelled segments."""
        return self.has_fitted_weights or bool(self.corrections)

    @property
    def corrections(self) -> tuple[str, ...]:
        """The corrections that are fitted to the mean, of CORRECTIONS."""
        return tuple(name for name in CORRECTIONS if getattr(self, name))

    def as_json(self) -> dict[str, object]:
        """Return the settings as plain JSON values; those of files only where they are given."""
        values = {**asdict(self), "weights": self.weights if isinstance(self.weights, str) else list(self.weights)}
        scores = list(values.pop("scores"))
        return {**values, "scores": scores} if scores else values


EVENLY = EnsembleConfig()
