"""Run batches of small pictures through the backbone, on any device. Knows no video and no file.

On CUDA nothing here waits: the next batch is put together while the last one is computed, and the steps are waited for
only when they are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from extract.backbones.networks.clip_network import ClipNetwork
from extract.backbones.networks.pooling import steps
from extract.backbones.tokens import MEAN, Tokens
from extract.colour_changes import ColourChange
from extract.decode.planes import Colour
from extract.preprocess import Preprocess, normalised, recoloured
from features.device import need_half_precision
from features.errors import OptionError

# What torch says where MPS has no kernel, or none for such tensors.
_LACKING = re.compile("not currently implemented|not supported on MPS")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def choose_precision(name: str, device: torch.device) -> str:
    """Return the precision of the backbone's arithmetic; "auto" is half precision on CUDA and float32 elsewhere.

    Raises:
        OptionError: there is no such precision.
    """
    if name not in PRECISIONS:
        raise OptionError("--precision", f"{name!r} is none of {', '.join(PRECISIONS)}.")
    if name == "float32":
        return name
    if name != "auto":
        need_half_precision(device)
        return name
    if device.type != "cuda":
        return "float32"
    # Cards before Ampere only emulate bfloat16.
    return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float16"


@dataclass(frozen=True, eq=False)
class PendingSteps:
    """The steps of a batch, which may still be computed on the device."""

    steps: torch.Tensor
    copied: torch.cuda.Event | None

    def get(self) -> torch.Tensor:
        """Wait for the steps and return them: (B, P, cells * D) float32 on the CPU."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.steps


class Forward:
    """A backbone together with its normalisation, applied to uint8 pictures.

    Args:
        network: maps clips (B, C, L, H, W) float32 to tokens; moved to `device`.
        precision: float32, bfloat16 or float16 (autocast).
        tokens: what a step keeps of them; its cells are concatenated.
    """

    def __init__(
        self,
        network: ClipNetwork,
        preprocess: Preprocess,
        device: torch.device,
        precision: str,
        tokens: Tokens = MEAN,
    ) -> None:
        self._network = network.to(device)
        self._preprocess = preprocess
        self._device = device
        self._precision = precision
        self._tokens = tokens
        if device.type != "mps":
            _channels_last(self._network)

    @torch.inference_mode()
    def start(
        self,
        pictures: torch.Tensor,
        colours: Sequence[Colour],
        clip_frames: int,
        changes: Iterable[tuple[Sequence[int], ColourChange]] = (),
    ) -> PendingSteps:
        """Start computing a batch of B clips.

        Args:
            pictures: (B * clip_frames, 3, h, w) uint8 YUV on the device, clip by clip.
            colours: the colours of each picture.
            changes: numbers of clips, and what to do with their colours.
        """
        x = normalised(pictures, colours, self._preprocess)
        for clips, change in changes:
            rows = [clip * clip_frames + frame for clip in clips for frame in range(clip_frames)]
            x[rows] = recoloured(pictures[rows], [colours[row] for row in rows], self._preprocess, change)
        return self.steps(x.unflatten(0, (-1, clip_frames)).transpose(1, 2))

    @torch.inference_mode()
    def steps(self, clips: torch.Tensor) -> PendingSteps:
        """Start computing normalised clips: (B, C, L, h, w) float32.

        Raises:
            OptionError: this torch lacks on MPS what the backbone needs.
        """
        try:
            with self._arithmetic():
                values = steps(self._network, clips, self._tokens).float().flatten(2)
        except RuntimeError as error:
            if not (self._device.type == "mps" and _LACKING.search(str(error))):
                raise
            reason = str(error).partition(". ")[0].partition("\n")[0]
            raise OptionError(
                "--device", f"torch {torch.__version__} cannot run this backbone on mps ({reason}); a newer one may."
            ) from error
        if self._device.type != "cuda":
            return PendingSteps(values.cpu(), None)
        host = torch.empty(values.shape, pin_memory=True).copy_(values, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        return PendingSteps(host, copied)

    def _arithmetic(self) -> AbstractContextManager:
        if self._precision == "float32":
            return nullcontext()
        return torch.autocast(self._device.type, dtype=getattr(torch, self._precision))


def _channels_last(network: nn.Module) -> None:
    """Lay out the weights of convolutions as tensor cores and oneDNN read them; activations follow.

    On two cores of an EPYC, 640 pictures through resnet50 took 44 s instead of 64.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)
        elif isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)
