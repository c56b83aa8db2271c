"""The contract of every backbone: its entry is true, and its features are its source's own."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from published_networks import (
    ANY_SIZE,
    FADING,
    GOLDEN,
    REPRESENTATIVES,
    Source,
    as_tested,
    at_full_size,
    available,
    every_variant,
    narrow,
    network_of,
    representatives,
    source_of,
)
from torch.utils.flop_counter import FlopCounterMode

from extract.backbones import ALIASES, Backbone, PublishedFile, PublishedPage, PublishedRepo, get, names, register
from extract.backbones.networks.clip_network import ClipNetwork, LayerTokens
from extract.backbones.networks.pooling import steps
from extract.backbones.tokens import MEAN, Tokens
from extract.decode.planes import BT601, PlaneBatch
from extract.forward import Forward
from extract.preprocess import normalised, scaled
from extract.weights.load import load_backbone
from features.errors import OptionError

CPU = torch.device("cpu")
# One of each family, at full size in the slow tests. MViT is never tested smaller, and of some no library has a model.
_FULL_SIZE = [
    name for name in REPRESENTATIVES if name not in ("mvit_v2_s", "tiny_cnn") and get(name).family not in GOLDEN
]


def _clip(entry: Backbone) -> torch.Tensor:
    """Return (1, C, L, H, W) of noise, through the backbone's own preprocessing."""
    return _prepared(entry, entry.clip.num_frames, (60, 80)).transpose(0, 1).unsqueeze(0)


