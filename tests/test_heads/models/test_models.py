"""The contract of heads, for every name in the registry; then what is particular to one of them."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_windows import reading_segments
from torch import nn
from torch.nn import functional as F

from features.annotations import NUM_CLASSES
from features.errors import OptionError
from heads.data.steps import Steps
from heads.models.catalogue import build_head, get, head_config, names, reads_windows, register
from heads.models.multiscale_lstm import strided
from heads.models.options import BiLstmConfig, TransformerConfig
from heads.models.pooling import bidirectional_lstm, lstm_by_direction, lstm_outputs
from heads.models.separate import Separate
from heads.models.shape import HeadShape, Logits
from heads.models.tcn import DilatedLayer
from heads.models.times import Phases, rotate, rotation
from heads.models.transformer import SelfAttention

DIM, CELLS = 12, 4
PLAIN = HeadShape(DIM)
CONTEXT = HeadShape(DIM, cells=CELLS, context=True)
SMALL = {"hidden": 8, "width": 16, "attention_heads": 2}

every_head = pytest.mark.parametrize("name", names())
every_shape = pytest.mark.parametrize("shape", [PLAIN, CONTEXT], ids=["segment", "context"])
blind_to_order = {"logistic", "mean_pool", "mlp"}
# Those that are trained, with dropout.
trained_heads = pytest.mark.parametrize("name", sorted(set(names()) - {"logistic"}))
order_reading_heads = pytest.mark.parametrize("name", sorted(set(names()) - blind_to_order))


def _head(name: str, shape: HeadShape = PLAIN, *, seed: int = 0, separate: bool = False, **options: float) -> nn.Module:
    """A small head in evaluation mode; `options` beside those that make it small."""
    fields = {field.name for field in dataclasses.fields(get(name).config)}
    torch.manual_seed(seed)
    small = {key: value for key, value in SMALL.items() if key in fields}
    head = build_head(name, shape, {**small, **options}, separate=separate).eval()
    return reading_segments(head) if reads_windows(name) else head


def _steps(*rows: int | tuple[int, int, int], seed: int = 0) -> Steps:
    """Segments of so many steps, or (before, of the segment, after) with context, padded with zeros to the longest."""
    rows = [(0, row, 0) if isinstance(row, int) else row for row in rows]
    num_before, num_inside, num_after = torch.tensor(rows).unsqueeze(-1).unbind(1)  # (B, 1) each
    index = torch.arange(int((num_before + num_inside + num_after).max()))
    mask, within = (
        index < num_before + num_inside + num_after,
        (index >= num_before) & (index < num_before + num_inside),
    )
    torch.manual_seed(seed)
    seconds = (torch.rand(mask.shape) + 0.1).cumsum(dim=1)
    seconds = seconds - (seconds * within).sum(dim=1, keepdim=True) / within.sum(dim=1, keepdim=True)
    return Steps(torch.randn(*mask.shape, DIM) * mask[..., None], mask, seconds * mask, within)


def _row(steps: Steps, row: int) -> Steps:
    """One segment alone, without its padding."""
    return steps.map(lambda part: part[row : row + 1, : int(steps.mask[row].sum())])


def _padded(steps: Steps, num_steps: int, garbage: float) -> Steps:
    """The same segments with garbage in the padding, and `more` steps of it."""
    mask, within = (F.pad(part, (0, num_steps)) for part in (steps.mask, steps.within))
    features = F.pad(steps.features, (0, 0, 0, num_steps)).where(mask[..., None], torch.tensor(garbage))
    return Steps(features, mask, F.pad(steps.seconds, (0, num_steps)).where(mask, torch.tensor(garbage)), within)


def _difference(first: Logits, second: Logits) -> float:
    """The least difference of two heads' logits, over the tasks: 0 where those of one task are the same."""
    return min(float((first[task] - second[task]).detach().abs().max()) for task in first)


def _gradients(head: nn.Module, steps: Steps) -> dict[str, torch.Tensor | None]:
    head.zero_grad()
    sum(logits.square().sum() for logits in head(steps).values()).backward()
    return {key: value.grad for key, value in head.named_parameters()}


ROWS = {PLAIN: (16, 11, 5, 1), CONTEXT: ((3, 8, 5), (0, 7, 4), (2, 3, 0), (0, 1, 0))}


