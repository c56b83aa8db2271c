"""The contract of heads, for every name in the registry; then what is particular to one of them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from heads.models.standardised import Standardised
from torch import nn

from features.errors import DataError, OptionError
from heads.checkpoint import HeadRecipe, build_model, load_model, save_model
from heads.models import build_head, get, head_config, names, options_of, register
from heads.models.bilstm import BiLstmConfig

DIM = 6
every_head = pytest.mark.parametrize("name", names())
order_reading_heads = pytest.mark.parametrize("name", sorted(set(names()) - {"mean_pool"}))


def _options(name: str, **options: object) -> dict[str, object]:
    config = get(name).config
    small = {"hidden": 8} if "hidden" in {field.name for field in dataclasses.fields(config)} else {}
    return options_of(config(**{**small, **options}))


def _head(name: str, *, seed: int = 0, **options: object) -> nn.Module:
    torch.manual_seed(seed)
    return build_head(name, DIM, _options(name, **options)).eval()


def _input(*lengths: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Segments of these lengths, padded with zeros to the longest."""
    torch.manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randn(*mask.shape, DIM) * mask[..., None], mask


def test_the_registry_names_the_three_heads():
    assert set(names()) >= {"mean_pool", "bilstm", "multiscale_lstm"}


@every_head
@pytest.mark.parametrize("num_steps", [1, 2, 3, 5, 16])
def test_any_number_of_steps_gives_verb_and_noun_logits(name, num_steps):
    verb, noun = _head(name)(*_input(num_steps, num_steps))
    assert (verb.shape, noun.shape) == ((2, 97), (2, 300))


@every_head
def test_logits_are_float32(name):
    assert {logits.dtype for logits in _head(name)(*_input(3, 5))} == {torch.float32}


@every_head
def test_logits_are_finite_for_extreme_features(name):
    features, mask = _input(3, 5)
    assert all(logits.isfinite().all() for logits in _head(name)(features * 65504, mask))


@every_head
@pytest.mark.parametrize("garbage", [1e4, float("inf"), float("nan")])
def test_what_lies_in_the_padding_changes_nothing(name, garbage):
    head = _head(name)
    features, mask = _input(1, 3, 5)
    expected = head(features, mask)
    more = torch.full((3, 4, DIM), garbage)
    padded = torch.cat([features.where(mask[..., None], garbage), more], dim=1)
    found = head(padded, torch.cat([mask, torch.zeros(3, 4, dtype=torch.bool)], dim=1))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@every_head
def test_a_batch_of_one_is_the_row_of_many(name):
    head = _head(name)
    lengths = (4, 1, 7, 2, 5)
    features, mask = _input(*lengths)
    verb, noun = head(features, mask)
    for row, length in enumerate(lengths):
        alone = head(features[row : row + 1, :length], mask[row : row + 1, :length])
        torch.testing.assert_close(alone, (verb[row : row + 1], noun[row : row + 1]), rtol=0, atol=1e-6)


@every_head
def test_gradients_reach_every_parameter(name):
    head = _head(name)
    verb, noun = head(*_input(16, 11, 5))
    (verb.square().sum() + noun.square().sum()).backward()
    without = [key for key, value in head.named_parameters() if value.grad is None or not value.grad.any()]
    assert without == []


@every_head
def test_a_seed_gives_the_same_weights(name):
    one, again = _head(name, seed=3).state_dict(), _head(name, seed=3).state_dict()
    assert all(torch.equal(one[key], again[key]) for key in one)


@every_head
def test_another_seed_gives_other_weights(name):
    one, other = _head(name, seed=3).state_dict(), _head(name, seed=4).state_dict()
    assert not any(torch.equal(one[key], other[key]) for key in one)


@every_head
def test_dropout_acts_in_training_only(name):
    head = _head(name, dropout=0.5)
    batch = _input(3, 5)
    in_evaluation = [head(*batch)[0] for _ in range(2)]
    head.train()
    in_training = [head(*batch)[0] for _ in range(2)]
    assert (torch.equal(*in_evaluation), torch.equal(*in_training)) == (True, False)


@every_head
def test_a_saved_head_gives_the_same_logits_when_loaded(name, tmp_path):
    torch.manual_seed(0)
    recipe = HeadRecipe(name, _options(name), DIM, "digest")
    model = build_model(recipe).eval()
    model.mean, model.std = torch.randn(DIM), torch.rand(DIM) + 0.5
    save_model(tmp_path / "best_model.pth", recipe, model)
    loaded = load_model(tmp_path / "best_model.pth", device=torch.device("cpu"), featureset="digest").eval()
    batch = _input(3, 5)
    torch.testing.assert_close(loaded(*batch), model(*batch), rtol=0, atol=0)


def test_a_head_of_another_feature_set_is_refused(tmp_path):
    recipe = HeadRecipe("mean_pool", _options("mean_pool"), DIM, "a" * 64)
    save_model(tmp_path / "best_model.pth", recipe, build_model(recipe))
    with pytest.raises(DataError, match=r"trained on other features .*aaaaaaaa against bbbbbbbb"):
        load_model(tmp_path / "best_model.pth", device=torch.device("cpu"), featureset="b" * 64)


def test_a_checkpoint_that_was_cut_short_is_refused(tmp_path):
    recipe = HeadRecipe("mean_pool", _options("mean_pool"), DIM, "digest")
    path = tmp_path / "best_model.pth"
    save_model(path, recipe, build_model(recipe))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"best_model\.pth: cannot be loaded safely"):
        load_model(path, device=torch.device("cpu"), featureset="digest")


