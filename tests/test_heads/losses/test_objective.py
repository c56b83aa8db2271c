"""The loss of a batch with an action classifier, against torch's own losses of each segment, added up plainly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import drawn_predictions, labelled_segments
from torch.nn import functional as F

from features.actions import pairs_of
from heads.config import Objective
from heads.data.augment import Mixture
from heads.losses.class_counts import class_counts
from heads.losses.objective import TrainingLoss

SEGMENTS = labelled_segments((3, 4), (0, 299), (3, 4), (0, 0), (1, 4), (3, 4))
ACTIONS = [(0, 0), (0, 299), (1, 4), (3, 4), (5, 5)]  # the last one is of validation alone
LABELS = torch.tensor([3, 1, 3, 0, 2, 3])
PAIRS = np.array(ACTIONS)


def _logits(num: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = {"verb": 97, "noun": 300, "action": len(ACTIONS)}
    return {task: torch.randn(num, width, generator=generator) for task, width in sizes.items()}


def _loss(objective: Objective, **options: object) -> TrainingLoss:
    return TrainingLoss(objective, SEGMENTS, options.pop("teacher", None), PAIRS)


def _cross_entropies(logits: dict[str, torch.Tensor], index: torch.Tensor) -> dict[str, torch.Tensor]:
    labels = {"verb": torch.tensor(SEGMENTS.verb_class), "noun": torch.tensor(SEGMENTS.noun_class), "action": LABELS}
    return {task: F.cross_entropy(logits[task], labels[task][index], reduction="none") for task in logits}


@settings(max_examples=12, deadline=None)
@given(
    index=st.lists(st.integers(0, 5), min_size=2, max_size=6),
    weights=st.tuples(*[st.sampled_from([0.0, 0.5, 2.0])] * 3).filter(any),
    seed=st.integers(0, 1000),
    is_mixed=st.booleans(),
)
def test_it_is_the_weighted_sum_of_three_and_mixed_in_the_shares_of_the_labels(index, weights, seed, is_mixed):
    generator = torch.Generator().manual_seed(seed)
    rows, logits = torch.tensor(index), _logits(len(index), seed)
    mixture = Mixture(torch.randperm(len(index), generator=generator), torch.rand(len(index), generator=generator))
    objective = Objective(
        action_head=True, **dict(zip(("verb_weight", "noun_weight", "action_head_weight"), weights, strict=True))
    )
    own, partner = (_cross_entropies(logits, which) for which in (rows, rows[mixture.partner]))
    expected = torch.zeros(len(index))
    for task, weight in zip(("verb", "noun", "action"), weights, strict=True):
        share = mixture.own if is_mixed else torch.ones(len(index))
        expected += weight * (share * own[task] + (1 - share) * partner[task])
    actual = _loss(objective)(logits, rows, mixture if is_mixed else None, 0.5)
    torch.testing.assert_close(actual, expected.mean(), rtol=1e-5, atol=1e-5)


def test_a_loss_that_knows_counts_has_those_of_the_actions():
    assert class_counts(SEGMENTS, "action", PAIRS).tolist() == [1, 1, 1, 3, 0]
    loss = _loss(Objective(action_head=True, action_head_loss="logit_adjusted"))
    counts = torch.tensor([1.0, 1.0, 1.0, 3.0, 1.0])
    logits, index = _logits(6), torch.arange(6)
    plain = _cross_entropies(logits, index)
    adjusted = F.cross_entropy(logits["action"] + (counts / counts.sum()).log(), LABELS)
    torch.testing.assert_close(loss(logits, index, None, 0.5), (plain["verb"] + plain["noun"]).mean() + adjusted)


def test_biases_begin_at_the_log_prior_of_the_actions():
    initial = _loss(Objective(action_head=True)).initial_logits()["action"]
    torch.testing.assert_close(initial.exp(), torch.tensor([1, 1, 1, 3, 1]) / 7)


def test_a_teacher_teaches_verbs_and_nouns_and_labels_the_actions():
    objective = Objective(action_head=True, teacher="a.pt", teacher_weight=0.25, verb_weight=0, noun_weight=0)
    loss = _loss(objective, teacher=drawn_predictions(SEGMENTS))
    logits, index = _logits(6), torch.arange(6)
    torch.testing.assert_close(loss(logits, index, None, 0.5), F.cross_entropy(logits["action"], LABELS))


def test_the_actions_of_several_lists_are_told_apart():
    np.testing.assert_array_equal(pairs_of(SEGMENTS, labelled_segments((5, 5), (3, 4))), PAIRS)


@pytest.mark.parametrize("pairs", [None, np.empty((0, 2), dtype=np.int64)])
def test_without_a_classifier_there_are_two_losses(pairs):
    assert list(TrainingLoss(Objective(), SEGMENTS, None, pairs).losses) == ["verb", "noun"]
