"""Published weights: where they lie once fetched, and fetching them. The only module that uses the network.

Files of torchvision and PyTorchVideo lie in torch.hub's cache and repositories of the Hugging Face hub in its own, so
that what other programs have fetched is found; or both in one folder of the user's.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch

from extract.backbones import Backbone, PublishedFile, PublishedRepo
from extract.weights.checkpoint import PRETRAINED_NAMES, part_names
from features.errors import DataError, OptionError
from features.files import sha256_of_file

# torch.hub's convention, NAME-<first digits of the file's SHA-256>.pth, which torchvision's files follow.
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.pth$")


@dataclass(frozen=True)
class Found:
    """Published weights on this machine: a file, or an index whose parts lie beside it."""

    path: Path
    revision: str


def find_weights(entry: Backbone, folder: Path | None = None) -> Found | None:
    """Give where a backbone's published weights lie, or None where they have not been fetched; uses no network.

    Args:
        folder: where `fetch_weights` was told to put them; None for the libraries' own caches.

    Raises:
        OptionError: nobody published any.
    """
    weights = _published(entry)
    if isinstance(weights, PublishedFile):
        path = _place(weights, folder)
        return Found(path, weights.revision) if path.is_file() else None
    paths = [_in_cache(weights, name, folder) for name in PRETRAINED_NAMES]
    path = next((path for path in paths if path is not None), None)
    if path is None or any(_in_cache(weights, part, folder) is None for part in part_names(path)):
        return None
    return Found(path, f"{weights.repo}@{path.parent.name}")


def fetch_weights(entry: Backbone, folder: Path | None = None) -> Found:
    """Fetch a backbone's published weights, unless they are there; give where they lie.

    Raises:
        OptionError: nobody published any.
        DataError: they cannot be had; the message says why and what to do.
    """
    found = find_weights(entry, folder)
    if found is not None:
        return found
    weights = _published(entry)
    if isinstance(weights, PublishedFile):
        _fetch_file(entry, weights, _place(weights, folder))
    else:
        _fetch_repo(entry, weights, folder)
    found = find_weights(entry, folder)
    if found is None:
        raise DataError(f"{entry.name}: what was fetched of {weights} is not where it should be.")
    return found


def need_weights(entry: Backbone, folder: Path | None = None) -> Found:
    """Give where a backbone's published weights lie, checked against the digest in their name where there is one.

    Raises:
        OptionError: nobody published any.
        DataError: they have not been fetched; the message has the command that does.
    """
    found = find_weights(entry, folder)
    if found is None:
        where = f"in {folder}" if folder else "in the usual caches"
        dest = f" --dest {folder}" if folder else ""
        raise DataError(
            f"{entry.name}: its published weights are not {where}. Fetch them once, on a machine with network:\n"
            f"  extract weights {entry.name}{dest}"
        )
    match = _DIGEST_IN_NAME.search(found.path.name)
    if match and not sha256_of_file(found.path).startswith(match[1]):
        raise DataError(f"{found.path}: its SHA-256 does not begin with {match[1]}; remove it and fetch it again.")
    return found


def _published(entry: Backbone) -> PublishedFile | PublishedRepo:
    if entry.weights is None:
        raise OptionError("--weights", f"nobody published weights for {entry.name}; use random:SEED or a path.")
    return entry.weights


def _place(weights: PublishedFile, folder: Path | None) -> Path:
    return Path(folder or torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[1]


def _in_cache(weights: PublishedRepo, name: str, folder: Path | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(weights.repo, name, cache_dir=folder)
    return Path(path) if isinstance(path, str) else None  # else None, or a note that the repository has none


def _fetch_file(entry: Backbone, weights: PublishedFile, path: Path) -> None:
    match = _DIGEST_IN_NAME.search(path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            weights.url, str(path), hash_prefix=match and match[1], progress=sys.stderr.isatty()
        )
    except RuntimeError as error:  # torch's word for a wrong digest
        raise DataError(f"{entry.name}: {weights.url}: what came is not what was published ({error}).") from error
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
        except LocalEntryNotFoundError:  # the hub's word for no network, and a kind of the next
            raise
        except EntryNotFoundError:
            return None

    try:
        fetch("config.json")
        path = next((path for name in PRETRAINED_NAMES if (path := fetch(name)) is not None), None)
        if path is None:
            raise DataError(f"{entry.name}: {weights.repo} has none of {', '.join(PRETRAINED_NAMES)}.")
        for part in part_names(path):
            fetch(part)
    except GatedRepoError as error:
        raise DataError(
            f"{entry.name}: {weights.repo} is gated. Accept its licence on its page of the Hugging Face hub, log in "
            "on this machine with `hf auth login` (or set HF_TOKEN), and run this again."
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise _unreachable(entry, f"{weights.repo} on the Hugging Face hub", error) from error


def _unreachable(entry: Backbone, what: str, error: Exception) -> DataError:
    reason = str(error).strip().split("\n", 1)[0]
    return DataError(
        f"{entry.name}: cannot fetch {what} ({reason}). On a machine with network run `extract weights {entry.name} "
        "--dest FOLDER`, copy the folder here, and name it by --weights-dir."
    )
