"""Which operators of torch have a kernel on a device, by the list that torch is built from and that its wheels carry.

The list (native_functions.yaml) is the same for all wheels of a version. What it does not say of the wheels for macOS:
    - A few operators without a kernel run on the CPU instead, with a warning: `FALLS_BACK`.
    - Some kernels are there and refuse some inputs: `refusal`.
    - Some kernels ask for a newer macOS than the wheel does (3D convolutions 13.2, bfloat16 14), which
      nothing here knows.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
import torchgen
import yaml

# The name of a device's kernels in the list.
BACKENDS = {"mps": "MPS", "cuda": "CUDA"}
# aten/src/ATen/mps/MPSFallback.mm, torch 2.1 to 2.14.
FALLS_BACK = {
    "mps": {"embedding_renorm_", "linalg_svd", "linalg_svd.U", "col2im", "upsample_nearest3d.vec"},
    "cuda": set(),
}
# What the CPU's composites call, and what those of the device call in its place: any one of them with a kernel will do.
_STANDS_FOR = {
    "convolution": {"mps": ["_mps_convolution"], "cuda": ["cudnn_convolution"]},
    "convolution_backward": {"mps": ["mps_convolution_backward"], "cuda": ["convolution_backward"]},
    "_scaled_dot_product_flash_attention_for_cpu": {"cuda": ["_scaled_dot_product_flash_attention"]},
    "_scaled_dot_product_flash_attention_for_cpu_backward": {"cuda": ["_scaled_dot_product_flash_attention_backward"]},
}
_COMPOSITES = {"CompositeImplicitAutograd", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional"}
TORCH = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])


@lru_cache
def _dispatch_tables() -> dict[str, dict[str, str]]:
    """Return for each operator, as "name.overload", the kernel by backend; a composite has none of its own."""
    path = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    entries = {entry["func"].partition("(")[0]: entry for entry in yaml.load(path.read_text(), loader)}
    return {name: _kernels(entries, entry) for name, entry in entries.items()}


def _kernels(entries: dict[str, dict], entry: dict) -> dict[str, str]:
    table = dict(entry.get("dispatch", {}))
    if "structured_delegate" in entry:
        delegate = entries[entry["structured_delegate"]]
        table |= delegate.get("dispatch", {})
        if "ufunc_inner_loop" in delegate:  # from which these kernels are generated
            table["CPU, CUDA"] = "ufunc"
    return {backend.strip(): kernel for backends, kernel in table.items() for backend in backends.split(",")}


def has_kernel(operator: str, device: str) -> bool:
    """Return whether an operator, as "name.overload", has a kernel of its own on a device."""
    return BACKENDS[device] in _dispatch_tables().get(operator, {}) or operator in FALLS_BACK[device]


def is_composite(operator: str) -> bool:
    """Return whether an operator is made of others on devices without a kernel for it; a generated variant is."""
    table = _dispatch_tables().get(operator)
    return table is None or not table or not _COMPOSITES.isdisjoint(table)


def stand_ins(operator: str, device: str) -> list[str]:
    """Return what a device runs where the CPU runs this operator; the operator itself unless the two differ."""
    return _STANDS_FOR.get(operator, {}).get(device, [operator])


def refusal(operator: str, device: str, args: tuple) -> str | None:
    """Return why a device's kernel refuses these inputs, if it does."""
    if device == "mps" and operator == "convolution" and args[0].dim() == 5 and TORCH < (2, 3):
        return "Conv3D is not supported on MPS"  # pytorch/pytorch#114183
    return None
