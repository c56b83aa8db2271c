"""Cells that a step can lack: the contract of every head, and what is seen by a plain loop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_heads import small_options

from heads.config import InputSettings
from heads.data.steps import Steps
from heads.models.catalogue import build_head, masks_cells, names, reads_windows
from heads.models.model import Model, ModelConfig, StreamSpec
from heads.models.regions import seen_cells, share_with_region
from heads.models.shape import HeadShape, Logits

DIM, CELLS = 12, 3
MASKING = ("attentive", "probe", "transformer")
# Windows that segments share have no context of one segment: tests/test_heads/models/test_context.py.
OF_SEGMENTS = [name for name in names() if not reads_windows(name)]
every_head = pytest.mark.parametrize("head", OF_SEGMENTS)
masking_heads = pytest.mark.parametrize("head", MASKING)
every_context = pytest.mark.parametrize("context", [0.0, 1.0], ids=["segment", "context"])
# The input settings of a model of one set, and of two: one with regions, one without.
JOINED = {
    "one": ((True,), {}),
    "projected": ((True,), {"project": 4}),
    "early": ((True, False), {"fusion": "early"}),
    "late": ((False, True), {"fusion": "late", "project": 4}),
}
every_join = pytest.mark.parametrize("joined", JOINED)


def _steps(context: float = 0.0, *, seed: int = 0, regions: bool = True) -> Steps:
    """Four segments: of drawn regions, of none, of none but in the context, and of one cell in one step."""
    generator = torch.Generator().manual_seed(seed)
    around = 2 if context else 0
    step, length = torch.arange(6 + 2 * around), torch.tensor([6, 4, 3, 2])[:, None]
    mask, within = step < length + 2 * around, (around <= step) & (step < length + around)
    features = torch.randn(*mask.shape, DIM, generator=generator)
    has_region = torch.rand(*mask.shape, CELLS, generator=generator) < 0.4
    has_region[0, around] = torch.tensor([True, False, True])
    has_region[1:] = False
    has_region[2] = ~within[2, :, None]
    has_region[3, around, 1] = True
    has_region |= ~mask.unsqueeze(-1)  # what it says of padding changes nothing
    return Steps(features, mask, step * mask.float(), within, has_region if regions else None)


def _model(head: str, regions: tuple[bool, ...] = (True,), *, seed: int = 0, **inputs: object) -> Model:
    torch.manual_seed(seed)
    streams = tuple(StreamSpec("digest", DIM, CELLS, of_regions) for of_regions in regions)
    return Model(ModelConfig(head, small_options(head), False, streams, InputSettings(**inputs))).eval()


def _streams(regions: tuple[bool, ...], context: float = 0.0) -> list[Steps]:
    return [_steps(context, seed=seed, regions=of_regions) for seed, of_regions in enumerate(regions)]


def _without_regions(steps: Steps) -> Steps:
    """The steps in which no cell has its region."""
    return steps if steps.has_region is None else steps._replace(has_region=torch.zeros_like(steps.has_region))


def _other_where(steps: Steps, chosen: torch.Tensor, values: torch.Tensor | float) -> Steps:
    """The steps with other values in chosen cells, (B, T, cells) bool."""
    where = chosen.repeat_interleave(DIM // CELLS, dim=-1)
    return steps._replace(features=torch.where(where, torch.as_tensor(values), steps.features))


def _need_equal(first: Logits, second: Logits, *, rows: slice = slice(None), atol: float = 1e-6) -> None:
    for task, logits in first.items():
        assert logits.isfinite().all()
        torch.testing.assert_close(logits[rows], second[task][rows], rtol=0, atol=atol)


def test_the_heads_that_mask_cells_are_these():
    assert {name for name in names() if masks_cells(name)} == {*MASKING, "context"}


# ---- which cells are seen


def _plainly_seen(steps: Steps, row: int) -> set[tuple[int, int]]:
    valid = [step for step in range(steps.mask.shape[1]) if steps.mask[row, step]]
    own = [step for step in valid if steps.within[row, step]]
    seen = {(step, cell) for step in valid for cell in range(CELLS) if steps.has_region[row, step, cell]}
    if not seen:
        return {(step, cell) for step in valid for cell in range(CELLS)}
    if not any(step in own for step, _ in seen):
        seen |= {(step, cell) for step in own for cell in range(CELLS)}
    return seen


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=5),
    share=st.sampled_from([0.0, 0.1, 0.3, 0.7]),
    seed=st.integers(0, 1000),
)
def test_what_is_seen_is_what_a_plain_loop_finds(rows, share, seed):
    num_before, num_own, num_after = torch.tensor(rows).T[..., None]
    step = torch.arange(max(map(sum, rows)))
    mask = step < num_before + num_own + num_after
    within = (num_before <= step) & (step < num_before + num_own)
    has_region = torch.rand(*mask.shape, CELLS, generator=torch.Generator().manual_seed(seed)) < share
    steps = Steps(torch.zeros(*mask.shape, DIM), mask, torch.zeros(mask.shape), within, has_region)
    shares = share_with_region(steps)
    for row, seen in enumerate(seen_cells(steps)):
        assert set(map(tuple, seen.nonzero().tolist())) == _plainly_seen(steps, row)
        own = [bool(has_region[row, step].any()) for step in within[row].nonzero()[:, 0].tolist()]
        assert float(shares[row]) == pytest.approx(sum(own) / len(own))


# ---- heads that mask cells


@masking_heads
@every_context
@pytest.mark.parametrize("garbage", [1e4, float("nan")])
def test_what_an_unseen_cell_holds_changes_nothing(head, context, garbage):
    torch.manual_seed(0)
    network = build_head(head, HeadShape(DIM, CELLS, bool(context)), small_options(head)).eval()
    steps = _steps(context)
    _need_equal(network(_other_where(steps, ~seen_cells(steps), garbage)), network(steps))


@masking_heads
@every_context
def test_a_seen_cell_is_read(head, context):
    torch.manual_seed(0)
    network = build_head(head, HeadShape(DIM, CELLS, bool(context)), small_options(head)).eval()
    steps = _steps(context)
    expected = network(steps)
    for row, step, cell in seen_cells(steps).nonzero().tolist():
        chosen = torch.zeros_like(steps.has_region)
        chosen[row, step, cell] = True
        logits = network(_other_where(steps, chosen, 3.0))
        assert all(not torch.equal(logits[task][row], expected[task][row]) for task in expected)


@masking_heads
@every_context
def test_segments_without_any_region_are_those_of_a_set_without(head, context):
    torch.manual_seed(0)
    network = build_head(head, HeadShape(DIM, CELLS, bool(context)), small_options(head)).eval()
    steps = _steps(context)
    _need_equal(network(_without_regions(steps)), network(steps._replace(has_region=None)), atol=0)
    # Beside segments that have some, too: row 1 has none, not even in its context.
    _need_equal(network(steps), network(steps._replace(has_region=None)), rows=slice(1, 2))


@masking_heads
@every_join
def test_what_an_unseen_cell_holds_changes_nothing_where_sets_are_joined(head, joined):
    regions, inputs = JOINED[joined]
    model, streams = _model(head, regions, **inputs), _streams(regions)
    changed = [steps if steps.has_region is None else _other_where(steps, ~seen_cells(steps), 1e4) for steps in streams]
    _need_equal(model(changed), model(streams))


@masking_heads
@every_join
def test_a_model_of_segments_without_any_region_is_that_of_sets_without(head, joined):
    regions, inputs = JOINED[joined]
    model, plain = _model(head, regions, **inputs), _model(head, (False,) * len(regions), **inputs)
    plain.load_state_dict(model.state_dict())
    streams = [_without_regions(steps) for steps in _streams(regions)]
    _need_equal(model(streams), plain([steps._replace(has_region=None) for steps in streams]), atol=0)


# ---- the others


@pytest.mark.parametrize("head", sorted(set(OF_SEGMENTS) - set(MASKING)))
@every_join
def test_other_heads_see_every_cell_and_the_share_of_steps_with_a_region(head, joined):
    """A model of a set without regions, whose features have the share as one value more, gives the same logits."""
    regions, inputs = JOINED[joined]
    model, streams = _model(head, regions, **inputs), _streams(regions)
    logits = model(streams)
    shares = [steps for steps in streams if steps.has_region is not None]
    (steps,) = shares
    moved = steps._replace(has_region=steps.has_region.roll(1, dims=-1))  # another cell of the same step
    _need_equal(model([moved if each is steps else each for each in streams]), logits, atol=0)
    everywhere = steps._replace(has_region=torch.ones_like(steps.has_region))
    different = model([everywhere if each is steps else each for each in streams])
    assert all(not torch.equal(different[task], logits[task]) for task in logits)
    unseen = [_other_where(each, ~each.has_region, 3.0) if each is steps else each for each in streams]
    assert all(not torch.equal(model(unseen)[task], logits[task]) for task in logits)


@pytest.mark.parametrize("head", sorted(set(OF_SEGMENTS) - set(MASKING)))
@every_context
def test_the_share_is_the_last_value_of_every_step(head, context):
    model, steps = _model(head, context=context), _steps(context)
    if context:
        torch.nn.init.zeros_(model.marks[0])
    share = (steps.has_region.any(-1) & steps.within).sum(1) / steps.within.sum(1)
    features = torch.cat([steps.features, share[:, None, None].expand(*steps.mask.shape, 1)], dim=-1)
    _need_equal(model([steps]), model.heads[0](Steps(features, *steps[1:4])), atol=0)


# ---- all of them


@every_head
@every_join
@every_context
def test_logits_and_gradients_are_finite_and_reach_every_parameter(head, joined, context):
    regions, inputs = JOINED[joined]
    model, streams = _model(head, regions, context=context, **inputs), _streams(regions, context)
    for own in (streams, [_without_regions(steps) for steps in streams]):
        model.zero_grad()
        logits = model(own)
        assert all(values.isfinite().all() for values in logits.values())
        sum(values.square().sum() for values in logits.values()).backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        assert [name for name, value in gradients.items() if value is None or not value.isfinite().all()] == []
        if own is streams:
            assert [name for name, value in gradients.items() if not value.any()] == []


@every_head
@every_context
def test_a_batch_of_one_is_the_row_of_many(head, context):
    model, steps = _model(head, context=context), _steps(context)
    logits = model([steps])
    for row in range(len(steps.mask)):
        length = int(steps.mask[row].sum())
        alone = model([steps.map(lambda part, row=row, length=length: part[row : row + 1, :length])])
        for task, values in alone.items():
            torch.testing.assert_close(values[0], logits[task][row], rtol=1e-5, atol=2e-6)
