"""Weights are the ones meant, whole and safe, or an error that says what to do."""

from __future__ import annotations

import hashlib
import pickle
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import resnet50

from extract.backbones import get
from extract.weights import load_backbone
from features.errors import DataError, OptionError
from features.files import sha256_of_file

TINY = get("tiny_cnn")
URL = "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"


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
    with pytest.raises(DataError) as missing:
        load_backbone(get("resnet50"), "default")
    place = cache / "resnet50-11ad3fa6.pth"
    assert f"curl --fail --location --create-dirs --output {place} {URL}" in str(missing.value)


def test_damaged_weights_in_the_cache_are_refused_by_their_digest(cache):
    (cache / "resnet50-11ad3fa6.pth").write_bytes(b"half a file")
    with pytest.raises(DataError, match="11ad3fa6; fetch it again"):
        load_backbone(get("resnet50"), "default")


def test_cached_weights_with_the_right_digest_are_loaded(cache):
    # The published file cannot be had here: the entry is pointed at another, named by its digest as that one is.
    theirs = resnet50()
    place = Path(_saved(cache / "new.pth", theirs.state_dict()))
    digest = hashlib.sha256(place.read_bytes()).hexdigest()
    place = place.rename(cache / f"resnet50-{digest[:8]}.pth")
    published = replace(get("resnet50").weights, url=f"https://download.pytorch.org/models/{place.name}")
    network, record = load_backbone(replace(get("resnet50"), weights=published), "default")
    assert torch.equal(network.network.conv1.weight, theirs.conv1.weight)
    assert (record.sha256, record.source) == (digest, str(place))


def test_default_where_nobody_published_weights_is_a_wrong_option():
    with pytest.raises(OptionError, match=r"tiny_cnn.*random:SEED"):
        load_backbone(TINY, "default")


@pytest.mark.parametrize("weights", ["random:x", "random:", "random:-1", "random:1.5", "random", "", "Default"])
def test_what_is_neither_seed_nor_file_is_a_wrong_option(weights):
    with pytest.raises(OptionError, match="--weights"):
        load_backbone(TINY, weights)


def test_folder_is_a_wrong_option(tmp_path):
    with pytest.raises(OptionError, match="--weights"):
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


class _Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_malicious_pickle_is_refused_and_does_not_run(tmp_path, state, zipped):
    path = tmp_path / "mine.pth"
    torch.save({**state, "0.bias": _Malicious(tmp_path / "run")}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=r"mine\.pth"):
        load_backbone(TINY, str(path))
    assert not (tmp_path / "run").exists()


def test_bare_malicious_pickle_is_refused_and_does_not_run(tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(pickle.dumps(_Malicious(tmp_path / "run"), protocol=2))
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
    whole = path.read_bytes()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        content = bytearray(whole)
        for place in rng.integers(0, 1000, 3):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        with suppress(DataError):
            load_backbone(TINY, str(path))


@pytest.mark.parametrize(
    "value",
    [[1, 2], torch.zeros(3), {"model": {"0.weight": torch.zeros(1)}, "epoch": 3}, {1: torch.zeros(1)}],
    ids=["list", "tensor", "checkpoint with more in it", "numbers for names"],
)
def test_what_is_no_state_dict_is_refused_as_that(tmp_path, value):
    with pytest.raises(DataError, match="not a state dict"):
        load_backbone(TINY, _saved(tmp_path / "mine.pth", value))


def test_whole_module_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"mine\.pth"):
        load_backbone(TINY, _saved(tmp_path / "mine.pth", torch.nn.Linear(2, 2)))
