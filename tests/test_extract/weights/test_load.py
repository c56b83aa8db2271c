"""Weights are the ones meant, whole and safe, or an error that says what to do."""

from __future__ import annotations

import hashlib
import json
import pickle
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from malicious import Malicious
from published_networks import shallow, with_random_weights
from safetensors.torch import load_file, save_file
from torchvision.models import resnet50
from transformers import VideoMAEConfig, VideoMAEForVideoClassification
from transformers.utils import logging as transformers_logging

from extract.backbones import Layout, get
from extract.weights.load import load_backbone
from features.errors import DataError, OptionError
from features.files import sha256_of_file

TINY = get("tiny_cnn")


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of torch.hub's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """The weights of tiny_cnn by their published names."""
    return dict(load_backbone(TINY, "random:7")[0].network.state_dict())


def _saved(path: Path, value: object) -> str:
    torch.save(value, path)
    return str(path)


def test_missing_weights_are_an_error_with_the_command_that_fetches_them(cache):
    with pytest.raises(DataError, match=r"resnet50: .* not in the usual caches.*\n  extract weights resnet50$"):
        load_backbone(get("resnet50"), "default")


def test_missing_weights_in_a_folder_are_an_error_with_the_command_that_fetches_them_there(tmp_path):
    with pytest.raises(DataError) as error:
        load_backbone(get("videomae"), "default", folder=tmp_path)
    assert str(error.value).endswith(f"\n  extract weights videomae_base_k400 --dest {tmp_path}")


def test_damaged_weights_in_the_cache_are_refused_by_their_digest(cache):
    (cache / "resnet50-11ad3fa6.pth").write_bytes(b"half a file")
    with pytest.raises(DataError, match="11ad3fa6; remove it and fetch it again"):
        load_backbone(get("resnet50"), "default")


def test_cached_weights_with_the_right_digest_are_loaded(cache):
    # The published file cannot be had here: the entry is pointed at another, named by its digest as that one is.
    theirs = resnet50()
    path = Path(_saved(cache / "new.pth", theirs.state_dict()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path = path.rename(cache / f"resnet50-{digest[:8]}.pth")
    published_file = replace(get("resnet50").weights, url=f"https://download.pytorch.org/models/{path.name}")
    network, record = load_backbone(replace(get("resnet50"), weights=published_file), "default")
    assert torch.equal(network.network.conv1.weight, theirs.conv1.weight)
    assert (record.sha256, record.source) == (digest, str(path))


def test_default_where_nobody_published_weights_is_a_wrong_option():
    with pytest.raises(OptionError, match=r"tiny_cnn.*random:SEED"):
        load_backbone(TINY, "default")


@pytest.mark.parametrize("weights", ["random:x", "random:", "random:-1", "random:1.5", "random", "", "Default"])
def test_what_is_neither_seed_nor_file_is_a_wrong_option(weights):
    with pytest.raises(OptionError, match="--weights"):
        load_backbone(TINY, weights)


def test_folder_without_weights_is_refused_by_what_it_should_hold(tmp_path):
    with pytest.raises(DataError, match=r"none of model\.safetensors, .* is in this folder"):
        load_backbone(TINY, str(tmp_path))


def test_local_file_is_loaded_and_recorded(tmp_path, state):
    path = _saved(tmp_path / "mine.pth", state)
    network, record = load_backbone(TINY, path)
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.network.state_dict().items())
    assert (record.source, record.sha256) == (path, sha256_of_file(Path(path)))


def test_missing_parameter_is_named(tmp_path, state):
    del state["2.bias"]
    with pytest.raises(DataError, match=r"1 missing: 2\.bias"):
        load_backbone(TINY, _saved(tmp_path / "mine.pth", state))


def test_unexpected_parameter_is_named(tmp_path, state):
    with pytest.raises(DataError, match=r"1 unexpected: 4\.weight"):
        load_backbone(TINY, _saved(tmp_path / "mine.pth", {**state, "4.weight": torch.zeros(1)}))


def test_parameter_of_another_shape_is_named_with_both(tmp_path, state):
    state["0.weight"] = torch.zeros(16, 3, 7, 7)
    with pytest.raises(DataError, match=r"0\.weight \(16, 3, 7, 7\) instead of \(16, 3, 5, 5\)"):
        load_backbone(TINY, _saved(tmp_path / "mine.pth", state))


def test_everything_that_does_not_fit_is_named_at_once(tmp_path, state):
    state["renamed"] = state.pop("0.bias")
    state["2.bias"] = torch.zeros(3)
    with pytest.raises(DataError, match=r"1 missing: 0\.bias; 1 unexpected: renamed; 1 of another shape: 2\.bias"):
        load_backbone(TINY, _saved(tmp_path / "mine.pth", state))


@pytest.mark.parametrize("classifier", [{"fc.weight": torch.zeros(97, 2048), "fc.bias": torch.zeros(97)}, {}])
def test_classifier_of_any_size_or_none_does_not_matter(tmp_path, classifier):
    trunk = {key: tensor for key, tensor in resnet50().state_dict().items() if not key.startswith("fc.")}
    network, _ = load_backbone(get("resnet50"), _saved(tmp_path / "mine.pth", {**trunk, **classifier}))
    assert torch.equal(network.network.conv1.weight, trunk["conv1.weight"])


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state", "model_state_dict", "module", "weights"])
def test_wrappers_of_training_programs_are_peeled(tmp_path, state, wrapper):
    checkpoint = {"epoch": 3, wrapper: {f"module.{name}": tensor for name, tensor in state.items()}}
    network, _ = load_backbone(TINY, _saved(tmp_path / "mine.pt", {"best": 0.5, **checkpoint}))
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.network.state_dict().items())


