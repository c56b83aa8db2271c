"""What an ensemble gains with its size: means of probabilities over ever more runs, as `heads ensemble` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.annotations import Segments
from features.predictions import Predictions
from heads.scoring.metrics import log_softmax

# Each run in memory costs some 15 MB of probabilities on the whole of validation.
MOST = 16
NUM_ORDERS = 10


@dataclass(frozen=True)
class Growth:
    """Action top-1 in percent, of means of 1, 2, ... members.

    Attributes:
        mean, lowest, highest: over the orders that members were added in; of a single order all the same.
    """

    members: tuple[str, ...]
    mean: tuple[float, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]


def in_any_order(names: Sequence[str], predicted: Sequence[Predictions], segments: Segments) -> Growth:
    """Add members that are as good as each other, such as seeds, in orders that begin with each equally often.

    These are orders drawn at random, and each of them turned round by one, two, ... places.
    """
    rng, num = np.random.default_rng(0), len(predicted)
    drawn = [rng.permutation(num) for _ in range(-(-NUM_ORDERS // num))]
    orders = [np.roll(order, shift).tolist() for order in drawn for shift in range(num)]
    return _grow(names, predicted, segments, orders)


def best_first(names: Sequence[str], predicted: Sequence[Predictions], segments: Segments) -> Growth:
    """Add members in the order given, the best first."""
    return _grow(names, predicted, segments, [list(range(len(predicted)))])


def _grow(
    names: Sequence[str], predicted: Sequence[Predictions], segments: Segments, orders: Sequence[Sequence[int]]
) -> Growth:
    truth = {"verb": segments.verb_class, "noun": segments.noun_class}
    p = [_probabilities(one.aligned(segments.narration_id)) for one in predicted]
    scores = []
    for order in orders:
        total, scores_of_order = {task: np.zeros_like(of) for task, of in p[0].items()}, []
        for member in order:
            for task, of in p[member].items():
                total[task] += of
            # The best pair is that of the best verb and the best noun.
            right = np.logical_and.reduce([of.argmax(axis=1) == truth[task] for task, of in total.items()])
            scores_of_order.append(100 * right.mean())
        scores.append(scores_of_order)
    table = np.array(scores)  # (orders, members)
    return Growth(
        tuple(names), *(tuple(of.tolist()) for of in (table.mean(axis=0), table.min(axis=0), table.max(axis=0)))
    )


def _probabilities(predicted: Predictions) -> dict[str, np.ndarray]:
    return {task: np.exp(log_softmax(getattr(predicted, task))).astype(np.float32) for task in ("verb", "noun")}
