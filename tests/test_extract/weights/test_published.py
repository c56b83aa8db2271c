"""Published weights are fetched once, found again without network, and nothing else is done with the network."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from published_networks import shallow, with_random_weights
from torchvision.models import resnet50
from transformers import VideoMAEConfig, VideoMAEForVideoClassification

from extract.backbones import PublishedFile, PublishedPage, get, names
from extract.cli import main
from extract.weights.load import load_backbone
from extract.weights.published import fetch_weights, find_weights, need_weights
from features.errors import DataError, OptionError
from features.files import sha256_of_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class _Server:
    """A server of weights on this machine, as torchvision's and as the Hugging Face hub.

    Attributes:
        files: path -> content.
        gated: repositories that answer as gated ones do.
        requests: every path that was asked for.
    """

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[_Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_content=False)

        def do_GET(self) -> None:
            self._answer(with_content=True)

        def _answer(self, *, with_content: bool) -> None:
            hub.requests.append(self.path)
            content = hub.files.get(self.path)
            if any(repo in self.path for repo in hub.gated):
                self.send_response(401)
                self.send_header("X-Error-Code", "GatedRepo")
                content = None
            elif content is None:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
            else:
                self.send_response(200)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if with_content and content:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = _Server(f"http://127.0.0.1:{httpd.server_port}")
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield hub
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def extract(server):
    """Run `extract ...` in a process for which the hub is our server and nothing else can be reached."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "HF_ENDPOINT": server.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "https_proxy": "http://127.0.0.1:9",
        }
        program = [Path(sys.executable).with_name("extract"), *map(str, arguments)]
        return subprocess.run(program, env=environment, capture_output=True, text=True, timeout=1800, check=False)

    return run


def _published_at(server: _Server, content: bytes, *, digest: str | None = None):
    """Return the record of resnet50 with weights that are published on the test's own server."""
    digest = digest or hashlib.sha256(content).hexdigest()
    path = f"/models/resnet50-{digest[:8]}.pth"
    server.files[path] = content
    return replace(get("resnet50"), weights=PublishedFile("V2", server.url + path))


# ---- one file


def test_file_is_fetched_into_the_folder_found_there_and_loaded(server, tmp_path):
    theirs = with_random_weights(resnet50())
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    entry = _published_at(server, (tmp_path / "theirs.pth").read_bytes())
    assert find_weights(entry, tmp_path / "here") is None
    weights = fetch_weights(entry, tmp_path / "here")
    assert find_weights(entry, tmp_path / "here") == weights
    network, record = load_backbone(entry, "default", folder=tmp_path / "here")
    assert torch.equal(network.network.conv1.weight, theirs.conv1.weight)
    assert (record.revision, record.sha256) == ("V2", sha256_of_file(weights.path))


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    entry = _published_at(server, b"weights")
    fetch_weights(entry, tmp_path)
    fetch_weights(entry, tmp_path)
    assert len(server.requests) == 1


def test_run_told_to_fetch_fetches(server, tmp_path):
    torch.save(resnet50().state_dict(), tmp_path / "theirs.pth")
    entry = _published_at(server, (tmp_path / "theirs.pth").read_bytes())
    load_backbone(entry, "default", folder=tmp_path / "here", fetch=True)
    assert find_weights(entry, tmp_path / "here") is not None