TRUNK = replace(TINY, layout=Layout(key="trunk"))


def test_state_dict_is_taken_from_the_key_that_the_layout_names(tmp_path, state):
    heads = {"1.weight": torch.zeros(3806, 4)}
    path = _saved(tmp_path / "mine.torch", {"model": {"trunk": state, "heads": heads}, "heads": heads})
    network, _ = load_backbone(TRUNK, path)
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.network.state_dict().items())
    assert load_backbone(TRUNK, _saved(tmp_path / "trunk.torch", state))[1].source  # saved again without the rest


def test_file_without_the_key_that_the_layout_names_is_refused_by_it(tmp_path, state):
    with pytest.raises(DataError, match=r"mine\.pth: neither a state dict .* nor one under 'trunk'"):
        load_backbone(TRUNK, _saved(tmp_path / "mine.pth", {"encoder": state, "heads": state}))


def test_two_names_for_a_parameter_are_refused_with_the_file(tmp_path, state):
    entry = replace(TINY, layout=Layout(rename=(("^old_", ""),)))
    with pytest.raises(DataError, match=r"mine\.pth: does not fit tiny_cnn \(old_0\.bias and another name both"):
        load_backbone(entry, _saved(tmp_path / "mine.pth", {**state, "old_0.bias": state["0.bias"]}))


def test_dictionary_that_holds_itself_is_refused(tmp_path):
    endless: dict[str, object] = {}
    endless["model"] = endless
    with pytest.raises(DataError, match=r"mine\.pth"):
        load_backbone(TINY, _saved(tmp_path / "mine.pth", endless))


