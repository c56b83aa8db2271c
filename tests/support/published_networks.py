"""The models that backbones come from, called as their libraries document it: what our features are compared with."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import torchvision
from packaging.version import Version
from torch import nn

from extract import backbones
from extract.backbones import Backbone, get
from extract.backbones.architecture import TorchModel
from extract.weights.load import load_backbone

# What an old torch goes with is older than these; test_architecture.py has what is said then.
BEFORE_DINOV3 = Version(version("transformers")) < Version("4.56")
_TRANSFORMERS = Version(version("transformers"))
_SINCE = {"DINOv3": Version("4.56"), "VideoPrism": Version("5.24")}


# A small variant of each family: kinds of networks, of layouts of time and of arithmetic.
REPRESENTATIVES = (
    "tiny_cnn",
    "resnet50",
    "convnext_tiny",
    "dinov2_base",
    "dinov3_base",
    "siglip2_base",
    "r3d_18",
    "mvit_v2_s",
    "swin3d_t",
    "slowfast_r50",
    "tsm_r50_epic",
    "timesformer_base_k400",
    "videomae_base_k400",
    "vjepa2_vitl_256",
    "vjepa21_base_384",
    "internvideo2_small",
    "avion_vitb_ego4d",
    "lavila_tsfb_ego4d",
    "hiera_base_16x224",
    "videoprism_base",
)
# Of these no library has a model: they are compared with golden files (test_egocentric_networks.py, test_vjepa21.py,
# test_internvideo2.py).
GOLDEN = ("Space-time CLIP", "Frozen in Time", "V-JEPA 2.1", "InternVideo2")


def available(names: Iterable[str], *marks: pytest.MarkDecorator) -> list:
    """Return names of backbones as a test's parameters; those that came after this transformers are skipped."""
    return [pytest.param(name, marks=[*marks, *_needs(get(name).family)]) for name in names]


def _needs(family: str) -> list[pytest.MarkDecorator]:
    since = _SINCE.get(family)
    if since is None or since <= _TRANSFORMERS:
        return []
    return [pytest.mark.skip(reason=f"{family} came with transformers {since}, which wants a newer torch")]


def network_of(entry: Backbone) -> tuple[object, ...]:
    """Return what tells an entry's network from others; weights, frame rates and colours do not."""
    return repr(entry.model), entry.clip.num_frames, entry.clip.num_steps, entry.preprocess.crop, entry.layout


def every_variant(*slow_names: str) -> list:
    """Return a name for each network as a test's parameters: those that represent no family are slow, and some more."""
    networks: dict[object, str] = {}
    for name in (*REPRESENTATIVES, *backbones.names()):
        networks.setdefault(network_of(get(name)), name)
    others = [name for name in networks.values() if name not in REPRESENTATIVES]
    return [*representatives(*slow_names), *available(others, pytest.mark.slow)]


def representatives(*slow_names: str) -> list:
    """Return the names of one variant of each family as a test's parameters; some of them are slow."""
    return [
        parameter
        for name in REPRESENTATIVES
        for parameter in available([name], *([pytest.mark.slow] if name in slow_names else []))
    ]


# Networks that take pictures of any size.
ANY_SIZE = ("image", "3D CNN", "Swin3D", "SlowFast", "V-JEPA 2.1", "TSM")
# Where positions are relative, or there are none, a clip of fewer frames will do: a whole one of V-JEPA 2 at 384 pixels
# has 9,216 tokens, and attention among them takes minutes.
_SHORTER_CLIPS = {"vjepa2": 8, "swin3d": 8, "omnivore": 8, "s3d": 16, "avion": 4, "egohod": 4, "lavila": 4}