def test_file_of_another_digest_is_refused_and_not_kept(server, tmp_path):
    entry = _published_at(server, b"something else", digest="ab" * 32)
    with pytest.raises(DataError, match="the file that came is not the published one"):
        fetch_weights(entry, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_file_that_is_gone_is_an_error_that_says_what_to_do(server, tmp_path):
    entry = _published_at(server, b"weights")
    server.files.clear()
    with pytest.raises(DataError, match=r"cannot fetch .*404.*extract weights resnet50 --dest FOLDER"):
        fetch_weights(entry, tmp_path)


def test_folder_that_cannot_be_written_is_an_error_that_names_it(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        fetch_weights(_published_at(server, b"weights"), tmp_path / "file")


def test_nobody_published_weights_of_tiny_cnn(tmp_path):
    with pytest.raises(OptionError, match="nobody published"):
        fetch_weights(get("tiny_cnn"), tmp_path)


# ---- a repository of the Hugging Face hub


def _serve_repo(server: _Server, repo: str, files: dict[str, bytes]) -> None:
    server.files.update({f"/{repo}/resolve/main/{name}": content for name, content in files.items()})


def test_repository_is_fetched_with_its_configuration_and_found(server, extract, tmp_path):
    repo = "MCG-NJU/videomae-base-finetuned-kinetics"
    _serve_repo(server, repo, {"config.json": b"{}", "model.safetensors": b"weights"})
    process = extract("weights", "videomae", "--dest", tmp_path)
    assert process.returncode == 0, process.stderr
    weights = find_weights(get("videomae"), tmp_path)
    assert f"videomae_base_k400: {weights.path} ({repo}@{COMMIT})" in process.stdout
    assert weights.path.read_bytes() == b"weights"
    assert weights.path.with_name("config.json").read_bytes() == b"{}"


def test_repository_of_an_earlier_format_in_parts_is_fetched_whole(server, extract, tmp_path):
    index = {"weight_map": {"a": "pytorch_model-1.bin", "b": "pytorch_model-2.bin"}}
    files = {"pytorch_model.bin.index.json": json.dumps(index).encode()}
    files |= {"pytorch_model-1.bin": b"one", "pytorch_model-2.bin": b"two"}
    _serve_repo(server, "facebook/timesformer-hr-finetuned-k400", files)
    process = extract("weights", "timesformer_hr_k400", "--dest", tmp_path)
    assert process.returncode == 0, process.stderr
    weights = find_weights(get("timesformer_hr_k400"), tmp_path)
    assert {path.name for path in weights.path.parent.iterdir()} == set(files)


def test_file_that_a_record_names_is_fetched_alone_and_found(server, extract, tmp_path):
    """Three backbones have files of the same name in folders of one repository."""
    weights = get("internvideo2_base").weights
    assert weights.file == "stage1/B14/B14_dist_1B_stage2/pytorch_model.bin"
    _serve_repo(server, weights.repo, {"config.json": b"", "pytorch_model.bin": b"no", weights.file: b"weights"})
    process = extract("weights", "internvideo2_base", "--dest", tmp_path)
    assert process.returncode == 0, process.stderr
    assert find_weights(get("internvideo2_small"), tmp_path) is None
    local = find_weights(get("internvideo2_base"), tmp_path)
    assert (local.path.read_bytes(), local.revision) == (b"weights", f"{weights.repo}@{COMMIT}")
    assert {path.rsplit("/", 1)[1] for path in server.requests} == {"pytorch_model.bin"}


def test_file_that_its_repository_lacks_is_an_error_that_names_it(server, extract, tmp_path):
    _serve_repo(server, "OpenGVLab/InternVideo2-Stage1-1B-224p-f8", {"model.safetensors": b"weights"})
    process = extract("weights", "internvideo2_1b", "--dest", tmp_path)
    assert process.returncode == 1
    assert "OpenGVLab/InternVideo2-Stage1-1B-224p-f8 has none of pretrain.pth" in process.stderr


def test_gated_repository_says_how_to_be_let_in(server, extract, tmp_path):
    server.gated.add("dinov3")
    process = extract("weights", "dinov3", "--dest", tmp_path)
    assert process.returncode == 1
    assert "dinov3_base: facebook/dinov3-vitb16-pretrain-lvd1689m is gated. Accept its licence" in process.stderr
    assert "hf auth login" in process.stderr


def test_repository_without_weights_is_an_error(server, extract, tmp_path):
    _serve_repo(server, "google/siglip2-base-patch16-224", {"config.json": b"{}"})
    process = extract("weights", "siglip2", "--dest", tmp_path)
    assert process.returncode == 1
    assert "google/siglip2-base-patch16-224 has none of model.safetensors" in process.stderr


def test_hub_out_of_reach_is_an_error_that_says_what_to_do(extract, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # else it tries for half a minute
    process = extract("weights", "vjepa2", "--dest", tmp_path)
    assert process.returncode == 1
    assert "cannot fetch facebook/vjepa2-vitl-fpc64-256" in process.stderr
    assert "extract weights vjepa2_vitl_256 --dest FOLDER" in process.stderr
    assert "Traceback" not in process.stderr


def test_run_without_weights_uses_no_network_and_says_how_to_fetch_them(server, extract, miniature, tmp_path):
    options = ["--annotations", miniature.annotations, "--videos", miniature.videos, "--out", tmp_path / "out"]
    process = extract("run", *options, "--backbone", "videomae", "--weights-dir", tmp_path / "weights")
    assert process.returncode == 1
    assert f"extract weights videomae_base_k400 --dest {tmp_path / 'weights'}" in process.stderr
    assert server.requests == []
    assert not (tmp_path / "out").exists()


def test_weights_in_the_hubs_own_cache_are_loaded_with_their_revision(tmp_path, monkeypatch):
    entry = shallow(get("videomae"))
    repo = tmp_path / f"models--{entry.weights.repo.replace('/', '--')}"
    theirs = with_random_weights(VideoMAEForVideoClassification(VideoMAEConfig(**entry.model.settings)))
    theirs.save_pretrained(repo / "snapshots" / COMMIT)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was used"))
    network, record = load_backbone(entry, "default")
    assert torch.equal(network.network.fc_norm.weight, theirs.fc_norm.weight)
    weights = repo / "snapshots" / COMMIT / "model.safetensors"
    assert (record.revision, record.sha256) == (f"{entry.weights.repo}@{COMMIT}", sha256_of_file(weights))


# ---- a page

PAGE = PublishedPage("https://github.com/someone/something#weights", "theirs.pth")


def test_file_of_a_page_is_not_fetched_and_the_error_says_what_to_put_where(server, tmp_path):
    entry = replace(get("resnet50"), weights=PAGE)
    assert find_weights(entry, tmp_path) is None
    for wanted in (fetch_weights, need_weights):
        with pytest.raises(DataError) as error:
            wanted(entry, tmp_path)
        assert str(error.value) == (
            "resnet50: its weights have no address to fetch them from. Download theirs.pth from "
            f"https://github.com/someone/something#weights and put it into {tmp_path / 'checkpoints'}"
        )


def test_file_of_a_page_is_found_where_it_was_put(tmp_path):
    entry = replace(get("resnet50"), weights=PAGE)
    (tmp_path / "checkpoints").mkdir()
    torch.save(with_random_weights(resnet50()).state_dict(), tmp_path / "checkpoints" / "theirs.pth")
    _, record = load_backbone(entry, "default", folder=tmp_path, fetch=True)
    assert record.source == str(tmp_path / "checkpoints" / "theirs.pth")
    assert record.revision == "theirs.pth of https://github.com/someone/something#weights"


# ---- the table


def test_unknown_name_is_a_wrong_option_of_weights(extract):
    process = extract("weights", "videomea")
    assert process.returncode == 2
    assert "NAME: no backbone 'videomea'; did you mean 'videomae'?" in process.stderr


def test_table_shows_every_backbone_and_whether_its_weights_are_here(server, tmp_path):
    weights = tmp_path / "checkpoints" / "r3d_18-b3b3357e.pth"
    weights.parent.mkdir()
    weights.write_bytes(b"")
    result = CliRunner().invoke(main, ["backbones", "--weights-dir", str(tmp_path)])
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line for line in result.output.splitlines() if line.split()}
    assert set(names()) <= set(rows)
    assert rows["r3d_18"].endswith("here")
    assert rows["videomae_base_k400"].endswith("to fetch")
    assert rows["tiny_cnn"].endswith("none")
    assert "16 at 7.5 fps" in rows["videomae_base_k400"]
    assert "16 spread (8 fps)" in rows["avion_vitb_epic"]
    assert "CC-BY-NC-4.0" in rows["videomae_base_k400"]
    assert "videomae = videomae_base_k400" in result.output


def test_json_of_the_table_has_every_fact(tmp_path):
    result = CliRunner().invoke(main, ["backbones", "--json", "--weights-dir", str(tmp_path)])
    rows = {row["name"]: row for row in json.loads(result.output)}
    assert list(rows) == names()
    assert rows["dinov3_large"]["gated"]
    assert rows["slowfast_r50"]["aliases"] == ["slowfast"]
    clips = {name: [rows[name][field] for field in ("clip_frames", "clip_fps", "clip_spread")] for name in rows}
    assert (clips["slowfast_r50"], clips["avion_vitb_epic"]) == ([32, 15.0, False], [16, 8.0, True])
    assert rows["slowfast_r50"]["published_as"].endswith("/SLOWFAST_8x8_R50.pyth")
    assert rows["swin3d_b"]["dim"] == get("swin3d_b").dim
