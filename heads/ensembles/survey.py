"""What is kept of an ensemble's members while their predictions go by one at a time: scores and classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from features.annotations import Annotations
from features.predictions import Predictions
from heads.ensembles.blend import best_classes, disagreement
from heads.scoring.evaluation import ScoreRow, labelled_validation, score, summarised
from heads.scoring.folds import Member
from heads.scoring.groups import alone
from heads.scoring.metrics import Results, draw_videos, figures, interval

# An estimate with its interval: percentage points, low, high.
Gain = tuple[float, float, float]


class Classes:
    """The predicted classes of members, to show for how many segments two of them differ.

    Attributes:
        num_with_actions: how many of them have scores of actions.
    """

    def __init__(self) -> None:
        self._best: list[dict[str, np.ndarray]] = []
        self.num_with_actions = 0

    def watch(self, members: Iterable[Predictions]) -> Iterator[Predictions]:
        """Yield the predictions of members, and keep what is needed of each."""
        for member in members:
            self._best.append(best_classes(member))
            self.num_with_actions += member.action is not None
            yield member

    def disagreement(self) -> dict[str, float]:
        """Return the percentage of segments for which two members differ, by task; nothing for a single member."""
        return disagreement(self._best) if len(self._best) > 1 else {}


class Scores:
    """The scores of members on validation.

    Args:
        members: name -> member.

    Attributes:
        rows: the scores of each member so far.
        video: (N,) int64, index of the video of each segment.
    """

    video: np.ndarray

    def __init__(self, members: Mapping[str, Member], annotations: Annotations, *, tta: bool) -> None:
        self.rows: list[ScoreRow] = []
        self._groups = [alone(name, member, annotations, tta=tta) for name, member in members.items()]
        self._points: list[float] = []
        self._draws: list[np.ndarray] = []

    def watch(self, predicted: Iterable[Predictions]) -> Iterator[Predictions]:
        """Yield the predictions of members, and keep what is needed of each."""
        for group, member in zip(self._groups, predicted, strict=True):
            annotations = group.scored.annotations
            results = score(member, labelled_validation(annotations), annotations)
            self.rows.append(summarised(group, [results]).row)
            self.video = results.video
            self._points.append(_action(results)[0])
            self._draws.append(_action(results, draw_videos(results)))
            yield member

    def gains(self, ensemble: Results) -> dict[str, Gain]:
        """Return by how much an ensemble is above the mean of its members, and above the best member.

        The best member is chosen by the same segments, which favours it.
        """
        best = int(np.argmax(self._points))
        return {
            "the mean of its members": self._gain(ensemble, range(len(self._points))),
            "the best of them": self._gain(ensemble, [best]),
        }

    def _gain(self, ensemble: Results, members: Sequence[int]) -> Gain:
        points = np.mean([self._points[member] for member in members])
        draws = np.mean([self._draws[member] for member in members], axis=0)
        return _difference(_action(ensemble)[0] - points, _action(ensemble, draw_videos(ensemble)) - draws)


def gain(ensemble: Results, other: Results, figure: str) -> Gain:
    """Return by how many points results are above others, with the 95 % interval of a paired bootstrap over videos."""

    def above(weights: np.ndarray | None) -> np.ndarray:
        own, others = (figures(results, weights, only=[figure])[figure] for results in (ensemble, other))
        return own - others

    return _difference(above(None)[0], above(draw_videos(ensemble)))


def _difference(points: float, draws: np.ndarray) -> Gain:
    return (float(points), *interval(draws))


def _action(results: Results, weights: np.ndarray | None = None) -> np.ndarray:
    return figures(results, weights, only=["action@1"])["action@1"]
