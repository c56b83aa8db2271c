"""Corrections of finished predictions.

By a temperature, logit adjustment, which verbs occur with which nouns, what an action classifier says, and which
actions follow one another.

Each is a function of log-probabilities and of frequencies in training, with one or two parameters that are fitted to
labelled segments. Reads no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from features.annotations import NUM_CLASSES, NUM_NOUNS, NUM_VERBS, Segments
from features.errors import DataError
from features.predictions import Predictions
from heads.ensembles.folding import folded
from heads.ensembles.succession import Succession, Timeline, in_videos, rescored, succession_of, timeline_of
from heads.losses.class_counts import class_counts, log_prior
from heads.scoring.metrics import log_softmax

_TAUS = np.linspace(0, 1, 11)
_POWERS = {"pair": np.linspace(0, 1, 11), "action": np.linspace(0, 1, 11), "sequence": np.linspace(0, 1, 5)}


@dataclass(frozen=True, eq=False)
class Prior:
    """Class frequencies in training, and how much more often than by chance a verb occurs with a noun.

    Attributes:
        log_share: task -> (K,) float64.
        log_affinity: (97, 300) float64, log of P(verb, noun) / (P(verb) P(noun)).
        succession: which action follows which, and by how much more often than by chance.
        timeline: of all segments whose predictions are corrected by what precedes and follows them.
    """

    log_share: dict[str, np.ndarray]
    log_affinity: np.ndarray
    succession: Succession
    timeline: Timeline = field(default_factory=dict)


def prior_of(train: Segments, *more: Segments | None) -> Prior:
    """Count classes, pairs and successions in training.

    Args:
        more: the other lists of whose segments there are predictions.

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
    log_affinity = np.log(smoothed) - np.log(by_chance)
    return Prior(log_share, log_affinity, succession_of(train), timeline_of(train, *more))


@dataclass(frozen=True)
class Correction:
    """A correction of predictions, applied in this order; the defaults change nothing.

    Attributes:
        temperature: T of verbs and of nouns, by which log-probabilities are divided (Guo et al., ICML 2017).
        tau: of verbs and of nouns, the factor of the log prior that is subtracted (Menon et al., ICLR 2021).
        pair_power: exponent of the affinity of verbs and nouns. Probabilities of pairs, verb x noun x affinity, are
            summed up by verb and by noun again, so that the challenge's scorer, which multiplies the two, benefits.
        action_power: exponent of the probabilities of an action classifier (heads/ensembles/folding.py).
        sequence_power: exponent of what usually comes before and after (heads/ensembles/succession.py).
    """

    temperature: tuple[float, float] = (1.0, 1.0)
    tau: tuple[float, float] = (0.0, 0.0)
    pair_power: float = 0.0
    action_power: float = 0.0
    sequence_power: float = 0.0

    def apply(self, predictions: Predictions, prior: Prior, *, source: str) -> Predictions:
        """Return corrected predictions, as log-probabilities; scores of actions stay as they are.

        Raises:
            DataError: scores of actions are to be folded in, and there are none.
        """
        logs = {}
        for index, task in enumerate(NUM_CLASSES):
            scaled = log_softmax(getattr(predictions, task)) / self.temperature[index]
            logs[task] = log_softmax(scaled - self.tau[index] * prior.log_share[task])
        if self.pair_power:
            logs = _with_affinity(logs, np.exp(self.pair_power * prior.log_affinity))
        if self.action_power:
            if predictions.action is None or predictions.pairs is None:
                raise DataError(
                    f"{predictions.source}: no member that counts has scores of actions, which --fold-actions folds "
                    "into verbs and nouns (heads train --action-head)."
                )
            logs["verb"], logs["noun"] = folded(
                logs["verb"], logs["noun"], predictions.action, predictions.pairs, power=self.action_power
            )
        if self.sequence_power:
            videos = in_videos(predictions.narration_id, prior.timeline)
            logs["verb"], logs["noun"] = rescored(
                logs["verb"], logs["noun"], videos, prior.succession, power=self.sequence_power
            )
        verb, noun = (logs[task].astype(np.float32) for task in NUM_CLASSES)
        return replace(predictions, verb=verb, noun=noun, source=source)


def _with_affinity(logs: dict[str, np.ndarray], affinity: np.ndarray) -> dict[str, np.ndarray]:
    verb, noun = np.exp(logs["verb"]), np.exp(logs["noun"])
    return {
        "verb": log_softmax(logs["verb"] + np.log(noun @ affinity.T)),
        "noun": log_softmax(logs["noun"] + np.log(verb @ affinity)),
    }


class CorrectionFitter:
    """Fits corrections to labelled segments, or to some of them.

    What candidates give all segments is computed once, because the rows of a fold are chosen from the same.

    Args:
        predictions: for N segments.
        truth: task -> (N,) labels.
    """

    def __init__(self, predictions: Predictions, truth: Mapping[str, np.ndarray], prior: Prior) -> None:
        self._predictions, self._truth, self._prior = predictions, truth, prior
        self._right: dict[Correction, np.ndarray] = {}

    def fit(
        self,
        rows: np.ndarray | None = None,
        *,
        temperature: bool = False,
        adjust: bool = False,
        pairs: bool = False,
        fold_actions: bool = False,
        sequence: bool = False,
    ) -> Correction:
        """Fit corrections to the segments where `rows` (N,) bool is true, or to all.

        The temperature is fitted to the likelihood; tau and the powers of pairs, actions and sequences to the accuracy
        of actions, over grids from 0 to 1, where the smallest of equally good values is taken.
        """
        rows = np.ones(len(self._predictions), dtype=bool) if rows is None else rows
        correction = Correction()
        if temperature:
            verb_t, noun_t = (
                _temperature(getattr(self._predictions, task)[rows], self._truth[task][rows]) for task in NUM_CLASSES
            )
            correction = replace(correction, temperature=(verb_t, noun_t))
        if adjust:
            correction = replace(correction, tau=self._best_tau(correction, rows))
        for name, is_wanted in (("pair", pairs), ("action", fold_actions), ("sequence", sequence)):
            if is_wanted:
                correction = max(_candidates(correction, name), key=lambda candidate: self._num_right(candidate, rows))
        return correction

    def _best_tau(self, correction: Correction, rows: np.ndarray) -> tuple[float, float]:
        scaled = correction.apply(self._predictions, self._prior, source="")
        right = []
        for task in NUM_CLASSES:
            logs, labels, log_share = getattr(scaled, task)[rows], self._truth[task][rows], self._prior.log_share[task]
            right.append(np.stack([(logs - tau * log_share).argmax(axis=1) == labels for tau in _TAUS]))
        actions = right[0].astype(float) @ right[1].astype(float).T  # (taus of verbs, taus of nouns)
        verb, noun = np.unravel_index(actions.argmax(), actions.shape)
        return float(_TAUS[verb]), float(_TAUS[noun])

    def _num_right(self, correction: Correction, rows: np.ndarray) -> int:
        """Return for how many segments both verb and noun are right."""
        if correction not in self._right:
            corrected = correction.apply(self._predictions, self._prior, source="")
            is_right = [getattr(corrected, task).argmax(axis=1) == self._truth[task] for task in NUM_CLASSES]
            self._right[correction] = np.logical_and(*is_right)
        return int(self._right[correction][rows].sum())


def _candidates(correction: Correction, name: str) -> list[Correction]:
    """Return a correction with each power of pairs, of actions or of sequences."""
    return [Correction(**{**vars(correction), f"{name}_power": float(power)}) for power in _POWERS[name]]


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