def test_the_registry_names_the_heads():
    expected = {"attentive", "bilstm", "mean_pool", "mlp", "multiscale_lstm", "probe", "tcn", "transformer"}
    assert set(names()) >= expected


@every_head
@every_shape
@pytest.mark.parametrize("num_steps", [1, 2, 3, 5, 16, 40])
def test_any_number_of_steps_gives_logits_of_both_tasks(name, shape, num_steps):
    logits = _head(name, shape)(_steps(num_steps, num_steps))
    assert {task: value.shape for task, value in logits.items()} == {"verb": (2, 97), "noun": (2, 300)}


@every_head
@pytest.mark.parametrize("tasks", [{"verb": 97}, {"noun": 300}, {"verb": 97, "noun": 300, "action": 11}])
def test_a_head_gives_the_logits_of_its_tasks_only(name, tasks):
    logits = _head(name, dataclasses.replace(CONTEXT, tasks=tasks))(_steps((1, 3, 1)))
    assert {task: values.shape for task, values in logits.items()} == {task: (1, num) for task, num in tasks.items()}


@every_head
def test_logits_are_float32(name):
    assert {logits.dtype for logits in _head(name)(_steps(3, 5)).values()} == {torch.float32}


@every_head
@every_shape
@pytest.mark.parametrize("scale", [0.0, 65504.0])
def test_logits_are_finite_for_extreme_features(name, shape, scale):
    steps = _steps(*ROWS[shape])
    largest = steps._replace(features=steps.features.sign() * scale)
    assert all(logits.isfinite().all() for logits in _head(name, shape)(largest).values())


@every_head
@every_shape
@pytest.mark.parametrize("garbage", [1e4, float("inf"), float("nan")])
def test_what_lies_in_the_padding_changes_nothing(name, shape, garbage):
    head, steps = _head(name, shape), _steps(*ROWS[shape])
    torch.testing.assert_close(head(_padded(steps, 4, garbage)), head(steps), rtol=0, atol=1e-6)


@every_head
@every_shape
def test_what_lies_in_the_padding_changes_no_gradient(name, shape):
    head, steps = _head(name, shape), _steps(*ROWS[shape])
    expected = _gradients(head, steps)
    torch.testing.assert_close(_gradients(head, _padded(steps, 4, float("nan"))), expected, rtol=1e-4, atol=1e-5)


@every_head
@settings(max_examples=10, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(0, 5)), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
)
def test_a_batch_of_one_is_the_row_of_many(name, rows, seed):
    head, steps = _head(name, CONTEXT), _steps(*rows, seed=seed)
    batch_logits = head(steps)
    for row in range(len(rows)):
        expected = {task: logits[row : row + 1] for task, logits in batch_logits.items()}
        torch.testing.assert_close(head(_row(steps, row)), expected, rtol=1e-5, atol=2e-6)


@every_head
@every_shape
@pytest.mark.parametrize("separate", [False, True], ids=["shared", "separate"])
def test_gradients_reach_every_parameter(name, shape, separate):
    gradients = _gradients(_head(name, shape, separate=separate), _steps(*ROWS[shape]))
    assert [key for key, value in gradients.items() if value is None or not value.any()] == []


@every_head
def test_context_is_read(name):
    head, steps = _head(name, CONTEXT), _steps((3, 4, 2), (1, 5, 3))
    features = steps.features + (steps.mask & ~steps.within)[..., None] * torch.randn(DIM)
    assert _difference(head(steps._replace(features=features)), head(steps)) > 1e-3


@every_head
def test_context_and_segment_are_told_apart(name):
    head, steps = _head(name, CONTEXT), _steps((1, 7, 1), (1, 7, 1))
    if name in {"attentive", "transformer"}:
        nn.init.normal_(head.context if name == "attentive" else head.readout.context)  # they begin as equals
    steps = steps._replace(seconds=torch.arange(-4.0, 5.0).expand(2, 9))
    narrower_steps = steps._replace(within=steps.seconds.abs() < 3)  # its middle is the same
    assert _difference(head(narrower_steps), head(steps)) > 1e-3


