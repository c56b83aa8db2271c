"""The errors for mistakes that people make. Only a command line turns them into exit codes."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class DataError(Exception):
    """A file, a row or a folder is wrong or missing (exit code 1)."""


class UnreadableError(DataError):
    """The system does not let a file be read, as for lack of permission: the file itself may be sound.

    The message stands as it is: no caller adds advice to delete anything.
    """


class OptionError(ValueError):
    """An option has a value that makes no sense (exit code 2).

    Attributes:
        option: the option as it is typed, such as "--lr", or the line of a file that sets it; None if the error is
            not about a single option.
    """

    def __init__(self, option: str | None, message: str) -> None:
        super().__init__(message if option is None else f"{option}: {message}")
        self.option = option


# Messages of torch's errors that have no class of their own: the machine's memory is full, a size is beyond any memory,
# a Mac's GPU is full. "CUDA error: out of memory" comes from CUDA itself, as when another process holds the whole GPU.
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "Storage size calculation overflowed",
    "MPS backend out of memory",
    "CUDA error: out of memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory of the machine or of its GPU is full."""
    if isinstance(error, (MemoryError, _torch_class())):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in _OUT_OF_MEMORY)


def _torch_class() -> type[BaseException]:
    """Return torch's class for a full GPU; MemoryError where torch is not loaded, so it cannot have been raised."""
    torch = sys.modules.get("torch")
    # torch.OutOfMemoryError since torch 2.5, before that only in torch.cuda.
    return MemoryError if torch is None else getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)


def unknown_name(option: str | None, kind: str, name: str, known: Iterable[str]) -> OptionError:
    """Return the error for an unknown name; its message suggests the nearest known name.

    >>> print(unknown_name("--head", "head", "bilstn", ["bilstm", "mean_pool"]))
    --head: no head 'bilstn'; did you mean 'bilstm'? Known: bilstm, mean_pool.
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else "."
    return OptionError(option, f"no {kind} {name!r}{hint} Known: {', '.join(names)}.")


def first_few(names: Iterable[str], *, limit: int = 5) -> str:
    """Return the first few names and the number of the others, for a message.

    >>> first_few(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    names = list(names)
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