def as_tested(name: str) -> Backbone:
    """Return a backbone as it is tested: one layer of what has many, small pictures, part of a clip where that will do.

    At full size, all of them take an hour on two cores, and the variants of a family differ in numbers only;
    `at_full_size` is for one variant of each family.
    """
    entry = narrow(shallow(get(name)))
    for prefix, num_frames in _SHORTER_CLIPS.items():
        if name.startswith(prefix):
            clip = entry.clip
            short_clip = replace(clip, num_frames=num_frames, num_steps=num_frames * clip.num_steps // clip.num_frames)
            entry = replace(entry, clip=short_clip)
    return entry


def narrow(entry: Backbone) -> Backbone:
    """Return a backbone with pictures that leave 4 x 4 positions of the last map, where it takes any size."""
    if entry.family not in ANY_SIZE:
        return entry
    size = 4 * round(entry.preprocess.crop[0] / entry.side)
    return replace(entry, side=4, preprocess=replace(entry.preprocess, crop=(size, size)))


def at_full_size(name: str) -> Backbone:
    """Return a backbone with all layers, pictures of the published size and a whole clip.

    Where that takes a CPU most of a minute (V-JEPA 2), it has one layer.
    """
    entry = get(name)
    return entry if entry.gflops < 200 else shallow(entry)


def shallow(entry: Backbone, *, num_layers: int = 1) -> Backbone:
    """Return a backbone with few layers of what has many, where that is a setting."""
    if isinstance(entry.model, TorchModel):
        if "depth" not in getattr(entry.model.make, "keywords", {}):
            return entry
        model = TorchModel(partial(entry.model.make, depth=num_layers))
        return replace(entry, model=model, num_layers=min(num_layers, entry.num_layers))
    depths = [name for name in entry.model.settings if name.endswith("_layers")] or ["num_hidden_layers"]
    settings = {**entry.model.settings, **dict.fromkeys(depths, num_layers)}
    return replace(entry, model=replace(entry.model, settings=settings), num_layers=min(num_layers, entry.num_layers))


@dataclass(frozen=True)
class Source:
    """A backbone's own model with random weights.

    Attributes:
        save: writes the weights into a folder in the published format and gives what to load.
        steps: (B, C, L, H, W) -> (B, P, D), by the model's own forward pass.
        class_token: (B, C, L, H, W) -> (B, D), what its classifier reads or its pooling gives; None if it has none.
    """

    save: Callable[[Path], Path]
    steps: Callable[[torch.Tensor], torch.Tensor]
    class_token: Callable[[torch.Tensor], torch.Tensor] | None = None


def source_of(entry: Backbone) -> Source | None:
    """Return the model that a backbone is taken from, of the same depth; None where no library has it."""
    if entry.weights is None or entry.family in GOLDEN:
        return None
    families = {
        "image": _torchvision_image,
        "3D CNN": _torchvision_video,
        "MViT": _torchvision_video,
        "Swin3D": _torchvision_video,
        "SlowFast": _pytorchvideo,
        "TSM": _tsm,
        "DINOv2": _dino,
        "DINOv3": _dino,
        "SigLIP 2": _siglip2,
        "TimeSformer": _timesformer,
        "VideoMAE": _videomae,
        "V-JEPA 2": _vjepa2,
        "Hiera": _hiera,
        "VideoPrism": _videoprism,
    }
    if entry.name == "omnivore_swinb_epic":
        return _omnivore()
    return families[entry.family](entry)


def with_random_weights(network: nn.Module) -> nn.Module:
    """Fill every parameter and every running statistic, so that none can be forgotten unnoticed."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            if not tensor.is_floating_point():
                continue
            noise = torch.rand(tensor.shape, generator=generator) if tensor.ndim < 4 else None
            if key.endswith("running_var"):
                tensor.copy_(0.8 + 0.4 * noise)
            elif tensor.ndim == 1 or (noise is not None and not tensor.any()):
                tensor.add_(0.2 * (noise - 0.5))  # biases, scales, means, and embeddings that begin as zeros
    return network.eval().requires_grad_(False)


# Freshly made, their values fade layer by layer to less than float16 can hold, for want of what training learns.
FADING = ("efficientnet_b4", "s3d")
# torch draws truncated normals otherwise from version to version, and how sharp an MViT's steps are hangs on the draw.
_DRAWN = ("mvit_v2_s",)


def lively_weights(entry: Backbone, folder: Path) -> str:
    """Return what to load for random weights whose features are of some size and sharpness: random:0, but for a few."""
    if entry.name not in FADING + _DRAWN:
        return "random:0"
    network, _ = load_backbone(entry, "random:0")
    if entry.name in FADING:
        _settle(network, _noise(entry).unsqueeze(2) if entry.clip.num_frames == 1 else _noise(entry), 1)
    else:
        _draw(network)
    torch.save(network.network.state_dict(), folder / "lively.pth")
    return str(folder / "lively.pth")


def _settle(network: nn.Module, *inputs: object) -> None:
    """Have its normalisations take over the mean and deviation of what they see."""
    normalisations = [module for module in network.modules() if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d))]
    for module in normalisations:
        module.train().momentum = None
    with torch.no_grad():
        network(*inputs)
    for module in normalisations:
        module.eval()


def _noise(entry: Backbone) -> torch.Tensor:
    """Return an image of noise, (1, 3, 128, 128), or a clip of it, (1, 3, L, 128, 128)."""
    frames = (entry.clip.num_frames,) if entry.clip.num_frames > 1 else ()
    return torch.randn(1, 3, *frames, 128, 128, generator=torch.Generator().manual_seed(0))


def _draw(network: nn.Module) -> None:
    """Fill matrices with numbers that are the same in all versions, large enough for positions to matter."""
    generator = torch.Generator().manual_seed(4)
    for parameter in network.parameters():
        if parameter.ndim == 2:
            parameter.normal_(std=0.12, generator=generator)


# ---- torchvision


def _saved_state(network: nn.Module) -> Callable[[Path], Path]:
    def save(folder: Path) -> Path:
        torch.save(network.state_dict(), folder / "weights.pth")
        return folder / "weights.pth"

    return save


class _LayerValue(Exception):  # noqa: N818
    """Carries a layer's input or output; no error, but it ends a forward pass."""


def _layer_value(network: nn.Module, layer: nn.Module, x: object, *, side: str) -> torch.Tensor:
    """Return the input ("in") or the output ("out") of a layer in a forward pass of the network, which ends there.

    The layers after it may need pictures of one size.
    """

    def hook(_: nn.Module, inputs: tuple, output: object) -> None:
        raise _LayerValue(inputs[0] if side == "in" else output)

    handle = layer.register_forward_hook(hook)
    try:
        network(x)
    except _LayerValue as value:
        return value.args[0]
    finally:
        handle.remove()
    raise AssertionError("the layer is no part of the network")


def _torchvision_image(entry: Backbone) -> Source:
    is_baseline = entry.name == "tsn_r50_epic"
    network = with_random_weights(getattr(torchvision.models, "resnet50" if is_baseline else entry.name)())
    if entry.name in FADING:
        _settle(network.features, _noise(entry))
    classifier = network.fc if hasattr(network, "fc") else network.classifier[-1]

    def steps(clips: torch.Tensor) -> torch.Tensor:
        return _layer_value(network, classifier, clips[:, :, 0], side="in").unsqueeze(1)

    return Source(_saved_baseline(network) if is_baseline else _saved_state(network), steps)


def _saved_baseline(network: nn.Module, rename: Callable[[str], str] = str) -> Callable[[Path], Path]:
    """Return what saves a ResNet as the baselines of EPIC-KITCHENS are saved; `rename` changes its names."""

    def save(folder: Path) -> Path:
        trunk = {f"model.base_model.{rename(key)}": value for key, value in network.state_dict().items()}
        state = {key: value for key, value in trunk.items() if ".fc." not in key}
        torch.save({"epoch": 1, "state_dict": {**state, "model.new_fc.bias": torch.zeros(397)}}, folder / "rgb.ckpt")
        return folder / "rgb.ckpt"

    return save


def _tsm(entry: Backbone) -> Source:
    network = with_random_weights(torchvision.models.resnet50())

    def shift(_: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        """Shift channels along the frames of the clips, channel by channel as the paper has it."""
        x = inputs[0].unflatten(0, (-1, entry.clip.num_frames))
        out, eighth = x.clone(), x.shape[2] // 8
        out[:, :, : 2 * eighth] = 0
        for frame in range(entry.clip.num_frames - 1):
            out[:, frame, :eighth] = x[:, frame + 1, :eighth]
            out[:, frame + 1, eighth : 2 * eighth] = x[:, frame, eighth : 2 * eighth]
        return (out.flatten(0, 1),)

    for name, module in network.named_modules():
        if name.startswith("layer") and name.endswith("conv1"):
            module.register_forward_pre_hook(shift)

    def steps(clips: torch.Tensor) -> torch.Tensor:
        frames = clips.transpose(1, 2).flatten(0, 1)
        return _layer_value(network, network.fc, frames, side="in").unflatten(0, (len(clips), -1))

    return Source(_saved_baseline(network, lambda key: re.sub(r"(layer.*conv1)", r"\1.net", key)), steps)


def _torchvision_video(entry: Backbone) -> Source:
    network = with_random_weights(getattr(torchvision.models.video, entry.name)())
    if entry.name in FADING:
        _settle(network.features, _noise(entry))

    def steps(clips: torch.Tensor) -> torch.Tensor:
        if entry.family == "Swin3D":
            return _layer_value(network, network.norm, clips, side="out").flatten(2, 3).mean(dim=2)
        if entry.family == "MViT":
            tokens = _layer_value(network, network.norm, clips, side="out")[:, 1:]
            return torch.stack(list(tokens.split(49, dim=1)), dim=1).mean(dim=2)
        last = network.features if entry.name == "s3d" else network.layer4
        return _layer_value(network, last, clips, side="out").flatten(3).mean(dim=3).transpose(1, 2)

    def class_token(clips: torch.Tensor) -> torch.Tensor:
        return _layer_value(network, network.head, clips, side="in")

    return Source(_saved_state(network), steps, class_token if entry.family == "MViT" else None)


def _omnivore() -> Source:
    sizes = {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": [16, 7, 7]}
    network = with_random_weights(torchvision.models.video.SwinTransformer3d(patch_size=[2, 4, 4], **sizes))

    def published(key: str) -> str:
        key = key.replace("mlp.0", "mlp.fc1").replace("mlp.3", "mlp.fc2")
        layer = re.match(r"features\.(\d)\.", key)
        if layer is None:
            return key
        stage, is_merging = divmod(int(layer[1]), 2)
        return f"layers.{stage}.{'downsample' if is_merging else 'blocks'}.{key[layer.end() :]}"

    def save(folder: Path) -> Path:
        trunk = {published(key): value for key, value in network.state_dict().items() if not key.startswith("head.")}
        torch.save({"trunk": trunk, "heads": {"1.bias": torch.zeros(3806)}}, folder / "epic.torch")
        return folder / "epic.torch"

    def steps(clips: torch.Tensor) -> torch.Tensor:
        return _layer_value(network, network.norm, clips, side="out").flatten(2, 3).mean(dim=2)

    return Source(save, steps)


# PyTorchVideo's names, in order, as PySlowFast has them.
_PYSLOWFAST = (
    (r"blocks\.0\.multipathway_blocks\.(\d)\.(conv|norm)", r"s1.pathway\1_stem.\2"),
    (r"multipathway_blocks\.(\d)\.res_blocks\.(\d+)", r"pathway\1_res\2"),
    (r"branch(\d)_conv", r"branch\1"),
    (r"branch(\d)_norm", r"branch\1_bn"),
    (r"branch2\.conv_", "branch2."),
    (r"branch2\.norm_([abc])", r"branch2.\1_bn"),
    (r"\.norm\.", ".bn."),
    ("conv_fast_to_slow", "conv_f2s"),
    (r"\.multipathway_fusion", "_fuse"),
    (r"blocks\.(\d)", lambda match: f"s{int(match[1]) + 1}"),
    (r"s7\.proj", "head.projection_verb"),
)


def _pyslowfast(key: str) -> str:
    for pattern, replacement in _PYSLOWFAST:
        key = re.sub(pattern, replacement, key)
    return key


def _pytorchvideo(entry: Backbone) -> Source:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a package that has not been released since 2022
        from pytorchvideo.models import hub

        network = with_random_weights(getattr(hub, entry.name.removesuffix("_epic"))())

    def save(folder: Path) -> Path:
        rename = _pyslowfast if entry.name.endswith("_epic") else str
        state = {rename(key): value for key, value in network.state_dict().items()}
        torch.save({"epoch": 196, "model_state": state}, folder / "weights.pyth")
        return folder / "weights.pyth"

    def steps(clips: torch.Tensor) -> torch.Tensor:
        if entry.name == "slow_r50":
            return _layer_value(network, network.blocks[4], clips, side="out").flatten(3).mean(dim=3).transpose(1, 2)
        # As PackPathway of their tutorial: the slow pathway's frames are spread from the first to the last.
        slow = torch.index_select(clips, 2, torch.linspace(0, clips.shape[2] - 1, clips.shape[2] // 4).long())
        slow, fast = (
            maps.flatten(3).mean(dim=3).transpose(1, 2)
            for maps in _layer_value(network, network.blocks[4], [slow, clips], side="out")
        )
        fast_means = torch.stack([fast[:, start : start + 4].mean(dim=1) for start in range(0, 32, 4)], dim=1)
        return torch.cat([slow, fast_means], dim=2)

    return Source(save, steps)


# ---- transformers


def _saved_pretrained(network: nn.Module) -> Callable[[Path], Path]:
    def save(folder: Path) -> Path:
        network.save_pretrained(folder)
        assert json.loads((folder / "config.json").read_text())["architectures"] == [type(network).__name__]
        return folder

    return save


def _dino(entry: Backbone) -> Source:
    if entry.family == "DINOv2":
        from transformers import Dinov2Config, Dinov2Model

        network, num_others = Dinov2Model(Dinov2Config(**entry.model.settings)), 1
    else:
        from transformers import DINOv3ViTConfig, DINOv3ViTModel

        network, num_others = DINOv3ViTModel(DINOv3ViTConfig(**entry.model.settings)), 5
    network = with_random_weights(network)

    def steps(clips: torch.Tensor) -> torch.Tensor:
        tokens = network(pixel_values=clips[:, :, 0]).last_hidden_state
        return tokens[:, num_others:].mean(dim=1, keepdim=True)

    return Source(_saved_pretrained(network), steps, lambda clips: network(pixel_values=clips[:, :, 0]).pooler_output)


def _siglip2(entry: Backbone) -> Source:
    from transformers import SiglipConfig, SiglipModel

    text = {"num_hidden_layers": 1, "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32}
    text |= {"num_attention_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
    network = with_random_weights(SiglipModel(SiglipConfig(text_config=text, vision_config=entry.model.settings)))

    def steps(clips: torch.Tensor) -> torch.Tensor:
        return network.vision_model(pixel_values=clips[:, :, 0]).last_hidden_state.mean(dim=1, keepdim=True)

    def pooled(clips: torch.Tensor) -> torch.Tensor:
        return network.vision_model(pixel_values=clips[:, :, 0]).pooler_output

    return Source(_saved_pretrained(network), steps, pooled)


def _timesformer(entry: Backbone) -> Source:
    from transformers import TimesformerConfig, TimesformerForVideoClassification

    network = with_random_weights(TimesformerForVideoClassification(TimesformerConfig(**entry.model.settings)))

    def steps(clips: torch.Tensor) -> torch.Tensor:
        tokens = network.timesformer(pixel_values=clips.transpose(1, 2)).last_hidden_state
        num_frames = clips.shape[2]
        return torch.stack([tokens[:, 1 + frame :: num_frames].mean(dim=1) for frame in range(num_frames)], dim=1)

    def class_token(clips: torch.Tensor) -> torch.Tensor:
        return _layer_value(network, network.classifier, clips.transpose(1, 2), side="in")

    return Source(_saved_pretrained(network), steps, class_token)


def _videomae(entry: Backbone) -> Source:
    from transformers import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification

    is_finetuned = not entry.name.endswith("_ssl")
    kind = VideoMAEForVideoClassification if is_finetuned else VideoMAEForPreTraining
    network = with_random_weights(kind(VideoMAEConfig(**entry.model.settings, decoder_num_hidden_layers=1)))
    is_original = entry.name.startswith("videomaev2") or entry.name.endswith("_epic")

    def steps(clips: torch.Tensor) -> torch.Tensor:
        tokens = network.videomae(pixel_values=clips.transpose(1, 2)).last_hidden_state
        means = torch.stack([part.mean(dim=1) for part in tokens.split(entry.side**2, dim=1)], dim=1)
        return network.fc_norm(means) if is_finetuned else means

    return Source(_saved_original(network) if is_original else _saved_pretrained(network), steps)


def _saved_original(network: nn.Module) -> Callable[[Path], Path]:
    """Return what saves a VideoMAE of transformers as its authors' code saves it."""

    def save(folder: Path) -> Path:
        state = {"fc_norm.weight": network.fc_norm.weight, "fc_norm.bias": network.fc_norm.bias}
        patches = network.videomae.embeddings.patch_embeddings.projection
        state |= {f"patch_embed.proj.{key}": value for key, value in patches.state_dict().items()}
        for number, layer in enumerate(network.videomae.encoder.layer):
            attention = layer.attention.attention
            projections = [attention.query, attention.key, attention.value]
            parts = {
                "norm1": layer.layernorm_before,
                "attn.proj": layer.attention.output.dense,
                "norm2": layer.layernorm_after,
                "mlp.fc1": layer.intermediate.dense,
                "mlp.fc2": layer.output.dense,
            }
            block = {f"{part}.{key}": value for part in parts for key, value in parts[part].state_dict().items()}
            block["attn.qkv.weight"] = torch.cat([projection.weight for projection in projections])
            # Before version 5 they were parameters of their own.
            block["attn.q_bias"] = attention.q_bias if hasattr(attention, "q_bias") else attention.query.bias
            block["attn.v_bias"] = attention.v_bias if hasattr(attention, "v_bias") else attention.value.bias
            state |= {f"blocks.{number}.{key}": value for key, value in block.items()}
        torch.save({"module": {**state, "verb_head.bias": torch.zeros(97)}}, folder / "original.pth")
        return folder / "original.pth"

    return save


def _vjepa2(entry: Backbone) -> Source:
    from transformers import VJEPA2Config, VJEPA2Model

    settings = {**entry.model.settings, "pred_num_hidden_layers": 1}
    network = with_random_weights(VJEPA2Model(VJEPA2Config(**settings)))

    def steps(clips: torch.Tensor) -> torch.Tensor:
        tokens = network.get_vision_features(clips.transpose(1, 2))
        return torch.stack([part.mean(dim=1) for part in tokens.split(entry.side**2, dim=1)], dim=1)

    return Source(_saved_pretrained(network), steps)


def _videoprism(entry: Backbone) -> Source:
    from transformers import VideoPrismVisionConfig, VideoPrismVisionModel

    network = with_random_weights(VideoPrismVisionModel(VideoPrismVisionConfig(**entry.model.settings)))

    def steps(clips: torch.Tensor) -> torch.Tensor:
        tokens = network(pixel_values_videos=clips.transpose(1, 2)).last_hidden_state
        return torch.stack([part.mean(dim=1) for part in tokens.split(entry.side**2, dim=1)], dim=1)

    return Source(_saved_pretrained(network), steps)


# ---- hiera-transformer


def _hiera(entry: Backbone) -> Source:
    network = entry.model.build().network  # of the authors' package, which has no other way to make fewer blocks
    network.head = nn.Linear(entry.dim, 400)
    network = with_random_weights(network)

    def save(folder: Path) -> Path:
        torch.save({"model_state": network.state_dict()}, folder / "weights.pth")
        return folder / "weights.pth"

    def steps(clips: torch.Tensor) -> torch.Tensor:
        _, maps = network(clips, return_intermediates=True)
        return network.norm(maps[-1].flatten(2, 3).mean(dim=2))

    return Source(save, steps)
