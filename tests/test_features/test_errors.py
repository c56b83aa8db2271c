"""Out of memory is told by class and by the exact words of torch, and nothing else is taken for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from feature_files import finished, python

from features.errors import is_out_of_memory

TOO_LARGE = {
    "numpy": lambda: np.empty(2**46),
    "torch, more than the machine has": lambda: torch.empty(2**60, dtype=torch.uint8),
    "torch, more than can be counted": lambda: torch.empty(2**62),
}


@pytest.mark.parametrize("allocate", TOO_LARGE.values(), ids=TOO_LARGE)
def test_what_is_too_large_for_this_machine_is_out_of_memory(allocate: Callable[[], object]) -> None:
    with pytest.raises((MemoryError, RuntimeError)) as error:
        allocate()
    assert is_out_of_memory(error.value)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)("no words of torch's"),
        RuntimeError("MPS backend out of memory (MPS allocated: 19.13 GiB, other allocations: 6.17 GiB)"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    ],
    ids=lambda error: f"{type(error).__name__}: {error}"[:40],
)
def test_classes_and_words_of_a_full_memory(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("pin memory thread exited unexpectedly"),
        RuntimeError("unable to open shared memory object </torch_1> in read-write mode"),
        ValueError("DefaultCPUAllocator: can't allocate memory"),
        OSError("Cannot allocate memory"),
    ],
    ids=str,
)
def test_other_errors_that_speak_of_memory_are_not_out_of_memory(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_it_is_told_without_torch() -> None:
    code = """
import sys
from features.errors import is_out_of_memory
print(is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("other")), "torch" in sys.modules)
"""
    assert finished(python(code))[:2] == (0, "True False False\n")
