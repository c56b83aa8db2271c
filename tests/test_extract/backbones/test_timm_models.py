"""`timm:NAME`: features, pictures and weights are those of timm itself. Random weights, in timm's own format."""

from __future__ import annotations

import json
import re
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from extract.backbones import PublishedRepo, get
from extract.backbones.recommended import TIMM_MODELS
from extract.cli import main
from extract.decode.planes import BT601, PlaneBatch
from extract.preprocess import normalised, scaled
from extract.weights.load import load_backbone
from extract.weights.supervision import supervision_of
from features.errors import DataError, OptionError
from features.featureset import Weights, read_featureset

timm = pytest.importorskip("timm")
GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "encoders" / "golden" / "timm.json"

# One of each kind: name -> what its class token is.
KINDS = {
    "deit_tiny_patch16_224": "first token",
    "vit_small_patch16_dinov3": "first token",  # and four registers
    "vit_betwixt_patch16_reg4_gap_256": "none",  # registers alone
    "vit_base_patch16_siglip_224": "pooled",
    "vit_pe_core_tiny_patch16_384": "pooled",
    "vit_pe_spatial_tiny_patch16_512": "first token",
    "eva02_tiny_patch14_224": "first token",
    "vit_tiny_r_s16_p8_224": "first token",  # convolutions below
    "swin_tiny_patch4_window7_224": "none",
    "hiera_tiny_224": "none",
    "mobilenetv4_conv_small": "none",
    "convnext_atto": "none",
    "resnet18": "none",
}


def _published(name: str, folder: Path) -> tuple[torch.nn.Module, Path]:
    """Return a whole model of timm with random weights, and the file that timm would publish of it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, pretrained=False).eval()
        for parameter in model.parameters():  # no scale, bias or token stays at 0 or 1, where it would not show
            parameter.data += 0.02 * torch.randn_like(parameter)
    path = folder / "weights.pth"
    torch.save(model.state_dict(), path)
    return model, path


def _expected(model: torch.nn.Module, pictures: torch.Tensor, kind: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the patches (B, N, D) and the class token (B, D) by timm's own functions."""
    features = model.forward_features(pictures)
    if features.ndim == 4:
        is_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        return (features if is_last else features.permute(0, 2, 3, 1)).flatten(1, 2), None
    token = {
        "none": lambda: None,
        "first token": lambda: features[:, 0],
        "pooled": lambda: model.forward_head(features, pre_logits=True),
    }[kind]()
    return features[:, getattr(model, "num_prefix_tokens", 0) :], token


_LARGEST = (
    "swin_tiny_patch4_window7_224",
    "hiera_tiny_224",
    "vit_base_patch16_siglip_224",
    "vit_betwixt_patch16_reg4_gap_256",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in _LARGEST else ()) for name in KINDS]
)
def test_features_are_timms_own(name, tmp_path):
    entry = get(f"timm:{name}")
    model, path = _published(name, tmp_path)
    network, _ = load_backbone(entry, str(path))
    pictures = torch.randn(2, 3, *entry.preprocess.crop, generator=torch.manual_seed(1))
    with torch.inference_mode():
        expected_patches, expected_token = _expected(model, pictures, KINDS[name])
        (tokens,) = network(pictures.unsqueeze(2))
    assert tokens.patches.shape == (2, 1, entry.side, entry.side, entry.dim)
    torch.testing.assert_close(tokens.patches.flatten(1, 3), expected_patches, rtol=1e-4, atol=1e-4)
    assert entry.class_token == (expected_token is not None) == (tokens.class_token is not None)
    if expected_token is not None:
        torch.testing.assert_close(tokens.class_token[:, 0], expected_token, rtol=1e-4, atol=1e-4)
    if entry.num_layers:
        last = entry.num_layers - 1
        with torch.inference_mode():
            first_layer, last_layer = network(pictures.unsqueeze(2), (0, last))
        torch.testing.assert_close(last_layer.patches, tokens.patches, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(first_layer.patches, tokens.patches, atol=0.1)


def test_file_that_does_not_fit_is_refused_with_the_name(tmp_path):
    entry = get("timm:deit_tiny_patch16_224")
    model, path = _published("deit_tiny_patch16_224", tmp_path)
    state = model.state_dict()
    changes = {
        "blocks.3.attn.qkv.bias": {name: value for name, value in state.items() if name != "blocks.3.attn.qkv.bias"},
        "blocks.12.norm1.bias": state | {"blocks.12.norm1.bias": torch.zeros(192)},
        "pos_embed": state | {"pos_embed": torch.zeros(1, 257, 192)},  # timm itself would resize it
    }
    for name, changed in changes.items():
        torch.save(changed, path)
        with pytest.raises(DataError, match=re.escape(name)):
            load_backbone(entry, str(path))


def test_config_of_another_model_is_refused(tmp_path):
    from safetensors.torch import save_file

    model, _ = _published("resnet18", tmp_path)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet34"}))
    with pytest.raises(DataError, match="architecture 'resnet34' instead of 'resnet18'"):
        load_backbone(get("timm:resnet18"), str(tmp_path))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", [(360, 640), (720, 406)], ids=str)
def test_pictures_are_those_of_timms_transform_to_two_levels(name, size):
    entry = get(f"timm:{name}")
    height, width = size
    coarse = np.random.default_rng(0).integers(30, 226, (9, 16, 3), dtype=np.uint8)
    scene = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    frame = av.VideoFrame.from_ndarray(scene, format="rgb24").reformat(format="yuv420p")
    y, u, v = (np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : plane.width] for plane in frame.planes)
    batch = PlaneBatch(y[None].copy(), np.stack([u, v])[None])
    ours = normalised(scaled(batch, entry.preprocess, torch.device("cpu")), [BT601], entry.preprocess)[0]
    settings = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    rgb = frame.reformat(format="rgb24", interpolation=0x2 | 0x40000 | 0x2000).to_ndarray()
    expected = timm.data.create_transform(**settings, is_training=False)(Image.fromarray(rgb))
    difference = 255 * (ours - expected) * torch.tensor(entry.preprocess.std)[:, None, None]
    assert ours.shape == expected.shape
    assert difference.abs().mean() < 2
    assert difference.mean(dim=(1, 2)).abs().max() < 0.5


