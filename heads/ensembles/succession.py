"""What people usually do next: actions re-scored by those before and after them in the video. Reads no file.

A video's actions are taken for a chain in which each depends on the one before, as in a hidden Markov model whose
observations are the predictions (Rabiner, "A tutorial on hidden Markov models", Proc. IEEE 1989). One pass of
forward-backward over a video in both directions gives the probability of each action given all predictions of the
video. Transitions are counted in training and smoothed as by Witten and Bell (IEEE Trans. Information Theory 1991): the
more different actions have followed one, the likelier is yet another. The published counterpart is the language model
of MTCN (Kazakos et al., "With a little help from my temporal context", BMVC 2021).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.annotations import NUM_NOUNS, Segments
from features.errors import DataError, first_few

# They are gone through together; all states of theirs are in memory.
_VIDEOS_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class Succession:
    """By which factor an action becomes likelier than by chance, by the one before it.

    Actions are pairs of verb and noun that occur in training, A of them.

    Attributes:
        verb, noun: (A,) int64, their classes.
        before, after: (E,) int64, actions that followed one another in training.
        factor: (E,) float64, P(after | before) / P(after).
        unseen: (A,) float64, the factor of all actions that never followed this one in training.
    """

    verb: np.ndarray
    noun: np.ndarray
    before: np.ndarray
    after: np.ndarray
    factor: np.ndarray
    unseen: np.ndarray


def succession_of(train: Segments) -> Succession:
    """Count which action followed which in the videos of the training list, by the start of the segments."""
    codes, action = np.unique(train.verb_class * NUM_NOUNS + train.noun_class, return_inverse=True)
    chains = [action[rows] for rows in in_videos(train.narration_id, timeline_of(train))]
    before, after = (np.concatenate([chain[part] for chain in chains]) for part in (slice(None, -1), slice(1, None)))
    edges, counts = np.unique(before * len(codes) + after, return_counts=True)
    before, after = np.divmod(edges, len(codes))
    share = np.bincount(action) / len(action)
    num_followers = np.bincount(before, minlength=len(codes))  # different ones
    total = np.bincount(before, weights=counts, minlength=len(codes)) + num_followers
    unseen = np.divide(num_followers, total, out=np.ones(len(codes)), where=total > 0)
    factor = counts / (total[before] * share[after]) + unseen[before]
    return Succession(codes // NUM_NOUNS, codes % NUM_NOUNS, before, after, factor, unseen)


# narration_id -> its video, and when it begins there.
Timeline = Mapping[str, tuple[str, float]]


def timeline_of(*lists: Segments | None) -> Timeline:
    """Return the video and the start of each segment of some lists."""
    return {
        name: (video_id, start_s)
        for segments in lists
        if segments is not None
        for name, video_id, start_s in zip(
            segments.narration_id, segments.table.video_id, segments.table.start_s, strict=True
        )
    }


def in_videos(narration_id: Sequence[str] | np.ndarray, timeline: Timeline) -> list[np.ndarray]:
    """Return the rows of each video's segments, by their start; the longest video first.

    Raises:
        DataError: a segment is in none of the lists of the timeline.
    """
    lacking = [name for name in narration_id if name not in timeline]
    if lacking:
        raise DataError(
            f"{len(lacking)} predicted segments are in no annotated list, so what precedes them is not known: "
            f"{first_few(lacking)}; give --annotations, the folder of all lists."
        )
    by_video: dict[str, list[tuple[float, int]]] = {}
    for row, name in enumerate(narration_id):
        video_id, start_s = timeline[name]
        by_video.setdefault(video_id, []).append((start_s, row))
    rows = [np.array([row for _, row in sorted(placed)]) for placed in by_video.values()]
    return sorted(rows, key=len, reverse=True)


def rescored(
    verb: np.ndarray, noun: np.ndarray, videos: Sequence[np.ndarray], succession: Succession, *, power: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return log-probabilities of verbs and nouns, given the predictions of the whole video.

    Pairs that do not occur in training keep their shares among each other, and tell nothing of the next action.

    Args:
        verb, noun: (N, 97) and (N, 300) log-probabilities.
        videos: rows of each video's segments, in their order in time; the longest video first.
        power: exponent of the factors; 0 changes nothing, 1 is the hidden Markov model.
    """
    predicted = {"verb": np.exp(verb.astype(np.float64)), "noun": np.exp(noun.astype(np.float64))}
    result = {task: np.empty_like(values) for task, values in predicted.items()}
    chain = _Chain(succession, power)
    for first in range(0, len(videos), _VIDEOS_AT_ONCE):
        for rows, posterior in chain.posteriors(predicted, videos[first : first + _VIDEOS_AT_ONCE]):
            ours = {task: values[rows] for task, values in predicted.items()}
            for task in predicted:
                result[task][rows] = chain.marginals(task, ours, posterior)
    smallest = np.finfo(np.float32).tiny
    return np.log(result["verb"].clip(min=smallest)), np.log(result["noun"].clip(min=smallest))