@every_head
@every_shape
def test_a_seed_gives_the_same_weights(name, shape):
    first, second = (_head(name, shape, seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


@every_head
@every_shape
def test_another_seed_gives_other_weights(name, shape):
    first, second = (_head(name, shape, seed=seed).state_dict() for seed in (3, 4))
    equal_values = [first[key] for key in first if torch.equal(first[key], second[key])]
    # Only norms, and biases that begin at 0.
    assert all(bool((value == 0).all() | (value == 1).all()) for value in equal_values)


@trained_heads
def test_dropout_acts_in_training_only(name):
    head, steps = _head(name, dropout=0.5), _steps(3, 5)
    in_evaluation = [head(steps)["verb"] for _ in range(2)]
    head.train()
    in_training = [head(steps)["verb"] for _ in range(2)]
    assert (torch.equal(*in_evaluation), torch.equal(*in_training)) == (True, False)


@order_reading_heads
def test_heads_read_the_order_of_steps(name):
    head, steps = _head(name), _steps(5, 5)
    assert _difference(head(steps._replace(features=steps.features.flip(1))), head(steps)) > 1e-3


@pytest.mark.parametrize("name", sorted(blind_to_order))
def test_heads_that_average_are_blind_to_the_order_of_steps(name):
    head, steps = _head(name), _steps(5, 5)
    flipped_logits = head(steps._replace(features=steps.features.flip(1)))
    torch.testing.assert_close(flipped_logits, head(steps), rtol=0, atol=1e-6)


@every_head
def test_the_default_configuration_is_built_and_says_what_it_takes(name):
    with torch.device("meta"):
        head = build_head(name, HeadShape(768, context=True), {})
    assert head.state_dict()


@pytest.mark.skipif(not torch.cuda.is_available() and not torch.backends.mps.is_available(), reason="no accelerator")
@every_head
@every_shape
def test_an_accelerator_gives_the_logits_of_the_cpu(name, shape):
    device = "cuda" if torch.cuda.is_available() else "mps"
    head, steps = _head(name, shape), _steps(*ROWS[shape])
    expected = {task: logits.detach() for task, logits in head(steps).items()}
    device_logits = head.to(device)(steps.map(lambda part: part.to(device)))
    torch.testing.assert_close(
        {task: logits.cpu() for task, logits in device_logits.items()}, expected, rtol=1e-3, atol=1e-4
    )


# ---- a head a task


@every_head
def test_separate_heads_are_two_heads(name):
    separate_head, steps = _head(name, CONTEXT, separate=True), _steps(*ROWS[CONTEXT])
    for task in ("verb", "noun"):
        single_head = _head(name, dataclasses.replace(CONTEXT, tasks={task: NUM_CLASSES[task]}))
        single_head.load_state_dict(separate_head.heads[task].state_dict())
        torch.testing.assert_close(separate_head(steps)[task], single_head(steps)[task], rtol=0, atol=0)


@every_head
def test_separate_heads_share_nothing(name):
    separate_head, steps = _head(name, separate=True), _steps(3, 5)
    separate_head(steps)["verb"].sum().backward()
    assert isinstance(separate_head, Separate)
    assert all(value.grad is None for value in separate_head.heads["noun"].parameters())


# ---- mean_pool and mlp


def _plain_average(steps: Steps, row: int) -> torch.Tensor:
    """The averages of a segment and of its context, one after the other."""
    parts = [[], []]
    for step in range(steps.mask.shape[1]):
        if steps.mask[row, step]:
            parts[0 if steps.within[row, step] else 1].append(steps.features[row, step])
    return torch.cat([torch.stack(part).mean(dim=0) if part else torch.zeros(DIM) for part in parts])


def test_mean_pool_is_a_linear_layer_on_the_mean():
    head, steps = _head("mean_pool"), _steps(2, 5)
    for row, length in enumerate((2, 5)):
        mean = steps.features[row, :length].numpy().mean(axis=0)
        expected = head.classifier.noun.weight.detach().numpy() @ mean + head.classifier.noun.bias.detach().numpy()
        torch.testing.assert_close(head(steps)["noun"][row], torch.from_numpy(expected))


def test_mean_pool_averages_segment_and_context_apart():
    head, steps = _head("mean_pool", CONTEXT), _steps(*ROWS[CONTEXT])
    averages = torch.stack([_plain_average(steps, row) for row in range(len(ROWS[CONTEXT]))])
    torch.testing.assert_close(head(steps)["verb"], head.classifier.verb(averages))


def test_mlp_is_hidden_layers_on_the_averages():
    head, steps = _head("mlp", CONTEXT, layers=2), _steps(*ROWS[CONTEXT])
    x = torch.stack([_plain_average(steps, row) for row in range(len(ROWS[CONTEXT]))])
    for layer in (module for module in head.hidden if isinstance(module, nn.Linear)):
        x = x @ layer.weight.T + layer.bias
        x = x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    torch.testing.assert_close(head(steps)["verb"], head.classifier.verb(x))


# ---- bilstm and multiscale_lstm


def _plain_lstm_mean(lstm: nn.LSTM, steps: Steps, indices: list[int]) -> torch.Tensor:
    """The outputs of an LSTM on these steps of one unpadded segment, averaged over those that are the segment's own."""
    return nn.LSTM.forward(lstm, steps.features[0, indices])[0][steps.within[0, indices]].mean(dim=0)


@every_shape
def test_bilstm_is_a_plain_lstm_on_each_unpadded_segment(shape):
    head, steps = _head("bilstm", shape), _steps(*ROWS[shape])
    segments = [_row(steps, row) for row in range(len(ROWS[shape]))]
    pooled = torch.stack(
        [_plain_lstm_mean(head.lstm, segment, list(range(segment.mask.shape[1]))) for segment in segments]
    )
    expected = {"verb": head.classifier.verb(pooled), "noun": head.classifier.noun(pooled)}
    torch.testing.assert_close(head(steps), expected)


@every_shape
def test_multiscale_lstm_reads_every_step_every_second_and_every_fourth(shape):
    head, steps = _head("multiscale_lstm", shape), _steps(*ROWS[shape])
    pooled = []
    for row in range(len(ROWS[shape])):
        segment = _row(steps, row)
        first_index = segment.within[0].tolist().index(True)
        indices = [list(range(first_index % stride, segment.mask.shape[1], stride)) for stride in (1, 2, 4)]
        branches = zip(head.branches, indices, strict=True)
        pooled.append(torch.cat([_plain_lstm_mean(lstm, segment, index) for lstm, index in branches]))
    torch.testing.assert_close(head(steps)["verb"], head.classifier.verb(head.fuse(torch.stack(pooled))))


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=4),
    stride=st.integers(1, 6),
)
def test_every_takes_each_stride_th_step_and_the_first_of_the_segment(rows, stride):
    steps = _steps(*rows)
    x, mask, within = strided(steps, stride)
    for row, (num_before, num_inside, num_after) in enumerate(rows):
        expected = [index for index in range(num_before + num_inside + num_after) if (index - num_before) % stride == 0]
        length = int(mask[row].sum())
        assert mask[row].tolist() == [True] * length + [False] * (mask.shape[1] - length)
        torch.testing.assert_close(x[row, :length], steps.features[row, expected], rtol=0, atol=0)
        assert within[row].tolist()[:length] == [num_before <= index < num_before + num_inside for index in expected]
        assert not within[row, length:].any()
        assert within[row].any()


