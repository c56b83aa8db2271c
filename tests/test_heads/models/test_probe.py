"""What is particular to the head `probe`: it is V-JEPA 2's pooler, as transformers has it."""

from __future__ import annotations

import torch
from torch import nn
from transformers.models.vjepa2.configuration_vjepa2 import VJEPA2Config
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2AttentivePooler

from heads.data.steps import Steps
from heads.models.catalogue import build_head
from heads.models.probe import Probe
from heads.models.shape import HeadShape


def _pooler(width: int, attention_heads: int, layers: int) -> VJEPA2AttentivePooler:
    # V-JEPA 2's own epsilon is 1e-6, that of PyTorch's LayerNorm is 1e-5.
    config = VJEPA2Config(
        hidden_size=width, num_attention_heads=attention_heads, num_pooler_layers=layers, layer_norm_eps=1e-5
    )
    config._attn_implementation = "eager"
    return VJEPA2AttentivePooler(config).eval()


def _copy(ours: nn.Module, *theirs: nn.Module) -> None:
    """Copy the parameters of modules into one, side by side."""
    for name, parameter in ours.named_parameters():
        parameter.copy_(torch.cat([module.get_parameter(name) for module in theirs]))


def test_at_a_moment_the_probe_is_the_pooler_of_v_jepa_2():
    torch.manual_seed(0)
    probe = build_head("probe", HeadShape(32, tasks={"verb": 97}), {"attention_heads": 4, "layers": 2}).eval()
    assert isinstance(probe, Probe)
    pooler = _pooler(32, 4, 2)
    nn.init.normal_(pooler.query_tokens)
    with torch.no_grad():
        probe.queries.copy_(pooler.query_tokens[0])
        for ours, theirs in zip(probe.layers, pooler.self_attention_layers, strict=True):
            attention = theirs.self_attn
            _copy(ours.norm, theirs.layer_norm1)
            _copy(ours.queries_keys_values, attention.q_proj, attention.k_proj, attention.v_proj)
            _copy(ours.output, attention.out_proj)
            _copy_feed_forward(ours.feed_forward.layers, theirs)
        ours, theirs = probe.readout, pooler.cross_attention_layer
        _copy(ours.norm, theirs.layer_norm1)
        _copy(ours.queries, theirs.cross_attn.q_proj)
        _copy(ours.keys_values, theirs.cross_attn.k_proj, theirs.cross_attn.v_proj)
        _copy_feed_forward(ours.feed_forward.layers, theirs)
        x, mask = torch.randn(3, 7, 32), torch.ones(3, 7, dtype=torch.bool)
        logits = probe(Steps(x, mask, torch.zeros(3, 7), mask))["verb"]  # no time passes, so nothing is rotated
        expected = probe.classifier["verb"](pooler(x))
    torch.testing.assert_close(logits, expected)


def _copy_feed_forward(ours: nn.Sequential, theirs: nn.Module) -> None:
    _copy(ours[0], theirs.layer_norm2)
    _copy(ours[1], theirs.mlp.fc1)
    _copy(ours[4], theirs.mlp.fc2)


def test_it_has_the_size_of_v_jepa_2s_pooler():
    with torch.device("meta"):
        probe, pooler = build_head("probe", HeadShape(1024, tasks={"verb": 97}), {}), _pooler(1024, 16, 3)
    classifier = 1024 * 97 + 97
    sizes = [sum(parameter.numel() for parameter in module.parameters()) for module in (probe, pooler)]
    assert (sizes[0] - classifier, sizes[1]) == (49_336_320, 49_336_320)


def test_a_layer_brings_features_to_a_width_that_heads_divide():
    with torch.device("meta"):
        assert build_head("probe", HeadShape(63), {}).input.out_features == 64
        assert isinstance(build_head("probe", HeadShape(17 * 64, cells=17), {}).input, nn.Identity)


def test_activations_that_are_computed_again_give_the_same_gradients():
    gradients = []
    for checkpointing in (0, 1):
        torch.manual_seed(0)
        options = {"attention_heads": 2, "layers": 2, "dropout": 0.3, "checkpointing": checkpointing}
        probe = build_head("probe", HeadShape(8, cells=2), options)
        features, mask = torch.randn(3, 5, 8), torch.arange(5) < torch.tensor([[5], [2], [1]])
        logits = probe(Steps(features, mask, torch.rand(3, 5).cumsum(1), mask))
        (logits["verb"].square().sum() + logits["noun"].square().sum()).backward()
        gradients.append([parameter.grad for parameter in probe.parameters()])
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