def _prepared(entry: Backbone, num: int, size: tuple[int, int]) -> torch.Tensor:
    """Return pictures of noise as the backbone wants them, (num, 3, h, w)."""
    rng = np.random.default_rng(0)
    height, width = size
    y = rng.integers(0, 256, (num, height, width), dtype=np.uint8)
    uv = rng.integers(0, 256, (num, 2, height // 2, width // 2), dtype=np.uint8)
    pictures = scaled(PlaneBatch(y, uv), entry.preprocess, CPU)
    return normalised(pictures, [BT601] * num, entry.preprocess)


@dataclass(frozen=True)
class _Run:
    """A backbone that has been used: with its source's random weights, a clip, and the steps it gave for it."""

    entry: Backbone
    source: Source | None
    network: ClipNetwork
    clip: torch.Tensor
    steps: torch.Tensor

    @cached_property
    def tokens(self) -> LayerTokens:
        """Tokens of the clip."""
        with torch.inference_mode():
            return self.network(self.clip)[0]

    @cached_property
    def coarse(self) -> torch.Tensor:
        """Steps of the clip on a grid of 2 x 2."""
        with torch.inference_mode():
            return steps(self.network, self.clip, Tokens(("grid2",)))


def _run(entry: Backbone, folder: Path) -> _Run:
    source = source_of(entry)
    network, _ = load_backbone(entry, str(source.save(folder)) if source else "random:0")
    shutil.rmtree(folder)  # all of them are gigabytes
    clip = _clip(entry)
    with torch.inference_mode():
        return _Run(entry, source, network, clip, steps(network, clip, MEAN))


@pytest.fixture(scope="module", params=every_variant())
def run(request, tmp_path_factory) -> _Run:
    return _run(as_tested(request.param), tmp_path_factory.mktemp("published"))


# The same networks, so that each is made once.
# MViT takes pictures of one size only, and as long as all others together.
family = pytest.mark.parametrize("run", representatives("mvit_v2_s"), indirect=True, scope="module")


def _assert_features_of_the_source(run: _Run) -> None:
    with torch.inference_mode():
        expected = run.source.steps(run.clip)
    assert expected.std() > 0.01
    # Once settled, networks that fade have large values: those of efficientnet_b4 reach 4e5, where neighbouring float32
    # numbers are 0.03 apart. Only there is the tolerance relative to the largest.
    largest = float(expected.abs().max()) if run.entry.name in FADING else 1.0
    assert (run.steps[:, :, 0] - expected).abs().max() <= 1e-4 * largest


def test_features_are_those_of_the_source(run):
    if run.source is None:
        pytest.skip("no library has this model; its golden files are compared instead, and tiny_cnn is ours alone")
    _assert_features_of_the_source(run)


@family
def test_class_token_is_that_of_the_source(run):
    if run.entry.family in GOLDEN:
        pytest.skip("no library has this model; its golden files are compared instead, and tiny_cnn is ours alone")
    if run.source is None or run.source.class_token is None:
        assert not run.entry.class_token
        assert run.tokens.class_token is None
        return
    with torch.inference_mode():
        expected = run.source.class_token(run.clip)  # (B, D)
    assert expected.std() > 0.01
    assert (run.tokens.class_token[:, 0] - expected).abs().max() <= 1e-4


def test_steps_are_float32_of_the_shape_that_the_entry_says(run):
    assert run.steps.shape == (1, run.entry.clip.num_steps, 1, run.entry.dim)
    assert run.steps.dtype == torch.float32


def test_network_is_frozen(run):
    assert not any(module.training for module in run.network.modules())
    assert not any(parameter.requires_grad for parameter in run.network.parameters())


@pytest.mark.parametrize("name", available(_FULL_SIZE, pytest.mark.slow))
def test_features_at_full_size_are_those_of_the_source(name, tmp_path):
    run = _run(at_full_size(name), tmp_path)
    _assert_features_of_the_source(run)
    assert run.steps.shape == (1, run.entry.clip.num_steps, 1, run.entry.dim)


def test_docs_say_what_is_compared_at_full_size():
    text = (Path(__file__).resolve().parents[3] / "docs" / "backbones.md").read_text(encoding="utf-8")
    full, _ = text.partition("**At full size**")[2].split("- **Reduced**")
    assert set(re.findall(r"`(\w+)`", full)) == set(_FULL_SIZE)


@pytest.mark.parametrize("name", every_variant())
def test_entry_says_what_the_network_costs(name):
    # On the device "meta", where nothing is computed, in full.
    entry = get(name)
    with torch.device("meta"):
        network = entry.model.build().eval()
        clip = torch.empty(1, 3, entry.clip.num_frames, *(entry.preprocess.crop or entry.preprocess.resize))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        (tokens,) = network(clip)
    assert sum(parameter.numel() for parameter in network.parameters()) == entry.parameters
    assert counter.get_total_flops() / 2e9 == pytest.approx(entry.gflops, rel=0.01)
    assert tokens.patches.shape == (1, entry.clip.num_steps, entry.side, entry.side, entry.dim)
    assert (tokens.class_token is not None) == entry.class_token


def test_every_family_is_represented_in_make_test():
    assert {get(name).family for name in REPRESENTATIVES} == {get(name).family for name in names()}


def test_entries_of_one_network_say_the_same_of_it():
    """So that a test of one of them is a test of all."""
    costs: dict[object, set] = {}
    for entry in map(get, names()):
        costs.setdefault(network_of(entry), set()).add((entry.dim, entry.side, entry.parameters, entry.gflops))
    assert all(len(facts) == 1 for facts in costs.values())


# ---- of one of each family: grids, precision, batches, random weights


@family
def test_grid_holds_the_average_of_each_cell(run):
    entry, side = run.entry, run.entry.side
    if side == 1:
        pytest.skip("there is no grid of one position")
    coarse, finest = run.coarse, run.tokens.patches
    assert coarse.shape == (1, entry.clip.num_steps, 4, entry.dim)
    if entry.name.startswith(("convnext", "videomae", "hiera")):
        return  # these normalise after the average, which is no average any more
    torch.testing.assert_close(finest.mean(dim=(2, 3)), run.steps[:, :, 0], rtol=1e-4, atol=1e-5)
    half = -(-side // 2)
    for cell, (row, column) in enumerate([(0, 0), (0, side - half), (side - half, 0), (side - half, side - half)]):
        expected = finest[:, :, row : row + half, column : column + half].mean(dim=(2, 3))
        torch.testing.assert_close(coarse[:, :, cell], expected, rtol=1e-4, atol=1e-5)


@family
def test_cells_of_a_grid_lie_where_the_picture_has_them(run):
    if run.entry.side == 1:
        pytest.skip("there is no grid of one position")
    changed_clip = run.clip.clone()
    height, width = changed_clip.shape[3:]
    corner = changed_clip[..., : height // 3, -width // 3 :]  # above on the right
    corner[:] = 2 * changed_clip.mean() - corner  # as bright as before on the whole
    with torch.inference_mode():
        changes = (steps(run.network, changed_clip, Tokens(("grid2",))) - run.coarse)[0].norm(dim=2).mean(dim=0)  # (4,)
    assert changes.argmax() == 1


def _corner(entry: Backbone, clip: torch.Tensor, side: int) -> torch.Tensor:
    """Return less of a clip, where a network takes it: side x side positions of the last map, or two frames."""
    if entry.family in ANY_SIZE:
        height, width = (side * size // entry.side for size in clip.shape[3:])
        return clip[..., :height, :width]
    return clip[:, :, :2] if entry.family == "V-JEPA 2" else clip


def _assert_half_precision_points_the_same_way(entry: Backbone, network: ClipNetwork, clip: torch.Tensor) -> None:
    full, half = (
        Forward(network, entry.preprocess, CPU, precision).steps(clip).get() for precision in ("float32", "bfloat16")
    )
    assert not torch.equal(full, half)
    assert torch.cosine_similarity(full, half, dim=2).min() >= 0.999


@family
def test_half_precision_points_the_same_way(run):
    # A CPU that has no such arithmetic emulates it: a whole clip of a 3D ResNet takes it minutes instead of a second.
    _assert_half_precision_points_the_same_way(run.entry, run.network, _corner(run.entry, run.clip, 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in REPRESENTATIVES if get(name).family in GOLDEN])
def test_half_precision_points_the_same_way_after_all_layers(name):
    """Of networks that are our own; a publisher's network computes as its publisher made it."""
    entry = narrow(get(name))
    network, _ = load_backbone(entry, "random:0")
    _assert_half_precision_points_the_same_way(entry, network, _clip(entry))


@family
def test_clip_does_not_change_those_beside_it(run):
    with torch.inference_mode():
        both = steps(run.network, torch.cat([-run.clip, run.clip]), MEAN)
    torch.testing.assert_close(run.steps, both[1:], rtol=1e-5, atol=1e-5 * float(both.abs().max()))
    assert not torch.allclose(*both, rtol=1e-3)


# One that torch makes and one that transformers makes; the others are slow.
_QUICK_NAMES = ("r3d_18", "dinov2_base")
_SLOW_NAMES = [name for name in REPRESENTATIVES if name not in _QUICK_NAMES]


@pytest.mark.parametrize("name", [*available(_QUICK_NAMES), *available(_SLOW_NAMES, pytest.mark.slow)])
def test_random_weights_are_those_of_their_seed_and_leave_the_random_state(name):
    entry = as_tested(name)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    network, weights = load_backbone(entry, "random:0")
    assert torch.rand(1) == expected
    second_network, second_weights = load_backbone(entry, "random:0")
    state = second_network.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())
    assert weights == second_weights
    assert len(weights.sha256) == 64


@pytest.mark.parametrize("name", ["tiny_cnn", "dinov2_base"])
def test_record_of_weights_tells_them_from_others(name):
    records = [load_backbone(as_tested(name), f"random:{seed}")[1] for seed in (0, 1)]
    assert records[0].sha256 != records[1].sha256


# ---- what entries say


def test_preprocessing_gives_pictures_of_one_size():
    entries = {get(name).preprocess: name for name in names()}
    for preprocess, name in entries.items():
        sizes = {tuple(_prepared(get(name), 1, size).shape) for size in [(360, 640), (640, 360), (48, 64)]}
        assert sizes == {(1, 3, *(preprocess.crop or preprocess.resize))}, name


def test_record_of_preprocessing_is_plain_json_values():
    for name in names():
        record = get(name).preprocess.as_json()
        assert all(isinstance(value, (int, float, str, bool, list, type(None))) for value in record.values()), name


def test_published_weights_come_from_where_they_were_published():
    hosts = (
        "https://download.pytorch.org/models/",
        "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/",
        "https://dl.fbaipublicfiles.com/lavila/checkpoints/dual_encoders/",
        "https://dl.fbaipublicfiles.com/vjepa2/",
        "https://dl.fbaipublicfiles.com/hiera/",
        "https://dl.fbaipublicfiles.com/omnivore/models/",
        "https://huggingface.co/OpenGVLab/VideoMAE2/resolve/main/",
    )
    for name in names():
        weights = get(name).weights
        if isinstance(weights, PublishedFile):
            assert weights.url.startswith(hosts), name
        elif isinstance(weights, PublishedRepo):
            assert weights.repo.split("/")[0] in {"facebook", "google", "MCG-NJU", "fcakyon", "OpenGVLab"}, name
        elif isinstance(weights, PublishedPage):
            assert weights.page.startswith(("https://github.com/", "https://huggingface.co/")), name


def test_backbones_trained_on_labels_of_epic_say_so_twice():
    for entry in map(get, names()):
        assert (entry.seen_of_epic == "labels") == ("EPIC-KITCHENS-100" in entry.pretraining), entry.name


# Billions of multiply-adds of the same input, millions of parameters with the classifier, by the papers' tables.
PUBLISHED_SIZES = {
    "resnet50": (4.1, 25.6),
    "convnext_base": (15.4, 88.6),
    "efficientnet_b4": (4.4, 19.3),
    "mvit_v1_b": (70.5, 36.6),
    "mvit_v2_s": (64, 34.5),
    "slow_r50": (54.5, 32.5),
    "slowfast_r50": (65.7, 34.6),
    "slowfast_r101": (127.2, 62.8),
    "timesformer_base_k400": (196, 121.4),
    "timesformer_hr_k400": (1703, 121.4),
    "timesformer_long_k400": (2380, 121.4),
    "videomae_base_k400": (180, 87),
    "videomae_large_k400": (597, 305),
    "videomae_huge_k400": (1192, 633),
    "videomaev2_small_k710": (57, 22),
    "tsm_r50_epic": (33, 24.3),
}


def test_sizes_are_those_of_the_papers():
    for name, (gflops, millions) in PUBLISHED_SIZES.items():
        assert get(name).gflops == pytest.approx(gflops, rel=0.02), name
        assert get(name).parameters / 1e6 == pytest.approx(millions, rel=0.1), name


def test_table_has_what_the_field_reaches_for():
    expected = """resnet50 efficientnet_b4 convnext_base convnext_tiny dinov2_base dinov2_large dinov3_base dinov3_large
        siglip2_base siglip2_large r3d_18 mc3_18 r2plus1d_18 s3d mvit_v1_b mvit_v2_s swin3d_t swin3d_s swin3d_b
        timesformer_base_k400 timesformer_base_k600 timesformer_base_ssv2 timesformer_long_k400 timesformer_hr_k400
        videomae_base_k400 videomae_base_k400_ssl videomae_base_ssv2 videomae_large_k400 videomae_large_k400_ssl
        videomae_huge_k400 vjepa2_vitl_256 vjepa2_vith_256 vjepa2_vitg_256 vjepa2_vitg_384 slow_r50 slowfast_r50
        slowfast_r101 omnivore_swinb_epic slowfast_r50_epic tsn_r50_epic tsm_r50_epic videomae_large_epic
        videomaev2_small_k710 videomaev2_base_k710 videomaev2_giant_k710"""
    assert set(expected.split()) <= set(names())


def test_aliases_name_backbones():
    assert set(ALIASES.values()) <= set(names())
    assert not set(ALIASES) & set(names())
    assert all(get(alias) is get(name) for alias, name in ALIASES.items())


def test_name_can_be_taken_once():
    with pytest.raises(ValueError, match="twice"):
        register(get("tiny_cnn"))


def test_unknown_name_is_refused_with_the_nearest_known_one():
    with pytest.raises(OptionError, match=r"did you mean 'resnet50'\?"):
        get("resnet5")