class _Chain:
    """Forward-backward over several videos at a time. The last of A + 1 states is any pair that is not in training.

    A message from one state to all others is that of an action which never followed, the same for all, and more along
    the edges that training shows.
    """

    def __init__(self, succession: Succession, power: float) -> None:
        unseen = succession.unseen**power
        self._unseen = np.append(unseen, 1.0)[:, None]  # (A + 1, 1)
        more = succession.factor**power - unseen[succession.before]
        self._to_after = Edges(succession.before, succession.after, more)
        self._to_before = Edges(succession.after, succession.before, more)
        self._classes = {"verb": succession.verb, "noun": succession.noun}
        actions = np.arange(len(unseen))
        self._to_class = {task: Edges(actions, of, np.ones(len(actions))) for task, of in self._classes.items()}

    def posteriors(
        self, predicted: Mapping[str, np.ndarray], videos: Sequence[np.ndarray]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows, one of each video that lasts so long, with (rows, A + 1) probabilities of the states."""
        columns = [np.array([rows[step] for rows in videos if len(rows) > step]) for step in range(len(videos[0]))]
        observed = [self._states({task: values[rows] for task, values in predicted.items()}) for rows in columns]
        before = [np.ones_like(observed[0])]
        for states, following in itertools.pairwise(observed):
            message = before[-1] * states
            unseen = np.tile((self._unseen * message).sum(axis=0), (len(message), 1))
            message = self._to_after.add_to(unseen, message)
            before.append((message / message.sum(axis=0))[:, : following.shape[1]])
        after = np.ones_like(observed[-1])
        for rows, states, earlier in zip(columns[::-1], observed[::-1], before[::-1], strict=True):
            ended = np.ones((len(after), states.shape[1] - after.shape[1]))  # videos of which this is the last segment
            after = np.concatenate([after, ended], axis=1)
            posterior = states * earlier * after
            yield rows, (posterior / posterior.sum(axis=0)).T
            message = after * states
            after = self._to_before.add_to(self._unseen * message.sum(axis=0), message)
            after = after / after.sum(axis=0)

    def marginals(self, task: str, predicted: Mapping[str, np.ndarray], posterior: np.ndarray) -> np.ndarray:
        """Return the probabilities of a task's classes (rows, K), from those of the states."""
        actions, other = self._split(predicted)
        growth = posterior[:, -1:] / other  # the factor by which pairs that are not in training became likelier
        moved = (posterior[:, :-1] - growth * actions).T
        return self._to_class[task].add_to((growth * predicted[task]).T, moved).T.clip(min=0)

    def _states(self, predicted: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the probabilities of the states as they were predicted, (A + 1, rows)."""
        return np.concatenate(self._split(predicted), axis=1).T.copy()

    def _split(self, predicted: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return the probabilities of the actions (rows, A), and of all other pairs together (rows, 1)."""
        verb, noun = (predicted[task][:, classes] for task, classes in self._classes.items())
        actions = verb * noun
        return actions, (1 - actions.sum(axis=1, keepdims=True)).clip(min=1e-12)


class Edges:
    """A sparse matrix, as weighted edges. Torch's own (2.14) is slower in COO, and in CSR needs MKL, so no Mac."""

    def __init__(self, source: np.ndarray, target: np.ndarray, weight: np.ndarray) -> None:
        order = np.argsort(target, kind="stable")
        self._source, self._weight = source[order], weight[order, None]
        self._target, self._first = np.unique(target[order], return_index=True)

    def add_to(self, total: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Add the weighted sums of `values` (sources, C) to `total` (targets, C), and return it."""
        if len(self._source):
            total[self._target] += np.add.reduceat(values[self._source] * self._weight, self._first, axis=0)
        return total
