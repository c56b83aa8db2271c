"""The contract of losses, for every name in the registry; each against its published formula, written out in numpy.

The references take complex numbers, so that derivatives come from a complex step, f(x + ih) / h: there is no difference
in it, so it is exact (Squire and Trapp, "Using complex variables to estimate derivatives of real functions", 1998).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from features.errors import OptionError
from heads.losses.action import ActionLoss
from heads.losses.catalogue import build_loss, loss_text, names, parse_loss
from heads.losses.class_counts import effective_number_weights, inverse_sqrt_weights, log_prior
from heads.losses.distillation import distillation

SPECS = [
    *names(),
    "ce:smoothing=0.1",
    "focal:gamma=0",
    "focal:gamma=0.5:alpha=0.25",
    "inv_sqrt:smoothing=0.1",
    "cb:beta=0.9999:smoothing=0.1",
    "logit_adjusted:tau=2",
    "ldam:max_margin=2:scale=30:defer=0.5",
    "sigmoid_focal:gamma=0.5:prior=0.5",
    "sigmoid_focal:gamma=0:alpha=-1",
]
every_loss = pytest.mark.parametrize("text", SPECS)
early_and_late = pytest.mark.parametrize("done", [0.0, 0.9])
DEVICES = ["meta"] + ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
COUNTS = (0, 1, 30, 2, 900, 7, 0, 60)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def _loss(text: str, counts: Any = COUNTS) -> nn.Module:
    return build_loss(parse_loss(text), torch.tensor(counts))


def _batch(num_segments: int = 5, *, scale: float = 3.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, 8) and labels (B,), among them classes of count 0."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_segments, len(COUNTS), generator=generator) * scale
    return logits, torch.randint(len(COUNTS), (num_segments,), generator=generator)


def _gradient(function: Callable[[torch.Tensor], torch.Tensor], logits: torch.Tensor) -> torch.Tensor:
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(function(logits).sum(), logits)[0]


# ---- the published formulas. x is (..., K) complex, label one class, counts one number a class


def _log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.real.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def _cross_entropy(x: np.ndarray, label: int, smoothing: float = 0.0) -> np.ndarray:
    num_classes = x.shape[-1]
    target = [smoothing / num_classes + (1 - smoothing) * (k == label) for k in range(num_classes)]
    return -(np.array(target) * _log_softmax(x)).sum(axis=-1)


def _softplus(x: np.ndarray) -> np.ndarray:
    small = np.exp(np.where(x.real > 0, -x, x))
    return np.where(x.real > 0, x, 0) + np.log(1 + small)


def _mean_one(weights: list[float], counts: list[int]) -> list[float]:
    mean = sum(weight * count for weight, count in zip(weights, counts, strict=True)) / sum(counts)
    return [weight / mean for weight in weights]


def _by_effective_number(counts: list[int], beta: float) -> list[float]:
    return _mean_one([(1 - beta) / (1 - beta ** max(count, 1)) for count in counts], counts)


def _ce(x, label, counts, done, *, smoothing):
    return _cross_entropy(x, label, smoothing)


def _focal(x, label, counts, done, *, gamma, alpha):
    p = np.exp(_log_softmax(x))
    miss = sum(p[..., k] for k in range(x.shape[-1]) if k != label)
    return alpha * miss**gamma * _cross_entropy(x, label)


def _sigmoid_focal(x, label, counts, done, *, gamma, alpha, prior):
    total = 0
    for k in range(x.shape[-1]):
        z = x[..., k] - np.log((1 - prior) / prior)
        z, weight = (z, alpha) if k == label else (-z, 1 - alpha)
        total = total + (1 if alpha == -1 else weight) * np.exp(-gamma * _softplus(z)) * _softplus(-z)
    return total


def _inv_sqrt(x, label, counts, done, *, smoothing):
    weights = _mean_one([max(count, 1) ** -0.5 for count in counts], counts)
    return weights[label] * _cross_entropy(x, label, smoothing)


def _cb(x, label, counts, done, *, beta, smoothing):
    return _by_effective_number(counts, beta)[label] * _cross_entropy(x, label, smoothing)


def _logit_adjusted(x, label, counts, done, *, tau):
    total = sum(max(count, 1) for count in counts)
    return _cross_entropy(x + np.array([tau * np.log(max(count, 1) / total) for count in counts]), label)


def _balanced_softmax(x, label, counts, done):
    x = x - x.real.max(axis=-1, keepdims=True)
    total = sum(max(count, 1) * np.exp(x[..., k]) for k, count in enumerate(counts))
    return np.log(total) - np.log(max(counts[label], 1)) - x[..., label]


def _ldam(x, label, counts, done, *, max_margin, scale, defer, beta):
    largest = max(count**-0.25 for count in counts if count)
    margin = max_margin * counts[label] ** -0.25 / largest if counts[label] else max_margin
    x = x.copy()
    x[..., label] -= margin
    weight = _by_effective_number(counts, beta)[label] if done >= defer else 1.0
    return weight * _cross_entropy(scale * x, label)


REFERENCES = {
    "ce": _ce,
    "focal": _focal,
    "sigmoid_focal": _sigmoid_focal,
    "inv_sqrt": _inv_sqrt,
    "cb": _cb,
    "logit_adjusted": _logit_adjusted,
    "balanced_softmax": _balanced_softmax,
    "ldam": _ldam,
}
_smoothing = st.sampled_from([0.0, 0.1, 0.5])
_gamma = st.sampled_from([0.0, 0.3, 1.0, 2.0, 5.0])
OPTIONS = {
    "ce": {"smoothing": _smoothing},
    "focal": {"gamma": _gamma, "alpha": st.sampled_from([0.25, 1.0])},
    "sigmoid_focal": {
        "gamma": _gamma,
        "alpha": st.sampled_from([-1.0, 0.0, 0.25, 1.0]),
        "prior": st.sampled_from([0.01, 0.5]),
    },
    "inv_sqrt": {"smoothing": _smoothing},
    "cb": {"beta": st.sampled_from([0.0, 0.9, 0.999, 0.999999]), "smoothing": _smoothing},
    "logit_adjusted": {"tau": st.sampled_from([0.0, 0.5, 1.0, 2.0])},
    "balanced_softmax": {},
    "ldam": {
        "max_margin": st.sampled_from([0.0, 0.5, 2.0]),
        "scale": st.sampled_from([0.5, 1.0, 5.0]),
        "defer": st.sampled_from([0.0, 0.8]),
        "beta": st.sampled_from([0.0, 0.99, 0.9999]),
    },
}


@dataclass(frozen=True)
class Case:
    """Logits (B, K) float64, labels (B,), counts (K,) and `done` of one call."""

    logits: np.ndarray
    labels: list[int]
    counts: list[int]
    done: float


@st.composite
def _cases(draw: st.DrawFn) -> Case:
    num_classes, num_segments = draw(st.integers(2, 300)), draw(st.integers(1, 3))
    bound = draw(st.sampled_from([1.0, 20.0, 1e4]))
    counts = draw(st.lists(st.integers(0, 300), min_size=num_classes, max_size=num_classes).filter(any))
    return Case(
        draw(hnp.arrays(np.float64, (num_segments, num_classes), elements=st.floats(-bound, bound))),
        draw(st.lists(st.integers(0, num_classes - 1), min_size=num_segments, max_size=num_segments)),
        counts,
        draw(st.sampled_from([0.0, 0.79, 0.8, 0.99])),
    )


def _complex_step(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """The derivative of function((..., K)) -> (...) at x (K,)."""
    return function(x + 1e-30j * np.eye(len(x))).imag / 1e-30


def _check(actual: torch.Tensor, expected: Any, *, largest: float = 1.0) -> None:
    """Equal to 1e-6, of the largest of the buffers, which are float32."""
    expected = torch.from_numpy(np.array(expected))
    torch.testing.assert_close(actual.detach(), expected, rtol=1e-6, atol=1e-6 * largest)


@pytest.mark.parametrize("name", names())
@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_a_loss_and_its_gradient_are_those_of_the_published_formula(name, data):
    case = data.draw(_cases())
    options = data.draw(st.fixed_dictionaries(OPTIONS[name]))
    loss = _loss(":".join([name, *(f"{key}={value}" for key, value in options.items())]), case.counts)
    labels = torch.tensor(case.labels)
    logits = torch.from_numpy(case.logits)
    references = [
        lambda x, label=label: REFERENCES[name](x, label, case.counts, case.done, **options) for label in case.labels
    ]
    expected = [reference(row + 0j).real for reference, row in zip(references, case.logits, strict=True)]
    slopes = [_complex_step(reference, row) for reference, row in zip(references, case.logits, strict=True)]
    largest = max([1.0, *(float(buffer.abs().max()) for buffer in loss.buffers())])
    _check(loss(logits, labels, case.done), expected, largest=largest)
    _check(_gradient(lambda x: loss(x, labels, case.done), logits), slopes, largest=largest)


@pytest.mark.parametrize("alpha", [-1.0, 0.25])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_sigmoid_focal_is_that_of_torchvision_with_every_bias_at_the_prior(alpha, gamma):
    logits, labels = _batch()
    loss = _loss(f"sigmoid_focal:alpha={alpha}:gamma={gamma}:prior=0.01")
    targets = F.one_hot(labels, len(COUNTS)).float()

    def reference(x):
        return sigmoid_focal_loss(x - np.log(99), targets, alpha=alpha, gamma=gamma).sum(dim=1)

    torch.testing.assert_close(loss(logits, labels, 0.0), reference(logits))
    torch.testing.assert_close(_gradient(lambda x: loss(x, labels, 0.0), logits), _gradient(reference, logits))


def test_sigmoid_focal_without_gamma_and_alpha_is_summed_binary_cross_entropy():
    logits, labels = _batch()
    expected = F.binary_cross_entropy_with_logits(logits, F.one_hot(labels, 8).float(), reduction="none").sum(dim=1)
    torch.testing.assert_close(_loss("sigmoid_focal:gamma=0:alpha=-1:prior=0.5")(logits, labels, 0.0), expected)


@pytest.mark.parametrize("text", ["ce", "inv_sqrt", "cb:beta=0.9", "logit_adjusted:tau=0.3", "balanced_softmax"])
@given(counts=st.lists(st.integers(1, 40), min_size=2, max_size=6))
@settings(deadline=None, max_examples=20)
def test_at_the_initial_logits_no_bias_could_be_better(text, counts):
    loss = _loss(text, counts)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    bias = torch.from_numpy(loss.initial_logits(np.array(counts))).requires_grad_()
    loss(bias.expand(len(labels), -1), labels, 0.0).mean().backward()
    assert bias.grad.abs().max() < 1e-5


def test_a_loss_with_a_prior_of_its_own_begins_at_zero():
    for text in ("sigmoid_focal", "balanced_softmax"):
        assert not _loss(text).initial_logits(np.array(COUNTS)).any()


def test_sigmoid_focal_starts_at_its_prior():
    assert _loss("sigmoid_focal:prior=0.02").bias == pytest.approx(np.log(0.02 / 0.98))


# ---- what a loss reduces to

EQUAL = (4,) * len(COUNTS)


@pytest.mark.parametrize(
    ("text", "counts", "done"),
    [
        ("focal:gamma=0", COUNTS, 0.0),
        ("inv_sqrt", EQUAL, 0.0),
        ("cb", EQUAL, 0.0),
        ("cb:beta=0", COUNTS, 0.0),
        ("logit_adjusted:tau=0", COUNTS, 0.0),
        ("logit_adjusted", EQUAL, 0.0),
        ("balanced_softmax", EQUAL, 0.0),
        ("ldam:max_margin=0", COUNTS, 0.79),
        ("ldam:max_margin=0:beta=0", COUNTS, 0.8),
        ("ldam:max_margin=0", EQUAL, 0.8),
    ],
)
def test_a_loss_without_its_own_part_is_cross_entropy(text, counts, done):
    logits, labels = _batch()
    expected = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(_loss(text, counts)(logits, labels, done), expected)


@pytest.mark.parametrize("text", ["inv_sqrt:smoothing=0.1", "cb:smoothing=0.1"])
def test_label_smoothing_under_equal_weights_is_that_of_torch(text):
    logits, labels = _batch()
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(_loss(text, EQUAL)(logits, labels, 0.0), expected)


@pytest.mark.parametrize(
    ("text", "weights"),
    [("inv_sqrt", inverse_sqrt_weights), ("cb:beta=0.9", lambda counts: effective_number_weights(counts, 0.9))],
)
def test_a_weighted_loss_is_weighted_cross_entropy_of_torch(text, weights):
    logits, labels = _batch()
    expected = F.cross_entropy(logits, labels, weight=torch.from_numpy(weights(np.array(COUNTS))), reduction="none")
    torch.testing.assert_close(_loss(text)(logits, labels, 0.0), expected)


def test_ldam_begins_to_weigh_at_its_share_of_training():
    logits, labels = _batch()
    loss, weights = _loss("ldam:defer=0.6:beta=0.99"), effective_number_weights(np.array(COUNTS), 0.99)
    unweighted = loss(logits, labels, 0.59)
    torch.testing.assert_close(loss(logits, labels, 0.6), unweighted * torch.from_numpy(weights)[labels])
    torch.testing.assert_close(loss(logits, labels, 0.0), unweighted)


# ---- class counts

_counts = st.lists(st.integers(0, 5000), min_size=2, max_size=300).filter(any)


@pytest.mark.parametrize(
    "weights", [inverse_sqrt_weights, *(lambda n, b=b: effective_number_weights(n, b) for b in (0, 0.9, 0.999999))]
)
@given(counts=_counts)
@settings(deadline=None)
def test_weights_have_a_mean_of_one_over_the_training_segments(weights, counts):
    segment_weights = np.repeat(weights(np.array(counts)).astype(np.float64), counts)
    assert segment_weights.mean() == pytest.approx(1, rel=1e-6)


@given(counts=_counts)
@settings(deadline=None)
def test_priors_are_shares_and_a_class_of_count_zero_is_as_rare_as_one_of_count_one(counts):
    prior = np.exp(log_prior(np.array(counts)).astype(np.float64))
    expected = [max(count, 1) / sum(max(count, 1) for count in counts) for count in counts]
    np.testing.assert_allclose(prior, expected, rtol=2e-6)


def test_rare_classes_weigh_by_the_root_of_their_counts():
    weights = inverse_sqrt_weights(np.array([1, 4, 100]))
    np.testing.assert_allclose(weights / weights[0], [1, 1 / 2, 1 / 10], rtol=1e-6)


def test_the_weights_of_effective_numbers_go_from_equal_to_inverse_counts():
    counts = np.array([1, 4, 100])
    for beta, expected in ((0.0, [1, 1, 1]), (1 - 1e-9, [1, 1 / 4, 1 / 100])):
        weights = effective_number_weights(counts, beta)
        np.testing.assert_allclose(weights / weights[0], expected, rtol=1e-6)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_the_loss_of_logits_adjusted_afterwards_is_cross_entropy_of_those_before(tau):
    logits, labels = _batch()
    adjusted = logits - tau * torch.from_numpy(log_prior(np.array(COUNTS)))
    expected = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(_loss(f"logit_adjusted:tau={tau}")(adjusted, labels, 0.0), expected)


def test_adjusting_afterwards_finds_the_class_that_is_likeliest_under_equal_priors():
    prior, likelihood = np.array([90, 9, 1]), np.array([0.2, 0.3, 0.5])
    logits = np.log(prior * likelihood)
    assert (logits.argmax(), (logits - log_prior(prior)).argmax()) == (0, 2)


# ---- the contract


def test_every_loss_has_a_reference():
    assert set(REFERENCES) == set(OPTIONS) == set(names())


@every_loss
@early_and_late
@pytest.mark.parametrize("num_segments", [1, 64])
def test_a_loss_gives_one_number_a_segment_none_below_zero(text, done, num_segments):
    loss = _loss(text)(*_batch(num_segments), done)
    assert (loss.shape, loss.dtype, bool((loss >= 0).all())) == ((num_segments,), torch.float32, True)


@every_loss
@early_and_late
def test_loss_and_gradient_are_finite_for_extreme_logits_and_absent_classes(text, done):
    loss, num_classes = _loss(text), len(COUNTS)
    for logits in (
        1e4 * (2 * torch.eye(num_classes) - 1),  # sure of one class, which is right
        1e4 * (1 - 2 * torch.eye(num_classes)),  # sure that it is wrong
        1e4 * torch.ones(num_classes, num_classes),
        torch.zeros(num_classes, num_classes),
        _batch(num_classes, scale=4000)[0].clamp(-1e4, 1e4),
    ):
        labels = torch.arange(num_classes)
        assert loss(logits, labels, done).isfinite().all()
        assert _gradient(lambda x: loss(x, labels, done), logits).isfinite().all()  # noqa: B023


@every_loss
@early_and_late
def test_float32_is_near_float64(text, done):
    logits, labels = _batch(64)
    loss = _loss(text)
    exact = loss(logits.double(), labels, done).float()
    torch.testing.assert_close(loss(logits, labels, done), exact, rtol=1e-5, atol=1e-5)


@every_loss
@early_and_late
def test_a_segment_alone_has_the_loss_it_has_among_others(text, done):
    logits, labels = _batch()
    loss = _loss(text)
    row_losses = torch.cat([loss(logits[row : row + 1], labels[row : row + 1], done) for row in range(len(labels))])
    torch.testing.assert_close(loss(logits, labels, done), row_losses, rtol=1e-6, atol=1e-6)


@every_loss
@pytest.mark.parametrize("device", DEVICES)
def test_a_loss_moves_with_its_device_and_computes_in_float32(text, device):
    loss = _loss(text).to(device)
    assert {buffer.dtype for buffer in loss.buffers()} <= {torch.float32}
    logits, labels = (tensor.to(device) for tensor in _batch())
    for done in (0.0, 0.9):
        assert loss(logits, labels, done).device.type == device
        assert _gradient(lambda x: loss(x, labels, done), logits).dtype == torch.float32  # noqa: B023


@pytest.mark.parametrize("text", ["ce", "ce:smoothing=0.1", "logit_adjusted"])
def test_two_label_sets_mixed_are_one_mixed_target(text):
    (logits, labels), (_, other_labels) = _batch(), _batch(seed=1)
    loss, share = _loss(text), torch.rand(len(labels))
    mixed_loss = share * loss(logits, labels, 0.0) + (1 - share) * loss(logits, other_labels, 0.0)
    target = share[:, None] * F.one_hot(labels, 8) + (1 - share[:, None]) * F.one_hot(other_labels, 8)
    adjusted = logits + (torch.from_numpy(log_prior(np.array(COUNTS))) if text == "logit_adjusted" else 0)
    smoothing = 0.1 if "smoothing" in text else 0.0
    torch.testing.assert_close(
        mixed_loss, F.cross_entropy(adjusted, target, label_smoothing=smoothing, reduction="none")
    )


@every_loss
def test_two_label_sets_mixed_give_a_finite_mean_and_gradient(text):
    (logits, labels), (_, other_labels) = _batch(scale=4000), _batch(seed=1)
    loss, share = _loss(text), torch.rand(len(labels))

    def mixed_loss(x):
        return (share * loss(x, labels, 0.5) + (1 - share) * loss(x, other_labels, 0.5)).mean()

    assert mixed_loss(logits).isfinite()
    assert _gradient(mixed_loss, logits).isfinite().all()


# ---- losses as text


@pytest.mark.parametrize("text", SPECS)
def test_a_loss_as_text_is_read_as_the_same_loss(text):
    assert parse_loss(loss_text(parse_loss(text))) == parse_loss(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", r"no loss ''\. Known: balanced_softmax, cb, ce"),
        ("focl", r"no loss 'focl'; did you mean 'focal'\? Known: balanced_softmax, cb, ce"),
        ("focal:gama=2", r"no option of focal 'gama'; did you mean 'gamma'\? Known: alpha, gamma\."),
        ("focal:gamma=high", "gamma is 'high', not a number"),
        ("focal:gamma=-1", "gamma is -1.0, not from 0 to 100"),
        ("focal:gamma=nan", "gamma is nan, not from 0 to 100"),
        ("focal:alpha=0", "alpha is 0.0, not from 0.001 to 1000"),
        ("focal:alpha=inf", "alpha is inf, not from 0.001 to 1000"),
        ("ce:smoothing=1", r"smoothing is 1.0, not in \[0, 1\)"),
        ("cb:beta=1", r"beta is 1.0, not in \[0, 1\)"),
        ("logit_adjusted:tau=-1", "tau is -1.0, not from 0 to 100"),
        ("balanced_softmax:tau=1", "balanced_softmax has no options, so none 'tau'"),
        ("ldam:max_margin=-1", "max_margin is -1.0, not from 0 to 100"),
        ("ldam:scale=0", "scale is 0.0, not from 0.01 to 100"),
        ("ldam:defer=2", "defer is 2.0, not from 0 to 1"),
        ("sigmoid_focal:alpha=-0.5", "alpha is -0.5, not from 0 to 1, nor -1 for none"),
        ("sigmoid_focal:alpha=nan", "alpha is nan, not from 0 to 1, nor -1 for none"),
        ("sigmoid_focal:prior=1", "prior is 1.0, not from 1e-06 to 0.999999"),
    ],
)
def test_a_loss_that_cannot_be_meant_is_refused(text, expected):
    with pytest.raises(OptionError, match=f"^--loss: {expected}"):
        parse_loss(text)


# ---- the action


def _action(x: np.ndarray, verb_class: int, noun_class: int, pairs: set[tuple[int, int]]) -> np.ndarray:
    """x (..., 97 + 300) complex -> (...): cross-entropy over the pairs and the segment's own."""
    pairs = sorted(pairs | {(verb_class, noun_class)})
    logits = np.stack([x[..., verb] + x[..., 97 + noun] for verb, noun in pairs], axis=-1)
    return _cross_entropy(logits, pairs.index((verb_class, noun_class)))