# ---- what is particular to one head


def test_mean_pool_is_blind_to_the_order_of_steps():
    head, (features, mask) = _head("mean_pool"), _input(5, 5)
    torch.testing.assert_close(head(features.flip(1), mask), head(features, mask), rtol=0, atol=1e-6)


@order_reading_heads
def test_other_heads_read_the_order_of_steps(name):
    head, (features, mask) = _head(name), _input(5, 5)
    assert (head(features.flip(1), mask)[0] - head(features, mask)[0]).abs().max() > 1e-3


def test_mean_pool_is_a_linear_layer_on_the_mean():
    head, (features, mask) = _head("mean_pool"), _input(2, 5)
    for row, length in enumerate((2, 5)):
        mean = features[row, :length].numpy().mean(axis=0)
        expected = head.classifier.noun.weight.detach().numpy() @ mean + head.classifier.noun.bias.detach().numpy()
        torch.testing.assert_close(head(features, mask)[1][row], torch.from_numpy(expected))


def _plain_lstm_mean(lstm: nn.LSTM, steps: torch.Tensor) -> torch.Tensor:
    """The outputs of an LSTM on one unpadded sequence (T, D), averaged over time."""
    return lstm(steps)[0].mean(dim=0)


def test_bilstm_is_a_plain_lstm_on_each_unpadded_segment():
    head, lengths = _head("bilstm"), (4, 1, 7)
    features, mask = _input(*lengths)
    pooled = torch.stack([_plain_lstm_mean(head.lstm, features[row, :length]) for row, length in enumerate(lengths)])
    torch.testing.assert_close(head(features, mask), (head.classifier.verb(pooled), head.classifier.noun(pooled)))


def test_multiscale_lstm_reads_every_step_every_second_and_every_fourth():
    head, lengths = _head("multiscale_lstm"), (9, 1, 6)
    features, mask = _input(*lengths)
    pooled = torch.stack(
        [
            torch.cat(
                [
                    _plain_lstm_mean(lstm, features[row, list(range(0, length, stride))])
                    for stride, lstm in zip((1, 2, 4), head.branches, strict=True)
                ]
            )
            for row, length in enumerate(lengths)
        ]
    )
    torch.testing.assert_close(head(features, mask)[0], head.classifier.verb(head.fuse(pooled)))


def test_bilstm_of_2048_wide_features_has_as_many_parameters_as_counted_by_hand():
    one_direction = 4 * 1024 * (2048 + 1024) + 2 * 4 * 1024  # four gates of weights, and two biases each
    both_layers = 2 * 2 * one_direction  # the second layer reads both directions: 2048 wide as well
    classifiers = (2048 * 97 + 97) + (2048 * 300 + 300)
    with torch.device("meta"):
        head = build_head("bilstm", 2048, {})
    assert sum(parameter.numel() for parameter in head.parameters()) == both_layers + classifiers


def test_one_layer_lstm_needs_no_dropout_between_layers():
    assert _head("bilstm", layers=1).lstm.dropout == 0.0


def test_standardisation_is_that_of_the_given_statistics():
    features, mask = _input(5, 5)
    mean, std = torch.randn(DIM), torch.rand(DIM) + 0.5
    head = _head("mean_pool")
    by_hand = torch.stack([(step - mean) / std for step in features.reshape(-1, DIM)]).reshape(features.shape)
    torch.testing.assert_close(Standardised(head, mean, std)(features, mask), head(by_hand, mask))


def test_standardisation_is_saved_and_never_trained():
    model = Standardised(_head("mean_pool"), torch.zeros(DIM), torch.ones(DIM))
    trained = {name for name, _ in model.named_parameters()}
    assert {"mean", "std"} <= set(model.state_dict()) - trained


# ---- options as text


def test_options_are_read_from_text_and_the_rest_are_defaults():
    assert head_config("bilstm", {"hidden": "256", "dropout": "0.1"}) == BiLstmConfig(256, 2, 0.1)


def test_a_wrong_head_names_the_nearest_one():
    with pytest.raises(OptionError, match=r"^--head: no head 'bilstn'; did you mean 'bilstm'\? Known: bilstm, mean_p"):
        head_config("bilstn", {})


def test_a_wrong_option_names_the_nearest_one():
    with pytest.raises(OptionError, match=r"^--set: no option of bilstm 'hiden'; did you mean 'hidden'\?"):
        head_config("bilstm", {"hiden": "256"})


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("hidden", "many", "hidden is 'many', not a whole number"),
        ("hidden", "2.5", "hidden is '2.5', not a whole number"),
        ("layers", "", "layers is '', not a whole number"),
        ("dropout", "half", "dropout is 'half', not a number"),
        ("hidden", "0", "hidden is 0, not 1 or more"),
        ("layers", "-1", "layers is -1, not 1 or more"),
        ("dropout", "1", r"dropout is 1.0, not in \[0, 1\)"),
        ("dropout", "-0.1", r"dropout is -0.1, not in \[0, 1\)"),
        ("dropout", "nan", r"dropout is nan, not in \[0, 1\)"),
    ],
)
def test_a_wrong_value_of_an_option_is_refused(key, text, expected):
    with pytest.raises(OptionError, match=f"^--set: {expected}"):
        head_config("bilstm", {key: text})


def test_a_name_can_be_registered_once():
    with pytest.raises(ValueError, match="'bilstm' is registered twice"):
        register("bilstm", BiLstmConfig)(nn.Module)
