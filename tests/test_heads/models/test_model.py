"""A whole model: what it does with feature sets before a head sees them, and with logits after."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from features.annotations import NUM_CLASSES
from heads.config import InputSettings
from heads.data.steps import Steps
from heads.models import model as model_module
from heads.models.model import Model, ModelConfig, StreamInput, StreamSpec
from heads.models.shape import HeadShape, Logits

every_fusion = pytest.mark.parametrize("fusion", ["early", "late"])


class Probe(nn.Module):
    """A head that keeps what it is given, and whose logits are the sum over the segment's steps in each class."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, steps: Steps) -> Logits:
        self.steps = steps
        summed = steps.features.masked_fill(~steps.within.unsqueeze(-1), 0).sum(dim=(1, 2))
        return {task: summed[:, None].expand(-1, num) for task, num in NUM_CLASSES.items()}


@pytest.fixture
def probe_heads(monkeypatch) -> None:
    """Build probes instead of heads."""
    monkeypatch.setattr(model_module, "build_head", lambda name, shape, options, *, separate: Probe(shape))


def make_model(
    *dims: int, head: str = "mean_pool", options: dict | None = None, cells: int = 1, **inputs: object
) -> Model:
    torch.manual_seed(0)
    streams = tuple(StreamSpec(f"digest{dim}", dim, cells) for dim in dims)
    return Model(ModelConfig(head, options or {}, False, streams, InputSettings(**inputs))).eval()


def steps_of(dim: int, *lengths: int, context: int = 0, seed: int = 0, dtype: torch.dtype = torch.float16) -> Steps:
    """Segments of these lengths, each with so many steps of context before it and after."""
    generator = torch.Generator().manual_seed(seed)
    step, length = torch.arange(max(lengths) + 2 * context), torch.tensor(lengths)[:, None]
    mask = step < length + 2 * context
    within = (context <= step) & (step < length + context)
    features = torch.randn(*mask.shape, dim, generator=generator).to(dtype)
    return Steps(features, mask, step * mask.float(), within)


