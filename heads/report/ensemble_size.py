"""The gain of an ensemble by its size: the mean probabilities of 1, 2, ... runs, as `heads ensemble` has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.annotations import Segments
from features.predictions import Predictions
from heads.scoring.metrics import log_softmax

# Each run in memory takes some 15 MB of probabilities on the whole of validation.
MOST = 16
NUM_ORDERS = 10


@dataclass(frozen=True)
class GainBySize:
    """Action top-1 in percent of ensembles of 1, 2, ... members.

    Attributes:
        mean, lowest, highest: over the orders in which members were added; all the same where there is one order.
    """

    members: tuple[str, ...]
    mean: tuple[float, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]


def gain_in_any_order(names: Sequence[str], predicted: Sequence[Predictions], segments: Segments) -> GainBySize:
    """Score ensembles of members that are equally good, such as seeds, in orders that start with each equally often.

    The orders are random ones, and each of them rotated by one, two, ... members.
    """
    rng, num = np.random.default_rng(0), len(predicted)
    drawn = [rng.permutation(num) for _ in range(-(-NUM_ORDERS // num))]
    orders = [np.roll(order, shift).tolist() for order in drawn for shift in range(num)]
    return _gain(names, predicted, segments, orders)


def gain_best_first(names: Sequence[str], predicted: Sequence[Predictions], segments: Segments) -> GainBySize:
    """Score ensembles to which members are added in the order given, the best first."""
    return _gain(names, predicted, segments, [list(range(len(predicted)))])


def _gain(
    names: Sequence[str], predicted: Sequence[Predictions], segments: Segments, orders: Sequence[Sequence[int]]
) -> GainBySize:
    truth = {"verb": segments.verb_class, "noun": segments.noun_class}
    members = [_probabilities(predictions.aligned(segments.narration_id)) for predictions in predicted]
    scores = []
    for order in orders:
        total = {task: np.zeros_like(p) for task, p in members[0].items()}
        by_size = []
        for member in order:
            for task, p in members[member].items():
                total[task] += p
            # The best pair is that of the best verb and the best noun.
            right = np.logical_and.reduce([p.argmax(axis=1) == truth[task] for task, p in total.items()])
            by_size.append(100 * right.mean())
        scores.append(by_size)
    table = np.array(scores)  # (orders, members)
    mean, lowest, highest = (
        tuple(float(value) for value in values) for values in (table.mean(axis=0), table.min(axis=0), table.max(axis=0))
    )
    return GainBySize(tuple(names), mean, lowest, highest)


def _probabilities(predicted: Predictions) -> dict[str, np.ndarray]:
    return {task: np.exp(log_softmax(getattr(predicted, task))).astype(np.float32) for task in ("verb", "noun")}
