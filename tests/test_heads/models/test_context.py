"""What is particular to the head `context`: full attention with a mask, and predictions that do not see each other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from heads.config import InputSettings
from heads.data.steps import Queries, Steps
from heads.models.catalogue import build_head
from heads.models.context import Context
from heads.models.model import Model, ModelConfig, StreamSpec
from heads.models.shape import HeadShape, Logits

DIMS = (6, 10)
TASKS = {"verb": 97, "noun": 300, "action": 5}
WINDOW_S = 8.0
# Steps of each set in each window; the third window has none of the second set, the last has none at all.
LENGTHS = ((9, 4, 7, 0), (5, 3, 0, 0))
# Start and stop of the segments of each window: between two steps, beyond the window, and the whole window among them.
INTERVALS = (
    [(-3.0, -1.0), (-1.0, 2.5), (0.3, 0.31), (-6.0, 3.0)],
    [(-4.0, 4.0), (1.0, 2.0)],
    [(-2.0, 0.5)],
    [(-1.0, 1.0)],
)


@pytest.fixture(scope="module")
def head() -> Context:
    torch.manual_seed(0)
    shape = HeadShape(sum(DIMS), tasks=TASKS, sets=DIMS)
    head = build_head("context", shape, {"width": 16, "hidden": 12, "attention_heads": 2, "layers": 3}).eval()
    for layer in head.layers:
        nn.init.normal_(layer.inside)
    nn.init.normal_(head.queries)
    return head


def windows_of(seed: int = 0) -> tuple[Steps, ...]:
    """Windows of both sets, each set at times of its own, with garbage in the padding."""
    generator = torch.Generator().manual_seed(seed)
    windows = []
    for dim, lengths in zip(DIMS, LENGTHS, strict=True):
        num_steps = max(lengths) + 2
        mask = torch.arange(num_steps) < torch.tensor(lengths)[:, None]
        seconds = (torch.rand(mask.shape, generator=generator) - 0.5).sort(dim=1).values * WINDOW_S
        features = torch.randn(*mask.shape, dim, generator=generator)
        windows.append(Steps(features.where(mask[..., None], torch.tensor(float("nan"))), mask, seconds, mask))
    return tuple(windows)


def queries_of(intervals: list[list[tuple[float, float]]]) -> Queries:
    widest = max(map(len, intervals))
    padded = torch.tensor([[*own, *[(0.0, 0.0)] * (widest - len(own))] for own in intervals])
    places = [row * widest + column for row, own in enumerate(intervals) for column in range(len(own))]
    return Queries(padded, torch.tensor(places))


# ---- the reference: one window, one segment and one task at a time, in plain attention over all that there is


def reference(head: Context, windows: tuple[Steps, ...], row: int, interval: tuple[float, float], task: int):
    tokens, times = [], []
    for linear, steps in zip(head.inputs, windows, strict=True):
        for step in range(int(steps.mask[row].sum())):
            second = float(steps.seconds[row, step])
            tokens.append(linear.weight @ steps.features[row, step] + linear.bias + encoded(head, second, second))
            times.append(second)
    inside = torch.tensor([interval[0] <= time <= interval[1] for time in times] + [False])
    tokens.append(encoded(head, *interval) + head.queries[task])
    times.append((interval[0] + interval[1]) / 2)
    x, query = torch.stack(tokens), len(tokens) - 1
    allowed = torch.ones(len(x), len(x), dtype=torch.bool)
    allowed[:query, query] = False  # no step sees the query
    for layer in head.layers:
        normed = F.layer_norm(x, x.shape[-1:], layer.norm.weight, layer.norm.bias)
        projected = normed @ layer.queries_keys_values.weight.T + layer.queries_keys_values.bias
        outputs = []
        for number, parts in enumerate(zip(*(part.chunk(2, dim=1) for part in projected.chunk(3, dim=1)), strict=True)):
            q, k, v = turned(parts[0], times), turned(parts[1], times), parts[2]
            scores = (q @ k.conj().T).real / math.sqrt(v.shape[1])
            scores[query] += inside * layer.inside[task, number]
            outputs.append(scores.masked_fill(~allowed, -torch.inf).softmax(dim=1) @ v)
        x = x + torch.cat(outputs, dim=1) @ layer.output.weight.T + layer.output.bias
        x = layer.feed_forward(x)
    vector = F.layer_norm(x[query], x.shape[-1:], head.norm.weight, head.norm.bias)
    return head.classifier[list(TASKS)[task]](vector)


def wavelengths(num: int) -> torch.Tensor:
    return torch.tensor([0.1 * 600 ** (number / (num - 1)) for number in range(num)])


def encoded(head: Context, start: float, stop: float) -> torch.Tensor:
    angles = [2 * math.pi * end / wavelengths(16) for end in (start, stop)]
    return head.intervals.layers(torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())]))


def turned(x: torch.Tensor, times: list[float]) -> torch.Tensor:
    """Pairs of values as complex numbers, turned by the angle of their time."""
    real, imaginary = x.chunk(2, dim=1)
    angle = 2 * math.pi * torch.tensor(times)[:, None] / wavelengths(real.shape[1])
    return torch.complex(real, imaginary) * torch.polar(torch.ones_like(angle), angle)


@torch.no_grad()
def test_it_is_full_attention_with_a_mask_one_query_at_a_time(head):
    windows = windows_of()
    logits = head(windows, queries_of(list(INTERVALS)))
    pairs = [(row, interval) for row, own in enumerate(INTERVALS) for interval in own]
    for number, (row, interval) in enumerate(pairs):
        for task, name in enumerate(TASKS):
            expected = reference(head, windows, row, interval, task)
            torch.testing.assert_close(logits[name][number], expected, rtol=0, atol=1e-5)


# ---- predictions do not see each other


def by_segment(logits: Logits, intervals: list[list[tuple[float, float]]]) -> dict[tuple[int, tuple], torch.Tensor]:
    pairs = [(row, interval) for row, own in enumerate(intervals) for interval in own]
    together = torch.cat(list(logits.values()), dim=1)
    return {pair: together[number] for number, pair in enumerate(pairs)}


@torch.no_grad()
@pytest.mark.parametrize(
    "change",
    [
        lambda own: own[::-1],
        lambda own: own[:1],
        lambda own: [*own, (-1.5, 1.5), (-3.9, 0.0), own[0]],
        lambda own: [(0.5, 0.6), *own[1:]],
    ],
    ids=["permuted", "one", "more", "others"],
)
def test_logits_are_the_same_whichever_other_segments_are_asked_for(head, change):
    changed = [change(own) for own in INTERVALS]
    before = by_segment(head(windows_of(), queries_of(list(INTERVALS))), list(INTERVALS))
    after = by_segment(head(windows_of(), queries_of(changed)), changed)
    both = before.keys() & after.keys()
    assert len(both) >= 4
    for pair in both:
        torch.testing.assert_close(after[pair], before[pair], rtol=0, atol=1e-5)


@torch.no_grad()
def test_windows_do_not_see_each_other(head):
    windows, queries = windows_of(), queries_of(list(INTERVALS))
    before = by_segment(head(windows, queries), list(INTERVALS))
    alone = tuple(steps.map(lambda part: part[1:2]) for steps in windows)
    after = by_segment(head(alone, queries_of([INTERVALS[1]])), [INTERVALS[1]])
    for (_, interval), logits in after.items():
        torch.testing.assert_close(logits, before[1, interval], rtol=0, atol=1e-5)


@torch.no_grad()
def test_interval_content_and_set_are_read(head):
    windows, queries = windows_of(), queries_of([[(-1.0, 1.0)]] * 4)
    logits = head(windows, queries)["verb"]
    later = head(windows, queries._replace(intervals=queries.intervals + 1))["verb"]
    assert float((later - logits).abs().amax(dim=1).min()) > 1e-3
    for number in range(2):
        changed = list(windows)
        changed[number] = windows[number]._replace(features=windows[number].features + 1)
        differs = (head(tuple(changed), queries)["verb"] - logits).abs().amax(dim=1) > 1e-3
        assert differs.tolist() == [length > 0 for length in LENGTHS[number]]


# ---- regions


@torch.no_grad()
def test_cells_that_lack_their_region_change_nothing():
    torch.manual_seed(0)
    inputs = InputSettings(window=WINDOW_S, window_hop=1.0)
    specs = (StreamSpec("boxes", DIMS[0], 3, True), StreamSpec("sound", DIMS[1]))
    model = Model(ModelConfig("context", {"width": 16, "hidden": 8, "attention_heads": 2}, False, specs, inputs)).eval()
    boxes, sound = (steps._replace(features=steps.features.nan_to_num()) for steps in windows_of())
    has_region = torch.rand(*boxes.mask.shape, 3) < 0.4
    has_region[:, 0] = torch.tensor([True, False, False])
    has_region[2] = False  # a window without any is seen with all cells
    boxes, queries = boxes._replace(has_region=has_region), queries_of(list(INTERVALS))
    logits = model([boxes, sound], queries)["verb"]
    for chosen, changes in ((~has_region, [False, False, True, False]), (has_region, [True, True, False, False])):
        other = boxes.features + 5 * chosen.repeat_interleave(DIMS[0] // 3, dim=-1)
        differs = (model([boxes._replace(features=other), sound], queries)["verb"] - logits).abs().amax(dim=1) > 1e-4
        rows = queries.places // queries.intervals.shape[1]
        assert differs.tolist() == [changes[row] for row in rows]


# ---- stretches that are hidden


def test_a_stretch_of_some_sets_is_hidden_in_training_only():
    torch.manual_seed(0)
    inputs = InputSettings(window=WINDOW_S, window_hop=1.0, stream_dropout=0.5)
    specs = tuple(StreamSpec(f"digest{dim}", dim) for dim in DIMS)
    model = Model(ModelConfig("context", {"width": 16, "hidden": 8, "attention_heads": 2}, False, specs, inputs))
    seen: list[tuple[Steps, ...]] = []
    model.heads[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    num_windows, num_steps = 400, 40
    seconds = (torch.arange(num_steps) / num_steps * WINDOW_S - WINDOW_S / 2).expand(num_windows, -1)
    mask = torch.ones(num_windows, num_steps, dtype=torch.bool)
    windows = [Steps(torch.randn(num_windows, num_steps, dim), mask, seconds, mask) for dim in DIMS]
    queries = Queries(torch.zeros(num_windows, 1, 2), torch.arange(num_windows))
    for is_training in (True, False):
        model.train(is_training)(windows, queries)
    hidden = torch.stack([~steps.mask for steps in seen[0]])  # (sets, W, T)
    assert not any((~steps.mask).any() for steps in seen[1])
    assert not hidden.any(dim=2).all(dim=0).any()  # never of both sets
    assert bool((hidden.any(dim=2).float().mean(dim=1) > 0.2).all())
    starts = hidden & ~F.pad(hidden, (1, 0))[..., :-1]
    assert int(starts.sum(dim=2).max()) == 1  # one stretch, not here and there
    assert bool(hidden.all(dim=2).any())  # sometimes all of the set
    assert bool((hidden.any(dim=2) & ~hidden.all(dim=2)).any())