@pytest.mark.parametrize("content", ["{}", "[]", '{"weight_map": []}', '{"weight_map": {"a": 3}}', "{"])
def test_index_that_is_none_is_refused_by_name(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(DataError, match=r"model\.safetensors\.index\.json"):
        load_backbone(TINY, str(tmp_path))


def test_prefix_that_only_some_names_have_is_not_peeled(tmp_path, state):
    state["module.0.weight"] = state.pop("0.weight")
    with pytest.raises(DataError, match=r"1 missing: 0\.weight; 1 unexpected: module\.0\.weight"):
        load_backbone(TINY, _saved(tmp_path / "mine.pth", state))


def test_classifier_that_is_left_out_is_named(tmp_path, caplog):
    load_backbone(get("resnet50"), _saved(tmp_path / "mine.pth", resnet50(num_classes=97).state_dict()))
    assert caplog.messages == [
        f"{tmp_path / 'mine.pth'}: left out, as features do not need it: fc.weight (97, 2048), fc.bias (97,)"
    ]


def test_safetensors_are_loaded_and_recorded(tmp_path, state):
    save_file(state, tmp_path / "mine.safetensors")
    network, record = load_backbone(TINY, str(tmp_path / "mine.safetensors"))
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.network.state_dict().items())
    assert record.sha256 == sha256_of_file(tmp_path / "mine.safetensors")


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_safetensors_that_are_cut_short_are_refused_by_name(tmp_path, state, share):
    path = tmp_path / "mine.safetensors"
    save_file(state, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match=r"mine\.safetensors"):
        load_backbone(TINY, str(path))


# ---- what transformers publishes

VIDEOMAE = shallow(get("videomae"))


@pytest.fixture(scope="module")
def videomae() -> VideoMAEForVideoClassification:
    """A VideoMAE of one layer, with a classifier of 97 classes and random weights."""
    config = VideoMAEConfig(**VIDEOMAE.model.settings, num_labels=97)
    return with_random_weights(VideoMAEForVideoClassification(config))


def _has_weights_of(network: torch.nn.Module, videomae: VideoMAEForVideoClassification) -> bool:
    ours, theirs = network.network.state_dict(), videomae.state_dict()
    return all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


def test_save_pretrained_folder_is_loaded_and_recorded(tmp_path, videomae, caplog):
    videomae.save_pretrained(tmp_path)
    network, record = load_backbone(VIDEOMAE, str(tmp_path))
    assert _has_weights_of(network, videomae)
    assert (record.source, record.sha256) == (str(tmp_path), sha256_of_file(tmp_path / "model.safetensors"))
    assert "classifier.weight (97, 768)" in caplog.text


def test_save_pretrained_folder_in_parts_is_loaded_and_recorded(tmp_path, videomae):
    videomae.save_pretrained(tmp_path, max_shard_size="12MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    network, record = load_backbone(VIDEOMAE, str(tmp_path))
    assert _has_weights_of(network, videomae)
    assert len(record.sha256) == 64


def test_missing_part_is_named(tmp_path, videomae):
    videomae.save_pretrained(tmp_path, max_shard_size="12MB")
    part = sorted(tmp_path.glob("*.safetensors"))[1]
    part.unlink()
    with pytest.raises(DataError, match=rf"its parts {part.name} are not beside it"):
        load_backbone(VIDEOMAE, str(tmp_path))


def test_pickled_weights_of_earlier_versions_are_loaded(tmp_path, videomae):
    videomae.save_pretrained(tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    network, _ = load_backbone(VIDEOMAE, str(tmp_path))
    assert _has_weights_of(network, videomae)


def test_weights_in_half_precision_are_computed_with_in_whole(tmp_path, videomae):
    videomae.save_pretrained(tmp_path)
    half_state = {name: tensor.half() for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    save_file(half_state, tmp_path / "model.safetensors")
    network, _ = load_backbone(VIDEOMAE, str(tmp_path))
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc_norm.bias": None}, r"1 missing: fc_norm\.bias"),
        ({"videomae.extra": torch.zeros(1)}, r"1 unexpected: videomae\.extra"),
        ({"fc_norm.bias": torch.zeros(5)}, r"1 of another shape: fc_norm\.bias \(5,\) instead of \(768,\)"),
    ],
    ids=["missing", "unexpected", "shape"],
)
def test_what_does_not_fit_a_model_of_transformers_is_named(tmp_path, videomae, change, message):
    videomae.save_pretrained(tmp_path)
    state = {**load_file(tmp_path / "model.safetensors"), **change}
    save_file({name: tensor for name, tensor in state.items() if tensor is not None}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=message):
        load_backbone(VIDEOMAE, str(tmp_path))


def test_configuration_of_another_network_is_refused(tmp_path, videomae):
    videomae.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-6, "num_frames": 32}))
    with pytest.raises(DataError, match=r"config\.json has num_frames 32 instead of 16; layer_norm_eps 1e-06 instead"):
        load_backbone(VIDEOMAE, str(tmp_path))