def test_record_is_that_of_the_default_weights_if_none_are_named():
    entry = get("timm:vit_base_patch16_224")
    assert entry == get("timm:vit_base_patch16_224.augreg2_in21k_ft_in1k")
    assert entry.name == "timm:vit_base_patch16_224.augreg2_in21k_ft_in1k"
    assert entry.weights == PublishedRepo("timm/vit_base_patch16_224.augreg2_in21k_ft_in1k")
    assert (entry.dim, entry.side, entry.num_layers, entry.class_token) == (768, 14, 12, True)
    assert entry.parameters == 85_798_656  # of its page on the hub, without the classifier
    assert entry.gflops == pytest.approx(16.9, rel=0.04)  # of its page
    assert entry.pretraining == "ImageNet-21k, ImageNet-1k"


@pytest.mark.skipif(not GOLDEN.is_file(), reason="shared/ is not there")
def test_records_are_what_timm_was_found_to_say():
    golden = json.loads(GOLDEN.read_text())
    small = [name for name, facts in golden.items() if facts["params"] < 90e6]
    assert len(small) > 5
    for name in small:
        entry, facts = get(f"timm:{name}"), golden[name]
        assert list(entry.preprocess.crop) == facts["input_size"][1:], name
        assert list(entry.preprocess.mean) == facts["mean"], name
        assert entry.licence.weights == facts["license"], name
        assert entry.dim == facts["width"], name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet5o", r"--backbone: timm \S+ has no model 'resnet5o'; did you mean resnet"),
        ("timm:", "has no model ''"),
        ("timm:resnet18.none", r"timm's resnet18 has no weights 'none'; it has .*a1_in1k"),
        ("timm:coat_tiny", "cannot be used for features"),
        ("timm:crossvit_9_240", "cannot be used for features"),
    ],
)
def test_model_that_cannot_be_had_is_a_wrong_option(name, message):
    with pytest.raises(OptionError, match=message):
        get(name)


def test_level_of_supervision_is_known_where_the_tag_says_the_data():
    weights = Weights("path", "timm/x@1", "0" * 64)
    assert supervision_of(get("timm:vit_base_patch16_224"), weights) == 1
    assert supervision_of(get("timm:vit_small_patch16_dinov3"), weights) == 5
    assert supervision_of(get("timm:vit_pe_core_tiny_patch16_384"), weights) is None


def test_list_names_models_worth_a_try_and_finds_others():
    runner = CliRunner()
    output = runner.invoke(main, ["backbones"]).output
    assert all(name in output for name in TIMM_MODELS)
    assert {name.removeprefix("timm:") for name in TIMM_MODELS} <= set(timm.list_pretrained())
    found = runner.invoke(main, ["backbones", "--timm", "vit_pe_core_*"])
    assert found.exit_code == 0
    assert "timm:vit_pe_core_large_patch14_336.fb" in found.output.split()
    assert runner.invoke(main, ["backbones", "--timm", "vit_nothing*"]).exit_code == 2


def test_extract_run_records_timms_version_and_keeps_the_class_token(miniature, tmp_path):
    segment = tmp_path / "EPIC_100_validation.csv"
    pd.read_csv(miniature.annotations / "EPIC_100_validation.csv").head(1).to_csv(segment, index=False)
    options = ["--annotations", segment, "--videos", miniature.videos, "--frames", "2", "--workers", "1"]
    options += ["--backbone", "timm:deit_tiny_patch16_224", "--weights", "random:0", "--out", tmp_path / "set"]
    result = CliRunner().invoke(main, ["run", *map(str, options), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    featureset = read_featureset(tmp_path / "set")
    assert featureset.backbone == "timm:deit_tiny_patch16_224.fb_in1k"
    assert (featureset.tokens, featureset.dim) == ("mean+cls", 2 * 192)
    assert featureset.versions["timm"] == timm.__version__