def _num_parameters(name: str, dim: int, options: dict[str, object]) -> int:
    with torch.device("meta"):
        head = build_head(name, HeadShape(dim), options)
    return sum(parameter.numel() for parameter in head.parameters())


def _lstm_direction(dim: int, hidden: int) -> int:
    return 4 * hidden * (dim + hidden) + 2 * 4 * hidden  # four gates of weights, and two biases each


def test_bilstm_of_2048_wide_features_has_as_many_parameters_as_counted_by_hand():
    layers = 2 * _lstm_direction(2048, 1024) + 2 * _lstm_direction(2 * 1024, 1024)
    classifiers = (2048 * 97 + 97) + (2048 * 300 + 300)
    assert _num_parameters("bilstm", 2048, {"hidden": 1024, "layers": 2, "dropout": 0.3}) == layers + classifiers


def test_multiscale_lstm_of_2048_wide_features_has_as_many_parameters_as_counted_by_hand():
    branch = 2 * _lstm_direction(2048, 512) + 2 * _lstm_direction(2 * 512, 512)
    fusion = 3 * 1024 * 1024 + 1024
    classifiers = (1024 * 97 + 97) + (1024 * 300 + 300)
    expected = 3 * branch + fusion + classifiers
    assert _num_parameters("multiscale_lstm", 2048, {"hidden": 512, "layers": 2, "dropout": 0.3}) == expected


