"""Corrections of finished predictions: temperature, logit adjustment, and which verbs occur with which nouns.

Each is a function of log-probabilities and of class frequencies in training, with one or two parameters that are fitted
to labelled segments. Reads no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from features.annotations import NUM_CLASSES, NUM_NOUNS, NUM_VERBS, Segments
from features.predictions import Predictions
from heads.losses.class_counts import class_counts, log_prior
from heads.scoring.metrics import log_softmax

_TAUS = np.linspace(0, 1, 11)
_PAIR_POWERS = np.linspace(0, 1, 11)


@dataclass(frozen=True, eq=False)
class Prior:
    """Class frequencies in training, and how much more often than by chance a verb occurs with a noun.

    Attributes:
        log_share: task -> (K,) float64.
        log_affinity: (97, 300) float64, log of P(verb, noun) / (P(verb) P(noun)).
    """

    log_share: dict[str, np.ndarray]
    log_affinity: np.ndarray


def prior_of(train: Segments) -> Prior:
    """Count classes and pairs in training.

    Pairs are counted with a pseudo-count, distributed as if verbs and nouns were independent; in total it is as many as
    there are verbs. So a pair that never occurs becomes unlikely and not impossible (4 in 100 segments of validation
    have such a pair).
    """
    counts = {task: class_counts(train, task) for task in NUM_CLASSES}
    pairs = np.zeros((NUM_VERBS, NUM_NOUNS))
    np.add.at(pairs, (train.verb_class, train.noun_class), 1)
    share = {task: (count + 1) / (count + 1).sum() for task, count in counts.items()}
    by_chance = share["verb"][:, None] * share["noun"]
    strength = NUM_VERBS
    smoothed = (pairs + strength * by_chance) / (pairs.sum() + strength)
    log_share = {task: log_prior(count).astype(np.float64) for task, count in counts.items()}
    return Prior(log_share, np.log(smoothed) - np.log(by_chance))


@dataclass(frozen=True)
class Correction:
    """A correction of predictions, applied in this order; the defaults change nothing.

    Attributes:
        temperature: T of verbs and of nouns, by which log-probabilities are divided (Guo et al., ICML 2017).
        tau: of verbs and of nouns, the factor of the log prior that is subtracted (Menon et al., ICLR 2021).
        pair_power: exponent of the affinity of verbs and nouns. Probabilities of pairs, verb x noun x affinity, are
            summed up by verb and by noun again, so that the challenge's scorer, which multiplies the two, benefits.
    """

    temperature: tuple[float, float] = (1.0, 1.0)
    tau: tuple[float, float] = (0.0, 0.0)
    pair_power: float = 0.0

    def apply(self, predictions: Predictions, prior: Prior, *, source: str) -> Predictions:
        """Return corrected predictions, as log-probabilities."""
        logs = {}
        for index, task in enumerate(NUM_CLASSES):
            scaled = log_softmax(getattr(predictions, task)) / self.temperature[index]
            logs[task] = log_softmax(scaled - self.tau[index] * prior.log_share[task])
        if self.pair_power:
            logs = _with_affinity(logs, np.exp(self.pair_power * prior.log_affinity))
        verb, noun = (logs[task].astype(np.float32) for task in NUM_CLASSES)
        return Predictions(predictions.narration_id, verb, noun, source)


def _with_affinity(logs: dict[str, np.ndarray], affinity: np.ndarray) -> dict[str, np.ndarray]:
    verb, noun = np.exp(logs["verb"]), np.exp(logs["noun"])
    return {
        "verb": log_softmax(logs["verb"] + np.log(noun @ affinity.T)),
        "noun": log_softmax(logs["noun"] + np.log(verb @ affinity)),
    }


def fit_correction(
    predictions: Predictions,
    truth: Mapping[str, np.ndarray],
    prior: Prior,
    *,
    temperature: bool = False,
    adjust: bool = False,
    pairs: bool = False,
) -> Correction:
    """Fit corrections to labelled segments.

    The temperature is fitted to the likelihood; tau and the power of pairs to the accuracy of actions, over grids from
    0 to 1, where the smallest of equally good values is taken.
    """
    correction = Correction()
    if temperature:
        verb_t, noun_t = (_temperature(getattr(predictions, task), truth[task]) for task in NUM_CLASSES)
        correction = replace(correction, temperature=(verb_t, noun_t))
    if adjust:
        scaled = correction.apply(predictions, prior, source="")
        right = [
            np.stack(
                [(getattr(scaled, task) - tau * prior.log_share[task]).argmax(axis=1) == truth[task] for tau in _TAUS]
            )
            for task in NUM_CLASSES
        ]
        actions = right[0].astype(float) @ right[1].astype(float).T  # (taus of verbs, taus of nouns)
        best = np.unravel_index(actions.argmax(), actions.shape)
        correction = replace(correction, tau=(float(_TAUS[best[0]]), float(_TAUS[best[1]])))
    if pairs:
        corrected = [
            replace(correction, pair_power=float(power)).apply(predictions, prior, source="") for power in _PAIR_POWERS
        ]
        num_right = [
            ((by_power.verb.argmax(axis=1) == truth["verb"]) & (by_power.noun.argmax(axis=1) == truth["noun"])).sum()
            for by_power in corrected
        ]
        correction = replace(correction, pair_power=float(_PAIR_POWERS[int(np.argmax(num_right))]))
    return correction


def _temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature that gives the labels the highest likelihood, from 0.05 to 20."""
    log_p, rows = log_softmax(logits), np.arange(len(labels))

    def loss(log_t: float) -> float:
        return -float(log_softmax(log_p / np.exp(log_t))[rows, labels].mean())

    low, high = np.log(0.05), np.log(20)
    # The loss has one minimum in 1 / T, hence in log T: a golden-section search finds it.
    ratio = (5**0.5 - 1) / 2
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return float(np.exp((low + high) / 2))
