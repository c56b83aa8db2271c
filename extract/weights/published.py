"""Published weights: where they lie on this machine, and how they are fetched. The only module that uses the network.

Files of torchvision and PyTorchVideo lie in torch.hub's cache, and repositories of the Hugging Face hub in the hub's
cache, so that weights which other programs have fetched are found. A user may name one folder for both instead. Finding
weights loads no torch.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.error import URLError

from extract.backbones.registry import Backbone, PublishedFile, PublishedPage, PublishedRepo
from extract.weights.pretrained_files import PRETRAINED_NAMES, part_names
from features.errors import DataError, OptionError
from features.files import sha256_of_file

# torch.hub's convention, NAME-<first digits of the file's SHA-256>.pth, which torchvision's files follow.
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.pth$")


@dataclass(frozen=True)
class LocalWeights:
    """Published weights on this machine: the path of a file, or of an index with its parts beside it."""

    path: Path
    revision: str


def find_weights(entry: Backbone, folder: Path | None = None) -> LocalWeights | None:
    """Return where a backbone's published weights lie, or None if they have not been fetched. Uses no network.

    Args:
        folder: the folder that `fetch_weights` was given; None for the libraries' own caches.

    Raises:
        OptionError: nobody published any.
    """
    weights = _published(entry)
    if not isinstance(weights, PublishedRepo):
        file = _path_of_file(weights, folder)
        return LocalWeights(file, weights.revision) if file.is_file() else None
    return _find_in_repo(weights, folder)


def fetch_weights(entry: Backbone, folder: Path | None = None) -> LocalWeights:
    """Return where a backbone's published weights lie, and fetch them first if they are missing.

    Raises:
        OptionError: nobody published any.
        DataError: they cannot be fetched; the message says why and what to do.
    """
    local = find_weights(entry, folder)
    if local is not None:
        return local
    weights = _published(entry)
    if isinstance(weights, PublishedPage):
        raise _to_fetch_by_hand(entry, weights, folder)
    if isinstance(weights, PublishedFile):
        _fetch_file(entry, weights, _path_of_file(weights, folder))
    else:
        _fetch_repo(entry, weights, folder)
    local = find_weights(entry, folder)
    if local is None:
        raise DataError(f"{entry.name}: {weights.address} was fetched, but its files are not where they should be.")
    return local


def need_weights(entry: Backbone, folder: Path | None = None) -> LocalWeights:
    """Return where a backbone's published weights lie, checked against the digest in their name if there is one.

    Raises:
        OptionError: nobody published any.
        DataError: they have not been fetched; the message has the command that fetches them.
    """
    local = find_weights(entry, folder)
    if local is None and isinstance(entry.weights, PublishedPage):
        raise _to_fetch_by_hand(entry, entry.weights, folder)
    if local is None:
        where = f"in {folder}" if folder else "in the usual caches"
        dest = f" --dest {folder}" if folder else ""
        raise DataError(
            f"{entry.name}: its published weights are not {where}. Fetch them once, on a machine with network:\n"
            f"  extract weights {entry.name}{dest}"
        )
    match = _DIGEST_IN_NAME.search(local.path.name)
    if match and not sha256_of_file(local.path).startswith(match[1]):
        raise DataError(f"{local.path}: its SHA-256 does not begin with {match[1]}; remove it and fetch it again.")
    return local


def _published(entry: Backbone) -> PublishedFile | PublishedRepo | PublishedPage:
    if entry.weights is None:
        raise OptionError("--weights", f"nobody published weights for {entry.name}; use random:SEED or a path.")
    return entry.weights


def _path_of_file(weights: PublishedFile | PublishedPage, folder: Path | None) -> Path:
    name = weights.file if isinstance(weights, PublishedPage) else weights.url.rsplit("/", 1)[1]
    return Path(folder or _torch_hub_folder()) / "checkpoints" / name


def _to_fetch_by_hand(entry: Backbone, weights: PublishedPage, folder: Path | None) -> DataError:
    return DataError(
        f"{entry.name}: its weights have no address to fetch them from. Download {weights.file} from {weights.page} "
        f"and put it into {_path_of_file(weights, folder).parent}"
    )


def _torch_hub_folder() -> Path:
    """Return the folder of torch.hub's cache, without loading torch for it."""
    if (torch := sys.modules.get("torch")) is not None:
        return Path(torch.hub.get_dir())  # it may have been set to another folder
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))).expanduser() / "hub"


def _names(weights: PublishedRepo) -> tuple[str, ...]:
    """Return the paths in the repository at which the weights may be; the first that exists is taken."""
    return PRETRAINED_NAMES if weights.file is None else (weights.file,)


def _find_in_repo(weights: PublishedRepo, folder: Path | None) -> LocalWeights | None:
    for name in _names(weights):
        if (path := _in_cache(weights, name, folder)) is not None:
            parts = [str(PurePosixPath(name).with_name(part)) for part in part_names(path)]
            if any(_in_cache(weights, part, folder) is None for part in parts):
                return None
            snapshot = path.parents[name.count("/")]  # a folder that is named after the commit
            return LocalWeights(path, f"{weights.repo}@{snapshot.name}")
    return None


def _in_cache(weights: PublishedRepo, name: str, folder: Path | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(weights.repo, name, cache_dir=folder)
    return (
        Path(path) if isinstance(path, str) else None
    )  # not None, nor the hub's mark for a file that the repository does not have


def _fetch_file(entry: Backbone, weights: PublishedFile, path: Path) -> None:
    import torch

    match = _DIGEST_IN_NAME.search(path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            weights.url, str(path), hash_prefix=match and match[1], progress=sys.stderr.isatty()
        )
    except RuntimeError as error:  # torch raises it for a wrong digest
        raise DataError(
            f"{entry.name}: {weights.url}: the file that came is not the published one ({error})."
        ) from error
    except (URLError, OSError) as error:
        raise _unreachable(entry, weights.url, error) from error


def _fetch_repo(entry: Backbone, weights: PublishedRepo, folder: Path | None) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    def fetch(name: str) -> Path | None:
        try:
            return Path(hf_hub_download(weights.repo, name, cache_dir=folder))
        except LocalEntryNotFoundError:  # raised without network; a subclass of the next
            raise
        except EntryNotFoundError:
            return None

    try:
        if weights.file is None:
            fetch("config.json")
        names = _names(weights)
        path = next((path for name in names if (path := fetch(name)) is not None), None)
        if path is None:
            raise DataError(f"{entry.name}: {weights.repo} has none of {', '.join(names)}.")
        if path.name.endswith(".index.json"):
            for part in part_names(path):
                fetch(part)
    except GatedRepoError as error:
        raise DataError(
            f"{entry.name}: {weights.repo} is gated. Accept its licence on its page of the Hugging Face hub, log in "
            "on this machine with `hf auth login` (or set HF_TOKEN), and run this again."
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise _unreachable(entry, f"{weights.repo} on the Hugging Face hub", error) from error


def _unreachable(entry: Backbone, address: str, error: Exception) -> DataError:
    reason = str(error).strip().split("\n", 1)[0]
    return DataError(
        f"{entry.name}: cannot fetch {address} ({reason}). On a machine with network run `extract weights {entry.name} "
        "--dest FOLDER`, copy the folder here, and name it with --weights-dir."
    )