def test_one_layer_lstm_needs_no_dropout_between_layers():
    assert _head("bilstm", layers=1).lstm.dropout == 0.0


# ---- tcn


def _plain_dilated_layer(layer: DilatedLayer, x: torch.Tensor) -> torch.Tensor:
    """What a layer makes of one unpadded segment (T, W), step by step and tap by tap."""
    width = x.shape[-1]
    normed = [layer.norm(step) for step in x]
    taps = layer.taps.weight.split(width, dim=1)
    outputs = []
    for step, value in enumerate(x):
        total = layer.taps.bias
        for tap, offset in zip(taps, (-layer.dilation, 0, layer.dilation), strict=True):
            if 0 <= step + offset < len(x):
                total = total + tap @ normed[step + offset]
        outputs.append(value + layer.mix(F.gelu(total)))
    return torch.stack(outputs)


@every_shape
def test_tcn_is_a_plain_loop_on_each_unpadded_segment(shape):
    head, steps = _head("tcn", shape), _steps(*ROWS[shape])
    pooled = []
    for row in range(len(ROWS[shape])):
        segment = _row(steps, row)
        x = head.input(segment.features[0])
        for layer in head.layers:
            x = _plain_dilated_layer(layer, x)
        pooled.append(head.norm(x)[segment.within[0]].mean(dim=0))
    torch.testing.assert_close(head(steps)["noun"], head.classifier.noun(torch.stack(pooled)))


def test_tcn_layers_are_dilated_convolutions():
    layer, x = _head("tcn").layers[2], torch.randn(2, 9, 16)
    weight = torch.stack(layer.taps.weight.split(16, dim=1), dim=-1)  # (W, W, 3)
    convolved = F.conv1d(layer.norm(x).mT, weight, layer.taps.bias, padding=4, dilation=4).mT
    output = layer(x, torch.ones(2, 9, dtype=torch.bool))
    torch.testing.assert_close(output, x + layer.mix(F.gelu(convolved)))


def test_tcn_reaches_15_steps_to_either_side_in_4_layers():
    head, x = _head("tcn"), torch.randn(1, 41, 16, requires_grad=True)
    y = x
    for layer in head.layers:
        y = layer(y, torch.ones(1, 41, dtype=torch.bool))
    y[0, 20].sum().backward()
    reached_steps = x.grad[0].any(dim=-1).nonzero().squeeze(-1).tolist()
    assert reached_steps == list(range(5, 36))


# ---- transformer, and the times it reads


@settings(max_examples=50, deadline=None)
@given(
    times=st.tuples(st.floats(-100, 100), st.floats(-100, 100)),
    shift=st.floats(-100, 100),
    seed=st.integers(0, 1000),
)
def test_products_of_turned_vectors_depend_on_the_time_between_them_only(times, shift, seed):
    torch.manual_seed(seed)
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)
    phases = Phases(4).double()

    def product(q_s: float, k_s: float) -> torch.Tensor:
        vectors = [
            rotate(x, rotation(phases(torch.tensor([[s]], dtype=torch.float64)))) for x, s in ((q, q_s), (k, k_s))
        ]
        return (vectors[0] * vectors[1]).sum()

    torch.testing.assert_close(product(times[0] + shift, times[1] + shift), product(*times), rtol=0, atol=1e-6)


def test_vectors_are_turned_as_complex_numbers_on_wavelengths_from_a_tenth_of_a_second_to_a_minute():
    x, seconds = torch.randn(1, 1, 5, 6), torch.tensor([[-3.0, -0.25, 0.0, 0.1, 7.0]])
    rotated = rotate(x, rotation(Phases(3)(seconds)))
    for step, time in enumerate(seconds[0].tolist()):
        for pair, wavelength in enumerate((0.1, math.sqrt(0.1 * 60), 60.0)):
            value = complex(x[0, 0, step, pair], x[0, 0, step, pair + 3])
            angle = 2 * math.pi * time / wavelength
            value *= complex(math.cos(angle), math.sin(angle))
            actual = complex(rotated[0, 0, step, pair], rotated[0, 0, step, pair + 3])
            assert abs(actual - value) < 1e-4


@settings(max_examples=20, deadline=None)
@given(shift=st.floats(-100, 100))
def test_transformer_does_not_read_where_time_begins(shift):
    head, steps = _head("transformer", CONTEXT), _steps(*ROWS[CONTEXT])
    shifted_logits = head(steps._replace(seconds=steps.seconds + shift))
    # The tolerance: float32 of seconds, in tenths of a second.
    torch.testing.assert_close(shifted_logits, head(steps), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["attentive", "transformer"])