def test_weights_of_another_size_are_refused(tmp_path, videomae):
    videomae.save_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"hidden_size 768 instead of 1024"):
        load_backbone(get("videomae_large_k400"), str(tmp_path))


def test_loading_leaves_transformers_as_it_was(tmp_path, videomae):
    videomae.save_pretrained(tmp_path)
    settings_before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    load_backbone(VIDEOMAE, str(tmp_path))
    assert (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()) == settings_before


@pytest.mark.parametrize("zipped", [True, False])
def test_malicious_pickle_is_refused_and_does_not_run(tmp_path, state, zipped):
    path = tmp_path / "mine.pth"
    torch.save({**state, "0.bias": Malicious(tmp_path / "run")}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=r"mine\.pth"):
        load_backbone(TINY, str(path))
    assert not (tmp_path / "run").exists()


def test_bare_malicious_pickle_is_refused_and_does_not_run(tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(pickle.dumps(Malicious(tmp_path / "run"), protocol=2))
    with pytest.raises(DataError, match=r"mine\.pth"):
        load_backbone(TINY, str(path))
    assert not (tmp_path / "run").exists()


NO_CHECKPOINTS = {
    "empty": b"",
    "text": b"These are not the weights you are looking for.\n",
    "page": b"<!DOCTYPE html><html><body>404</body></html>",
    "table": b"narration_id,video_id\nP01_01_0,P01_01\n",
    "zip": b"PK\x03\x04",
    "other pickle": b"\x80\x02K\x05.",
    "zeros": bytes(100),
}


@pytest.mark.parametrize("content", NO_CHECKPOINTS.values(), ids=NO_CHECKPOINTS)
def test_file_that_is_no_checkpoint_is_refused_by_name(tmp_path, content):
    (tmp_path / "mine.pth").write_bytes(content)
    with pytest.raises(DataError, match=r"mine\.pth"):
        load_backbone(TINY, str(tmp_path / "mine.pth"))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoint_that_is_cut_short_is_refused_by_name(tmp_path, state, zipped, share):
    path = tmp_path / "mine.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match=r"mine\.pth"):
        load_backbone(TINY, str(path))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch's guess at what the noise means
@pytest.mark.parametrize("zipped", [True, False])
def test_noise_in_a_checkpoint_gives_an_error_of_ours_or_weights(tmp_path, state, zipped):
    path = tmp_path / "mine.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    original = path.read_bytes()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        content = bytearray(original)
        for position in rng.integers(0, 1000, 3):
            content[position] = rng.integers(256)
        path.write_bytes(content)
        with suppress(DataError):
            load_backbone(TINY, str(path))


@pytest.mark.parametrize(
    "value",
    [[1, 2], torch.zeros(3), {"model": {"0.weight": 3}}, {1: torch.zeros(1)}, {"optimizer": {}, "epoch": 3}],
    ids=["list", "tensor", "numbers for weights", "numbers for names", "no weights in it"],
)
def test_what_is_no_state_dict_is_refused_as_that(tmp_path, value):
    with pytest.raises(DataError, match="not a state dict"):
        load_backbone(TINY, _saved(tmp_path / "mine.pth", value))


def test_whole_module_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"mine\.pth"):
        load_backbone(TINY, _saved(tmp_path / "mine.pth", torch.nn.Linear(2, 2)))