_pair = st.tuples(st.integers(0, 96), st.integers(0, 299))


@given(
    pairs=st.lists(_pair, min_size=1, max_size=60),
    other_pair=_pair,
    bound=st.sampled_from([3.0, 1e4]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=25)
def test_the_action_loss_and_its_gradient_are_cross_entropy_over_the_pairs_shown(pairs, other_pair, bound, seed):
    loss = ActionLoss(*torch.tensor(pairs).T)
    x = np.random.default_rng(seed).uniform(-bound, bound, (3, 397))
    labels = [pairs[0], pairs[-1], other_pair]
    logits = torch.from_numpy(x)
    references = [lambda row, pair=pair: _action(row, *pair, set(pairs)) for pair in labels]

    def action_loss(logits):
        return loss(logits[:, :97], logits[:, 97:], *torch.tensor(labels).T)

    _check(action_loss(logits), [reference(row + 0j).real for reference, row in zip(references, x, strict=True)])
    slopes = [_complex_step(reference, row) for reference, row in zip(references, x, strict=True)]
    _check(_gradient(action_loss, logits), slopes)


def _action_batch(num_segments: int, scale: float = 3.0) -> list[torch.Tensor]:
    labels = [torch.randint(num_classes, (num_segments,)) for num_classes in (97, 300)]
    return [torch.randn(num_segments, 97) * scale, torch.randn(num_segments, 300) * scale, *labels]


def test_the_action_loss_over_all_pairs_is_the_verbs_and_the_nouns():
    verb, noun, verb_class, noun_class = _action_batch(4)
    expected = F.cross_entropy(verb, verb_class, reduction="none") + F.cross_entropy(noun, noun_class, reduction="none")
    loss = ActionLoss(*torch.cartesian_prod(torch.arange(97), torch.arange(300)).T)
    torch.testing.assert_close(loss(verb, noun, verb_class, noun_class), expected)


def test_the_action_loss_counts_a_pair_once_however_often_it_is_shown():
    batch = _action_batch(4)
    pair_loss, repeated_pair_loss = (ActionLoss(*torch.tensor([(3, 4), (5, 6)] + [(3, 4)] * n).T) for n in (0, 9))
    torch.testing.assert_close(pair_loss(*batch), repeated_pair_loss(*batch))


def test_the_action_loss_is_finite_where_the_best_verb_and_the_best_noun_are_no_pair():
    loss = ActionLoss(torch.tensor([0, 1]), torch.tensor([1, 0]))
    verb, noun = torch.zeros(1, 97), torch.zeros(1, 300)
    verb[0, 0] = noun[0, 0] = 1e4
    verb[0, 1] = noun[0, 1] = -1e4
    labels = torch.tensor([0]), torch.tensor([1])
    torch.testing.assert_close(loss(verb, noun, *labels), torch.tensor([2.0]).log())
    assert _gradient(lambda x: loss(x, noun, *labels), verb).isfinite().all()


def test_the_action_loss_has_a_row_a_segment_in_float32_and_moves_with_its_device():
    batch = _action_batch(5)
    loss = ActionLoss(torch.randint(97, (50,)), torch.randint(300, (50,)))
    batch_losses = loss(*batch)
    row_losses = torch.cat([loss(*(tensor[row : row + 1] for tensor in batch)) for row in range(5)])
    torch.testing.assert_close(batch_losses, row_losses, rtol=1e-6, atol=1e-6)
    assert (batch_losses.dtype, bool((batch_losses >= 0).all())) == (torch.float32, True)
    for device in DEVICES:
        assert loss.to(device)(*(tensor.to(device) for tensor in batch)).device.type == device


# ---- distillation


@given(case=_cases(), seed=st.integers(0, 2**32 - 1), temperature=st.sampled_from([0.5, 1.0, 4.0, 50.0]))
@settings(deadline=None, max_examples=25)
def test_distillation_and_its_gradient_are_those_of_the_published_formula(case, seed, temperature):
    teacher = np.random.default_rng(seed).permuted(case.logits, axis=1)

    def reference(x, teacher):
        p, q = _log_softmax(x / temperature), _log_softmax(teacher / temperature)
        return temperature**2 * sum(np.exp(q[k]) * (q[k] - p[..., k]) for k in range(len(q)))

    logits, teacher_logits = torch.from_numpy(case.logits), torch.from_numpy(teacher)
    rows = list(zip(case.logits, teacher, strict=True))
    largest = temperature**2
    _check(
        distillation(logits, teacher_logits, temperature),
        [reference(x + 0j, row).real for x, row in rows],
        largest=largest,
    )
    _check(
        _gradient(lambda x: distillation(x, teacher_logits, temperature), logits),
        [_complex_step(lambda x, row=row: reference(x, row), x) for x, row in rows],
        largest=largest,
    )


def test_distillation_is_kl_divergence_of_torch():
    (logits, _), (teacher, _) = _batch(), _batch(seed=1)
    expected = 9 * F.kl_div((logits / 3).log_softmax(1), (teacher / 3).softmax(1), reduction="none").sum(dim=1)
    torch.testing.assert_close(distillation(logits, teacher, 3.0), expected)


def test_distillation_from_oneself_is_nothing():
    logits, _ = _batch()
    torch.testing.assert_close(distillation(logits, logits + 5, 2.0), torch.zeros(5), rtol=0, atol=1e-5)


def test_distillation_at_temperature_one_has_the_gradient_of_cross_entropy_with_the_teachers_probabilities():
    (logits, _), (teacher, _) = _batch(), _batch(seed=1)
    expected = _gradient(lambda x: F.cross_entropy(x, teacher.softmax(1), reduction="none"), logits)
    torch.testing.assert_close(_gradient(lambda x: distillation(x, teacher, 1.0), logits), expected)


def test_distillation_at_a_high_temperature_has_the_gradient_of_matching_logits():
    (logits, _), (teacher, _) = ((tensor.double(), labels) for tensor, labels in (_batch(), _batch(seed=1)))
    difference = logits - teacher
    expected = (difference - difference.mean(dim=1, keepdim=True)) / logits.shape[1]
    gradient = _gradient(lambda x: distillation(x, teacher, 1e4), logits)
    torch.testing.assert_close(gradient, expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
def test_distillation_is_finite_for_extreme_logits(temperature):
    logits = 1e4 * (2 * torch.eye(8) - 1)
    teacher = logits.flip(0)
    assert distillation(logits, teacher, temperature).isfinite().all()
    assert _gradient(lambda x: distillation(x, teacher, temperature), logits).isfinite().all()
