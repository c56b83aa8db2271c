"""--tokens and --layers: what may be asked of a backbone, the cells that a step gets, and which layer is which."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from published_networks import available, with_random_weights
from torch import nn

from extract.backbones import get, names
from extract.backbones.architecture import TransformersModel
from extract.backbones.networks.clip_network import ClipNetwork, LayerTokens
from extract.backbones.networks.pooling import steps
from extract.backbones.tokens import Tokens, choose_tokens
from features.errors import OptionError

# ---- what is asked for


@pytest.mark.parametrize(
    ("tokens", "layers", "expected"),
    [
        ("mean", None, ["mean"]),
        ("cls", None, ["cls"]),
        ("grid2", None, ["grid2:0,0", "grid2:0,1", "grid2:1,0", "grid2:1,1"]),
        ("mean+cls", "last", ["mean", "cls"]),
        ("mean", "11", ["mean"]),  # the last one
        ("cls+mean", "last,3", ["layer3:cls", "layer3:mean", "layer11:cls", "layer11:mean"]),
        ("mean", [5, "last"], ["layer5:mean", "layer11:mean"]),
        ("mean", "5", ["layer5:mean"]),
    ],
)
def test_cells_have_names_in_their_order(tokens, layers, expected):
    assert list(choose_tokens(tokens, layers, get("dinov2_base")).cells) == expected


def test_every_backbone_can_have_its_own_default():
    for entry in map(get, names()):
        assert choose_tokens(None, None, entry) == Tokens(tuple(entry.tokens.split("+"))), entry.name


@pytest.mark.parametrize(
    ("name", "tokens", "layers", "message"),
    [
        ("resnet50", "grid3", None, r"--tokens: 'grid3' is none of mean, cls, grid2, grid4, nor several of them"),
        ("resnet50", "Mean", None, r"--tokens: 'Mean' is none of"),
        ("resnet50", "", None, r"--tokens: '' is none of"),
        ("dinov2", "mean+", None, r"--tokens: 'mean\+' is none of"),
        ("dinov2", "cls+mean+cls", None, r"--tokens: 'cls\+mean\+cls' has cls twice"),
        ("resnet50", "cls", None, r"--tokens: resnet50 has no class token; leave cls out"),
        ("videomae", "mean+cls", None, r"--tokens: videomae_base_k400 has no class token"),
        ("tiny_cnn", "grid2", None, r"--tokens: grid2 is finer than the last map of tiny_cnn, 1 x 1"),
        ("resnet50", "mean", "last", r"--layers: resnet50 has no layers to choose from"),
        ("mvit", "mean", "3", r"--layers: mvit_v2_s has no layers to choose from"),
        ("dinov2", "mean", "3,12", r"--layers: dinov2_base has layers 0 to 11 \(or last\), and no '12'"),
        ("dinov2", "mean", "-1", r"--layers: dinov2_base has layers 0 to 11 \(or last\), and no '-1'"),
        ("dinov2", "mean", "", r"--layers: dinov2_base has layers 0 to 11 \(or last\), and no ''"),
        ("dinov2", "mean", "2,3,2", r"--layers: layer 2 is given twice"),
        ("dinov2", "mean", "11,last", r"--layers: layer 11 is given twice"),
    ],
)
def test_what_a_backbone_does_not_have_is_a_wrong_option(name, tokens, layers, message):
    with pytest.raises(OptionError, match=message):
        choose_tokens(tokens, layers, get(name))


# ---- what a step gets


class _Stored(ClipNetwork):
    """Gives these tokens, whatever the clip, and doubles averages as if that were a norm."""

    def __init__(self, **layers: LayerTokens) -> None:
        super().__init__(nn.Identity())
        self.layers = list(layers.values())

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        return tuple(self.layers[layer] for layer in layers or (-1,))

    def normalised_mean(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def _tokens(seed: int, *, class_steps: int) -> LayerTokens:
    generator = torch.Generator().manual_seed(seed)
    return LayerTokens(
        torch.rand(2, 3, 4, 6, 5, generator=generator), torch.rand(2, class_steps, 5, generator=generator)
    )


def test_a_step_holds_the_cells_of_each_layer_side_by_side():
    first, second = _tokens(0, class_steps=3), _tokens(1, class_steps=3)
    network = _Stored(first=first, second=second)
    kept = Tokens(("grid2", "cls", "mean"), (0, 1))
    cells = dict(zip(kept.cells, steps(network, torch.empty(0), kept).unbind(dim=2), strict=True))
    for number, layer in enumerate((first, second)):
        torch.testing.assert_close(cells[f"layer{number}:mean"], 2 * layer.patches.mean(dim=(2, 3)))
        torch.testing.assert_close(cells[f"layer{number}:cls"], layer.class_token)
        for row in (0, 1):
            for column in (0, 1):
                region = layer.patches[:, :, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
                torch.testing.assert_close(cells[f"layer{number}:grid2:{row},{column}"], 2 * region.mean(dim=(2, 3)))


def test_a_class_token_of_a_whole_clip_is_repeated_on_each_of_its_steps():
    stored = _tokens(0, class_steps=1)
    cells = steps(_Stored(only=stored), torch.empty(0), Tokens(("cls",)))
    assert cells.shape == (2, 3, 1, 5)
    for step in range(3):
        assert torch.equal(cells[:, step, 0], stored.class_token[:, 0])


# ---- layers

# Three layers of a few values, on pictures of 2 x 2 or 4 x 4 patches.
_SMALL = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
_SIZES = {"image_size": 32, "crop_size": 32, "num_frames": 4}
_TRANSFORMERS = (
    "dinov2_base",
    "dinov3_base",
    "siglip2_base",
    "timesformer_base_k400",
    "videomae_base_k400",
    "videomae_base_k400_ssl",
    "vjepa2_vitl_256",
)


def _small(name: str, num_layers: int) -> ClipNetwork:
    """Return a small network of a backbone's kind."""
    model = get(name).model
    sizes = {key: size for key, size in (_SMALL | _SIZES).items() if key in model.settings}
    settings = {**model.settings, **sizes, "num_hidden_layers": num_layers}
    if name.startswith("vjepa2"):
        settings |= {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    return with_random_weights(replace(model, settings=settings).build())


@pytest.mark.parametrize("name", available(_TRANSFORMERS))
def test_a_layer_is_the_last_one_of_a_network_that_ends_there(name):
    clip = torch.randn(2, 3, 4 if get(name).clip.fps else 1, 32, 32, generator=torch.Generator().manual_seed(0))
    deep = _small(name, 3)
    with torch.inference_mode():
        layers = deep(clip, (0, 1, 2))
        assert torch.equal(layers[2].patches, deep(clip)[0].patches)
        assert torch.equal(deep(clip, (1,))[0].patches, layers[1].patches)
        for number in (0, 1):
            ending = _small(name, number + 1)
            state = deep.network.state_dict()
            ending.network.load_state_dict({key: state[key] for key in ending.network.state_dict()})
            (expected,) = ending(clip)
            torch.testing.assert_close(layers[number].patches, expected.patches)
            torch.testing.assert_close(layers[number].class_token, expected.class_token)
    assert not torch.allclose(layers[0].patches, layers[1].patches, rtol=1e-2)


def test_entry_says_how_many_layers_the_network_has():
    for entry in map(get, names()):
        if isinstance(entry.model, TransformersModel):
            assert entry.num_layers == entry.model.settings.get("num_hidden_layers", 0), entry.name