def set_statistics(inputs: StreamInput, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs.mean = torch.randn(inputs.mean.shape, generator=generator) * 5
    inputs.std = torch.rand(inputs.std.shape, generator=generator) + 0.5
    return inputs.mean, inputs.std


# ---- standardisation


def test_a_head_sees_features_in_deviations_from_their_mean(probe_heads):
    model = make_model(6)
    mean, std = set_statistics(model.inputs[0])
    steps = steps_of(6, 3, 5)
    model([steps])
    torch.testing.assert_close(model.heads[0].steps.features, (steps.features.float() - mean) / std)


def test_each_set_has_statistics_of_its_own(probe_heads):
    model = make_model(6, 4, fusion="late")
    streams = [steps_of(6, 3, 5), steps_of(4, 2, 7)]
    statistics = [set_statistics(inputs, seed) for seed, inputs in enumerate(model.inputs)]
    model(streams)
    for head, steps, (mean, std) in zip(model.heads, streams, statistics, strict=True):
        torch.testing.assert_close(head.steps.features, (steps.features.float() - mean) / std)


def test_features_are_not_changed_where_they_lie(probe_heads):
    model, steps = make_model(6), steps_of(6, 3, 5, dtype=torch.float32)
    set_statistics(model.inputs[0])
    features_before = steps.features.clone()
    model([steps])
    assert torch.equal(steps.features, features_before)


def test_statistics_are_saved_but_not_trained():
    model = make_model(6, 4, fusion="late")
    buffer_names = {"inputs.0.mean", "inputs.0.std", "inputs.1.mean", "inputs.1.std"}
    assert buffer_names <= set(model.state_dict())
    assert not buffer_names & {name for name, _ in model.named_parameters()}


def test_a_loaded_model_has_the_statistics_it_was_saved_with():
    model, other_model = make_model(6), make_model(6)
    set_statistics(model.inputs[0])
    other_model.load_state_dict(model.state_dict())
    steps = steps_of(6, 3, 5)
    assert all(torch.equal(model([steps])[task], other_model([steps])[task]) for task in NUM_CLASSES)


@every_fusion
def test_float16_gives_what_float32_gives(fusion):
    model = make_model(6, 4, fusion=fusion)
    for inputs in model.inputs:
        set_statistics(inputs)
    half = [steps_of(6, 3, 5), steps_of(4, 3, 5)]
    full = [steps._replace(features=steps.features.float()) for steps in half]
    assert all(torch.equal(model(half)[task], model(full)[task]) for task in NUM_CLASSES)


# ---- projection


def test_a_projection_is_linear_in_standardised_features(probe_heads):
    model = make_model(6, project=3)
    mean, std = set_statistics(model.inputs[0])
    steps = steps_of(6, 3, 5)
    model([steps])
    layer = model.inputs[0].project
    expected = ((steps.features.float() - mean) / std) @ layer.weight.T + layer.bias
    torch.testing.assert_close(model.heads[0].steps.features, expected)


@pytest.mark.parametrize(
    ("dims", "inputs", "expected"),
    [
        ((8,), {}, [(8, 4)]),
        ((8,), {"project": 3}, [(3, 1)]),
        ((8, 12), {}, [(20, 1)]),
        ((8, 12), {"project": 3}, [(6, 1)]),
        ((8, 12), {"fusion": "late"}, [(8, 4), (12, 4)]),
        ((8, 12), {"fusion": "late", "project": 3}, [(3, 1), (3, 1)]),
    ],
)
def test_heads_are_built_for_the_width_and_cells_they_get(probe_heads, dims, inputs, expected):
    """Cells lie side by side in one set of grid tokens; laid beside other sets, or projected, they do no longer."""
    model = make_model(*dims, cells=4, **inputs)
    assert [(head.shape.dim, head.shape.cells) for head in model.heads] == expected


@pytest.mark.parametrize(("inputs", "expected"), [({}, False), ({"context": 1.0}, True), ({"neighbours": 2}, True)])
def test_heads_are_told_whether_there_is_context(probe_heads, inputs, expected):
    assert make_model(6, **inputs).heads[0].shape.context == expected


# ---- several sets


def test_early_fusion_lays_sets_side_by_side(probe_heads):
    model = make_model(6, 4)
    statistics = [set_statistics(inputs, seed) for seed, inputs in enumerate(model.inputs)]
    streams = [steps_of(6, 3, 5), steps_of(4, 3, 5, seed=1)]
    model(streams)
    parts = [(steps.features.float() - mean) / std for steps, (mean, std) in zip(streams, statistics, strict=True)]
    (head,) = model.heads
    torch.testing.assert_close(head.steps.features, torch.cat(parts, dim=2))
    assert torch.equal(head.steps.mask, streams[0].mask)


def test_late_fusion_averages_the_logits_of_a_head_for_each_set():
    model = make_model(6, 4, fusion="late")
    streams = [steps_of(6, 3, 5), steps_of(4, 2, 9)]
    head_logits = [
        head(steps._replace(features=steps.features.float())) for head, steps in zip(model.heads, streams, strict=True)
    ]
    for task, logits in model(streams).items():
        torch.testing.assert_close(logits, (head_logits[0][task] + head_logits[1][task]) / 2)


@every_fusion
def test_one_set_is_the_same_with_either_fusion(fusion):
    steps = steps_of(6, 3, 5)
    assert torch.equal(make_model(6, fusion=fusion)([steps])["verb"], make_model(6)([steps])["verb"])


# ---- stream dropout


def ones(*dims: int, num_segments: int = 2000) -> list[Steps]:
    """Segments of one step of ones, in each set."""
    mask = torch.ones(num_segments, 1, dtype=torch.bool)
    return [Steps(torch.ones(num_segments, 1, dim), mask, torch.zeros(num_segments, 1), mask) for dim in dims]


def kept_streams(features: torch.Tensor, *dims: int) -> torch.Tensor:
    """Of each segment (B,), which streams are kept: (B, streams) bool. A stream is hidden whole or not at all."""
    parts = features[:, 0].split(dims, dim=1)
    assert all(torch.equal(part, part[:, :1].expand_as(part)) for part in parts)
    return torch.stack([part[:, 0] != 0 for part in parts], dim=1)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_stream_dropout_hides_streams_of_a_segment_but_never_all(probe_heads, share):
    model = make_model(2, 3, 4, stream_dropout=share).train()
    model(ones(2, 3, 4))
    is_kept = kept_streams(model.heads[0].steps.features, 2, 3, 4)
    assert is_kept.any(dim=1).all()
    assert len(is_kept.unique(dim=0)) == 7
    expected = 1 - share + share**3 / 3  # of all three that would be hidden, one stays
    torch.testing.assert_close(is_kept.float().mean(dim=0), torch.full((3,), expected), rtol=0, atol=0.04)


def test_in_late_fusion_the_average_is_over_the_streams_that_are_kept(probe_heads):
    """The probes' logits are 2 and 3, the number of ones that each is given."""
    model = make_model(2, 3, stream_dropout=0.5, fusion="late").train()
    verb = model(ones(2, 3))["verb"][:, 0]
    assert set(verb.tolist()) == {2.0, 2.5, 3.0}


def test_stream_dropout_is_off_in_evaluation(probe_heads):
    model = make_model(2, 3, stream_dropout=0.9)
    model(ones(2, 3))
    assert kept_streams(model.heads[0].steps.features, 2, 3).all()


@every_fusion
def test_stream_dropout_never_hides_the_only_stream(probe_heads, fusion):
    model = make_model(3, stream_dropout=0.9, fusion=fusion).train()
    model(ones(3))
    assert kept_streams(model.heads[0].steps.features, 3).all()


# ---- context


@every_fusion
def test_segment_and_context_are_marked(probe_heads, fusion):
    model = make_model(6, 4, context=1.0, fusion=fusion)
    streams = [steps_of(6, 3, 5, context=2), steps_of(4, 3, 5, context=2)]
    model(streams)
    plain = [steps.features.float() for steps in streams]
    plain = [torch.cat(plain, dim=2)] if fusion == "early" else plain
    for head, marks, features in zip(model.heads, model.marks, plain, strict=True):
        segment, context = marks.detach()
        within, in_context = head.steps.within, head.steps.mask & ~head.steps.within
        offsets = head.steps.features.detach() - features
        torch.testing.assert_close(offsets[within], segment.expand(int(within.sum()), -1), rtol=0, atol=1e-6)
        torch.testing.assert_close(offsets[in_context], context.expand(int(in_context.sum()), -1), rtol=0, atol=1e-6)
        assert not torch.equal(segment, context)


def test_marks_are_trained():
    model = make_model(6, context=1.0).train()
    sum(logits.square().sum() for logits in model([steps_of(6, 3, 5, context=2)]).values()).backward()
    (mark,) = model.marks
    assert mark.grad.abs().sum(dim=1).min() > 0


def test_without_context_there_are_no_marks(probe_heads):
    model = make_model(6)
    steps = steps_of(6, 3, 5)
    model([steps])
    assert len(model.marks) == 0
    assert torch.equal(model.heads[0].steps.features, steps.features.float())


# ---- adjustment


@every_fusion
def test_logits_are_adjusted_in_evaluation_only(fusion):
    model = make_model(6, 4, fusion=fusion)
    streams = [steps_of(6, 3, 5), steps_of(4, 3, 5)]
    plain = model(streams)
    for task, num_classes in NUM_CLASSES.items():
        getattr(model, f"adjust_{task}").copy_(torch.arange(num_classes))
    for task, logits in model(streams).items():
        torch.testing.assert_close(logits, plain[task] - torch.arange(NUM_CLASSES[task]))
    for task, logits in model.train()(streams).items():
        torch.testing.assert_close(logits, plain[task])


def test_the_adjustment_is_saved_but_not_trained():
    model = make_model(6)
    buffer_names = {"adjust_verb", "adjust_noun"}
    assert buffer_names <= set(model.state_dict())
    assert not buffer_names & {name for name, _ in model.named_parameters()}


# ---- from end to end


@dataclass(frozen=True)
class Case:
    """A model and what it is given."""

    dims: tuple[int, ...]
    inputs: dict[str, object]


CASES = {
    "one": Case((6,), {}),
    "early": Case((6, 4), {}),
    "late": Case((6, 4), {"fusion": "late"}),
    "projected": Case((6, 4), {"project": 3}),
    "context": Case((6, 4), {"context": 1.0}),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
# One head that averages and one that recurs; what padding does to a head alone is in the contract of heads.
HEADS = {"mean_pool": {}, "bilstm": {"hidden": 8, "layers": 1}}
every_head = pytest.mark.parametrize("head", HEADS)


@every_head
@every_case
@pytest.mark.parametrize("garbage", [1e4, float("inf"), float("nan")])
def test_what_lies_in_the_padding_changes_nothing(head, case, garbage):
    model = make_model(*case.dims, head=head, options=HEADS[head], **case.inputs)
    context = 2 if model.settings.has_context else 0
    streams = [steps_of(dim, 1, 3, 5, context=context, seed=dim) for dim in case.dims]
    expected = model(streams)
    padded_streams = []
    for steps in streams:
        features = steps.features.masked_fill(~steps.mask.unsqueeze(-1), garbage)
        padding = [
            torch.full((3, 4, features.shape[2]), garbage).half(),
            *(torch.zeros(3, 4).to(part) for part in steps[1:4]),
        ]
        padded_streams.append(
            Steps(*(torch.cat(parts, dim=1) for parts in zip((features, *steps[1:4]), padding, strict=True)))
        )
    for task, logits in model(padded_streams).items():
        torch.testing.assert_close(logits, expected[task], rtol=0, atol=1e-5)


@every_head
@every_case
def test_logits_have_the_shape_of_their_task_and_are_float32(head, case):
    model = make_model(*case.dims, head=head, options=HEADS[head], **case.inputs)
    streams = [steps_of(dim, 1, 3, 5, context=1 if model.settings.has_context else 0) for dim in case.dims]
    logits = model(streams)
    assert {task: (value.shape, value.dtype) for task, value in logits.items()} == {
        task: ((3, num), torch.float32) for task, num in NUM_CLASSES.items()
    }


@every_case
def test_a_seed_gives_the_same_model(case):
    first, second = (make_model(*case.dims, **case.inputs).state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_model_can_be_planned_without_memory():
    with torch.device("meta"):
        model = make_model(6, 4, project=3, context=1.0)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