def test_heads_that_read_time_read_how_much_of_it_passes(name):
    head, steps = _head(name), _steps(5, 7)
    assert _difference(head(steps._replace(seconds=2 * steps.seconds)), head(steps)) > 1e-3


def test_without_time_transformer_layers_are_those_of_torch():
    torch.manual_seed(0)
    layer = SelfAttention(TransformerConfig(width=16, attention_heads=2, hidden=8)).eval()
    torch_layer = nn.TransformerEncoderLayer(16, 2, 8, activation="gelu", batch_first=True, norm_first=True).eval()
    up, down = (module for module in layer.feed_forward.layers if isinstance(module, nn.Linear))
    pairs = [
        (torch_layer.self_attn.in_proj_weight, layer.queries_keys_values.weight),
        (torch_layer.self_attn.in_proj_bias, layer.queries_keys_values.bias),
        (torch_layer.self_attn.out_proj.weight, layer.output.weight),
        (torch_layer.self_attn.out_proj.bias, layer.output.bias),
        (torch_layer.linear1.weight, up.weight),
        (torch_layer.linear1.bias, up.bias),
        (torch_layer.linear2.weight, down.weight),
        (torch_layer.linear2.bias, down.bias),
    ]
    with torch.no_grad():
        for copy, original in pairs:
            copy.copy_(original)
    x, mask = torch.randn(3, 7, 16), torch.arange(7) < torch.tensor([[7], [2], [5]])
    output = layer(x, mask, rotation(Phases(4)(torch.zeros(3, 7))))
    torch.testing.assert_close(output[mask], torch_layer(x, src_key_padding_mask=~mask)[mask])


# ---- attentive


def _plain_attention(head: nn.Module, steps: Steps, task: int) -> torch.Tensor:
    """The values of a task by torch's attention, with every token made and projected: (B, width).

    Its query and key projection are random ones whose product is what the head has learned.
    """
    B, T = steps.mask.shape
    d, width, num_heads = DIM // CELLS, 16, 2
    seconds = steps.seconds.masked_fill(~steps.mask, 0)
    tokens, valid, context = [], [], []
    for step in range(T):
        angles = [2 * math.pi * seconds[:, step] / (0.1 * 600 ** (i / 7)) for i in range(8)]
        time = torch.stack([torch.sin(angle) for angle in angles] + [torch.cos(angle) for angle in angles], dim=-1)
        for cell in range(CELLS):
            features = steps.features[:, step, cell * d : (cell + 1) * d]
            tokens.append(features + time @ head.place[:16] + head.place[16 + cell])
            valid.append(steps.mask[:, step])
            context.append(~steps.within[:, step])
    tokens, valid, context = (torch.stack(parts, dim=1) for parts in (tokens, valid, context))

    attention = nn.MultiheadAttention(width, num_heads, kdim=d, vdim=d, batch_first=True)
    query = torch.randn(width)
    keys = []
    for index in range(num_heads):
        q = query[8 * index : 8 * index + 8]
        # W_k with W_k^T q = u * sqrt(8), the scale that attention divides by
        keys.append(torch.outer(q, head.queries[task * num_heads + index]) * math.sqrt(8) / q.square().sum())
    state = {
        "q_proj_weight": torch.eye(width),
        "k_proj_weight": torch.cat(keys),
        "v_proj_weight": torch.cat([head.values[task * num_heads + index].T for index in range(num_heads)]),
        "in_proj_bias": torch.cat([torch.zeros(2 * width), head.bias[task]]),
        "out_proj.weight": torch.eye(width),
        "out_proj.bias": torch.zeros(width),
    }
    attention.load_state_dict({key: value.detach() for key, value in state.items()})
    bias = head.context[task * num_heads : (task + 1) * num_heads, None] * context[:, None, :]  # (B, heads, N)
    bias = bias.masked_fill(~valid[:, None, :], float("-inf")).reshape(B * num_heads, 1, -1)
    return attention(query.expand(B, 1, width), tokens, tokens, attn_mask=bias, need_weights=False)[0].squeeze(1)


