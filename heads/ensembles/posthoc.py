"""What can be done to finished predictions: temperature, logit adjustment, and which verbs go with which nouns.

Each is a function of log-probabilities and of what training shows, with a number or two that are fitted to labelled
segments. Reads no file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from features.annotations import NUM_NOUNS, NUM_VERBS, Segments
from features.predictions import Predictions
from heads.losses.class_counts import class_counts, log_prior
from heads.scoring.metrics import log_softmax

_TAUS = np.linspace(0, 1, 11)
_PAIR_POWERS = np.linspace(0, 1, 11)
_SIZES = {"verb": NUM_VERBS, "noun": NUM_NOUNS}


@dataclass(frozen=True, eq=False)
class Prior:
    """What training shows: log-shares of the classes, and how much oftener than by chance a verb meets a noun.

    Attributes:
        log_share: task -> (K,) float64.
        log_affinity: (97, 300) float64, log of P(verb, noun) / (P(verb) P(noun)).
    """

    log_share: dict[str, np.ndarray]
    log_affinity: np.ndarray


def prior_of(train: Segments) -> Prior:
    """Count what training shows.

    Pairs are counted with a pseudo-count spread as if verbs and nouns met by chance: one for each verb that training
    shows once, so that a pair that is never seen is made unlikely and not impossible (4 in 100 segments of validation
    are of such a pair).
    """
    counts = {task: class_counts(train, task) for task in _SIZES}
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
    """What is done to predictions, in this order; the defaults do nothing.

    Attributes:
        temperature: task -> T, by which log-probabilities are divided (Guo et al., ICML 2017).
        tau: task -> how much of the log prior is subtracted (Menon et al., ICLR 2021).
        pair_power: how much the affinity of verbs and nouns counts. Probabilities of pairs, verb x noun x affinity, are
            summed up by verb and by noun again, so that the challenge's scorer, which multiplies the two, benefits.
    """

    temperature: tuple[float, float] = (1.0, 1.0)
    tau: tuple[float, float] = (0.0, 0.0)
    pair_power: float = 0.0

    def apply(self, predictions: Predictions, prior: Prior, *, source: str) -> Predictions:
        """Give corrected predictions, as log-probabilities."""
        logs = {}
        for place, task in enumerate(_SIZES):
            scaled = log_softmax(getattr(predictions, task)) / self.temperature[place]
            logs[task] = log_softmax(scaled - self.tau[place] * prior.log_share[task])
        if self.pair_power:
            logs = _with_affinity(logs, np.exp(self.pair_power * prior.log_affinity))
        verb, noun = (logs[task].astype(np.float32) for task in _SIZES)
        return Predictions(predictions.narration_id, verb, noun, source)


def _with_affinity(logs: dict[str, np.ndarray], affinity: np.ndarray) -> dict[str, np.ndarray]:
    verb, noun = np.exp(logs["verb"]), np.exp(logs["noun"])
    return {
        "verb": log_softmax(logs["verb"] + np.log(noun @ affinity.T)),
        "noun": log_softmax(logs["noun"] + np.log(verb @ affinity)),
    }


def fit_correction(
    predictions: Predictions,
    truth: dict[str, np.ndarray],
    prior: Prior,
    *,
    temperature: bool = False,
    adjust: bool = False,
    pairs: bool = False,
) -> Correction:
    """Fit those corrections that are asked for to labelled segments.

    The temperature is fitted to the likelihood; taus and the power of pairs to the accuracy of actions, over grids from
    0 to 1, the smallest of equal ones.
    """
    found = Correction()
    if temperature:
        found = replace(
            found, temperature=tuple(_temperature(getattr(predictions, task), truth[task]) for task in _SIZES)
        )
    if adjust:
        now = found.apply(predictions, prior, source="")
        right = [
            np.stack(
                [(getattr(now, task) - tau * prior.log_share[task]).argmax(axis=1) == truth[task] for tau in _TAUS]
            )
            for task in _SIZES
        ]
        actions = right[0].astype(float) @ right[1].astype(float).T  # (taus of verbs, taus of nouns)
        best = np.unravel_index(actions.argmax(), actions.shape)
        found = replace(found, tau=tuple(float(_TAUS[place]) for place in best))
    if pairs:
        corrected = [
            replace(found, pair_power=float(power)).apply(predictions, prior, source="") for power in _PAIR_POWERS
        ]
        right = [
            ((one.verb.argmax(axis=1) == truth["verb"]) & (one.noun.argmax(axis=1) == truth["noun"])).sum()
            for one in corrected
        ]
        found = replace(found, pair_power=float(_PAIR_POWERS[int(np.argmax(right))]))
    return found


def _temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Fit the temperature with which labels are likeliest, from 0.05 to 20."""
    log_p, rows = log_softmax(logits), np.arange(len(labels))

    def loss(log_t: float) -> float:
        return -float(log_softmax(log_p / np.exp(log_t))[rows, labels].mean())

    low, high = np.log(0.05), np.log(20)
    # The loss has one valley in 1 / T, hence in log T: a golden-section search narrows it down.
    ratio = (5**0.5 - 1) / 2
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return float(np.exp((low + high) / 2))
