"""How a head is trained: everything that is needed to repeat a run. Knows no tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from features.errors import OptionError

# What torch can still compute with in float32.
_MAX_LR = 1e30


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        head, head_options: which head, and its options with their defaults filled in.
        epochs: passes over the training segments.
        batch_size: segments a step.
        lr: peak learning rate of AdamW; rises linearly over `warmup_epochs`, then falls as a cosine to 0.
        weight_decay: of AdamW, on all parameters.
        seed: of the initial weights, the order of the segments, and dropout.
    """

    head: str
    head_options: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 30
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup_epochs: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for option, least in (("epochs", 1), ("batch_size", 1), ("warmup_epochs", 0), ("seed", 0)):
            if getattr(self, option) < least:
                value = getattr(self, option)
                raise OptionError(f"--{option.replace('_', '-')}: {value} is below {least}.")
        if not 0 < self.lr <= _MAX_LR or not 0 <= self.weight_decay <= _MAX_LR:
            raise OptionError(f"--lr must be above 0, --weight-decay not below it, and both at most {_MAX_LR:g}.")

    def as_json(self) -> dict[str, Any]:
        """Give the record as plain JSON values."""
        return asdict(self)


def parse_seeds(text: str) -> list[int]:
    """Give the seeds of a list such as "0-4" or "0,2,7-9".

    >>> parse_seeds("0-2,7")
    [0, 1, 2, 7]

    Raises:
        OptionError: it is not such a list, or names a seed twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise OptionError(f"--seeds: {text!r} is not a list of seeds such as 0-4 or 0,2,5.")
        seeds += range(int(first), int(last if dash else first) + 1)
    if any(seed >= 2**32 for seed in seeds):
        raise OptionError(f"--seeds: {text!r} has a seed of 2**32 or more.")
    if not seeds or len(set(seeds)) != len(seeds):
        raise OptionError(f"--seeds: {text!r} names no seed, or one twice.")
    return seeds