@pytest.mark.parametrize("layers", [0, 2])
def test_attentive_is_plain_attention_over_all_tokens(layers):
    head, steps = _head("attentive", CONTEXT, layers=layers), _steps(*ROWS[CONTEXT])
    for parameter in (head.queries, head.place, head.context, head.bias):
        nn.init.normal_(parameter)
    logits = head(steps)
    for task, name in enumerate(("verb", "noun")):
        expected = head.classifier[name](head.layers(_plain_attention(head, steps, task)))
        torch.testing.assert_close(logits[name], expected, rtol=1e-4, atol=1e-4)


# ---- options as text


def test_options_are_read_from_text_and_the_rest_are_defaults():
    assert head_config("bilstm", {"hidden": "256", "dropout": "0.1"}) == BiLstmConfig(256, 2, 0.1)


def test_a_wrong_head_names_the_nearest_one():
    with pytest.raises(OptionError, match=r"^--head: no head 'bilstn'; did you mean 'bilstm'\? Known: .*bilstm, "):
        head_config("bilstn", {})


def test_a_wrong_option_names_the_nearest_one():
    with pytest.raises(OptionError, match=r"^--set: no option of bilstm 'hiden'; did you mean 'hidden'\?"):
        head_config("bilstm", {"hiden": "256"})


@pytest.mark.parametrize(
    ("head", "key", "text", "expected"),
    [
        ("bilstm", "hidden", "many", "hidden is 'many', not a whole number"),
        ("bilstm", "hidden", "2.5", "hidden is '2.5', not a whole number"),
        ("bilstm", "layers", "", "layers is '', not a whole number"),
        ("bilstm", "dropout", "half", "dropout is 'half', not a number"),
        ("bilstm", "hidden", "-1", "hidden is -1, not 0 or more"),
        ("bilstm", "layers", "-1", "layers is -1, not 1 or more"),
        ("attentive", "layers", "-1", "layers is -1, not 0 or more"),
        ("logistic", "steps", "-1", "steps is -1, not 0 or more"),
        ("logistic", "c", "nan", "c is nan, not from 0 to 1e"),
        ("attentive", "width", "100", "width is 100, not a multiple of 8 attention heads"),
        ("transformer", "width", "88", "width is 88, not a multiple of twice 8 attention heads"),
    ],
)
def test_a_wrong_value_of_an_option_is_refused(head, key, text, expected):
    with pytest.raises(OptionError, match=f"^--set: {expected}"):
        head_config(head, {key: text})


@trained_heads
@pytest.mark.parametrize(("text", "number"), [("1", "1.0"), ("-0.1", "-0.1"), ("nan", "nan")])
def test_a_dropout_that_is_no_probability_is_refused(name, text, number):
    with pytest.raises(OptionError, match=rf"^--set: dropout is {number}, not in \[0, 1\)"):
        head_config(name, {"dropout": text})


def test_a_name_can_be_registered_once():
    with pytest.raises(ValueError, match="'bilstm' is registered twice"):
        register("bilstm", BiLstmConfig)(nn.Module)


# ---- LSTMs by direction


@pytest.mark.parametrize("lengths", [(5, 5, 5), (5, 1, 3)], ids=["full", "padded"])
def test_an_lstm_by_direction_is_the_lstm_over_the_valid_steps(lengths):
    lstm = bidirectional_lstm(4, hidden=3, layers=2, dropout=0.5).double().eval()
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    found = []
    for run in (lstm_by_direction, lstm_outputs):
        x = torch.linspace(-1, 1, 60, dtype=torch.float64).view(3, 5, 4).requires_grad_()
        outputs = run(lstm, x, mask)
        lstm.zero_grad()
        outputs.square().sum().backward()
        found.append([outputs.detach(), x.grad, *(parameter.grad.clone() for parameter in lstm.parameters())])
    torch.testing.assert_close(*found)


def test_an_lstm_by_direction_drops_out_between_its_layers_in_training_only():
    lstm, mask = bidirectional_lstm(4, hidden=3, layers=2, dropout=0.5), torch.ones(2, 3, dtype=torch.bool)
    x = torch.ones(2, 3, 4)
    assert not torch.equal(lstm_by_direction(lstm, x, mask), lstm_by_direction(lstm, x, mask))
    lstm.eval()
    assert torch.equal(lstm_by_direction(lstm, x, mask), lstm_by_direction(lstm, x, mask))
