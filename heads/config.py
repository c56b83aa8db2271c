"""How a head is trained: everything that is needed to repeat a run. Knows no tensor.

Every setting stands once, here: its default, what it means, and what it may be. The command line makes an option of
each, and config.json holds them all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from features.errors import OptionError

# What torch can still compute with in float32.
_MAX = 1e30


def _setting(default: Any, text: str, *, least: float = 0, most: float = _MAX, metavar: str | None = None) -> Any:
    """Give a field with its help and, for numbers, its range."""
    return field(default=default, metadata={"help": text, "least": least, "most": most, "metavar": metavar})


def _need_ranges(record: Any) -> None:
    for setting in dataclasses.fields(record):
        value, known = getattr(record, setting.name), setting.metadata
        if isinstance(value, (int, float)) and not known["least"] <= value <= known["most"]:  # NaN as well
            bound = f"below {known['least']:g}" if value < known["least"] else f"not at most {known['most']:g}"
            raise OptionError(f"--{setting.name.replace('_', '-')}", f"{value} is {bound}.")


@dataclass(frozen=True)
class InputSettings:
    """What a head gets to see of a segment, and how several feature sets come together."""

    context: float = _setting(0.0, "Seconds before and after the segment that a head sees as well (dense sets).")
    neighbours: int = _setting(0, "Segments before and after, in the same video, that a head sees (sets by segment).")
    view: tuple[str, ...] = _setting(
        (), "View of the features; of several, a random one in training, and the first in evaluation."
    )
    max_steps: int = _setting(256, "Steps that a head sees at the most; more are thinned evenly.", least=1)
    fusion: str = _setting("early", "Of several feature sets: early (steps side by side) or late (averaged logits).")
    project: int = _setting(0, "Width that a linear layer brings each feature set to; 0 for none.")
    stream_dropout: float = _setting(0.0, "Probability to hide a feature set from a segment in training.", most=0.9)

    def __post_init__(self) -> None:
        _need_ranges(self)
        if self.fusion not in ("early", "late"):
            raise OptionError("--fusion", f"{self.fusion!r} is neither early nor late.")

    @property
    def has_context(self) -> bool:
        """Whether a head sees steps beyond the segment."""
        return self.context > 0 or self.neighbours > 0


@dataclass(frozen=True)
class Augmentation:
    """What is done to features in training, and in training only."""

    mixup: float = _setting(0.0, "Alpha of mixup's Beta distribution (Zhang et al., ICLR 2018); 0 for none.")
    cutmix: float = _setting(0.0, "Alpha of temporal CutMix (Yun et al., ICCV 2019, along time); 0 for none.")
    step_dropout: float = _setting(0.0, "Probability to leave out a step.", most=0.95)
    jitter: float = _setting(
        0.0, "Share of its length by which a segment's ends move at random (dense sets).", most=1.0
    )
    speed: float = _setting(0.0, "Share by which a segment runs faster or slower at random (dense sets).", most=0.9)
    noise: float = _setting(0.0, "Gaussian noise on features, in standard deviations of each dimension.")

    def __post_init__(self) -> None:
        _need_ranges(self)


@dataclass(frozen=True)
class Objective:
    """What training makes small."""

    loss: str = _setting("ce", "Loss of verb and noun, as NAME[:KEY=VALUE]...; `heads list` names them.")
    verb_loss: str | None = _setting(None, "Another loss for verbs.")
    noun_loss: str | None = _setting(None, "Another loss for nouns.")
    verb_weight: float = _setting(1.0, "Weight of the verbs' loss.")
    noun_weight: float = _setting(1.0, "Weight of the nouns' loss.")
    action_weight: float = _setting(0.0, "Weight of a cross-entropy over the pairs of verb and noun in training.")
    adjust: float = _setting(0.0, "Tau of a logit adjustment of the predictions (Menon et al., ICLR 2021).")
    teacher: str | None = _setting(None, "Predictions for the training segments to learn from.", metavar="FILE")
    teacher_weight: float = _setting(0.5, "Share of the loss that the teacher has instead of the labels.", most=1.0)
    temperature: float = _setting(2.0, "Temperature of teacher and head (Hinton et al., 2015).", least=1e-3)

    def __post_init__(self) -> None:
        _need_ranges(self)
        if not self.verb_weight + self.noun_weight + self.action_weight:
            raise OptionError(None, "--verb-weight, --noun-weight and --action-weight are all 0.")


@dataclass(frozen=True)
class Optimisation:
    """How it is made small."""

    epochs: int = _setting(30, "Passes over the training segments; 0 evaluates a run that is there.")
    batch_size: int = _setting(64, "Segments a step.", least=1)
    lr: float = _setting(1e-3, "Peak learning rate of AdamW.", least=1e-30)
    lr_scale: tuple[str, ...] = _setting(
        (), "Another learning rate for parameters whose name starts so, as classifier=0.1.", metavar="NAME=FACTOR"
    )
    weight_decay: float = _setting(0.01, "Weight decay of AdamW.")
    warmup_epochs: int = _setting(5, "Epochs of linear warm-up before the cosine.")
    clip: float = _setting(0.0, "Largest norm of the gradient; 0 for any.")
    ema: float = _setting(0.0, "Decay of a moving average of the weights, such as 0.999; 0 for none.", most=0.99999)
    patience: int = _setting(0, "Epochs without a better action accuracy after which a run ends; 0 for never.")
    precision: str = _setting("auto", "float32, bfloat16, or auto (bfloat16 on CUDA).")

    def __post_init__(self) -> None:
        _need_ranges(self)
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise OptionError("--precision", f"{self.precision!r} is none of auto, float32, bfloat16.")
        _ = self.lr_factors

    @property
    def lr_factors(self) -> dict[str, float]:
        """Give prefix of a parameter's name -> factor on the learning rate."""
        factors = {}
        for text in self.lr_scale:
            prefix, _, factor = text.partition("=")
            if prefix in factors:
                raise OptionError("--lr-scale", f"{prefix!r} is given twice.")
            try:
                factors[prefix] = float(factor)
            except ValueError:
                prefix = ""
            if not prefix:
                raise OptionError("--lr-scale", f"{text!r} is not NAME=FACTOR, such as classifier=0.1.")
            if not 0 <= factors[prefix] <= _MAX:
                raise OptionError("--lr-scale", f"the factor of {text!r} is negative or too large.")
        return factors


GROUPS = {"inputs": InputSettings, "augmentation": Augmentation, "objective": Objective, "optimisation": Optimisation}


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        head, head_options: which head, and its options with their defaults filled in.
        separate: a head for verbs and one for nouns, instead of one for both.
        split: which segments are trained on and which validate, as for `choose_split`.
        seed: of the initial weights, the order of the segments, dropout and augmentation.
    """

    head: str
    head_options: Mapping[str, Any] = field(default_factory=dict)
    separate: bool = False
    split: str = "official"
    seed: int = 0
    inputs: InputSettings = InputSettings()
    augmentation: Augmentation = Augmentation()
    objective: Objective = Objective()
    optimisation: Optimisation = Optimisation()

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise OptionError("--seed", f"{self.seed} is below 0.")

    def as_json(self) -> dict[str, Any]:
        """Give the record as plain JSON values, the groups' settings side by side with the rest."""
        flat = dataclasses.asdict(self)
        for group in GROUPS:
            flat |= {
                name: list(value) if isinstance(value, tuple) else value for name, value in flat.pop(group).items()
            }
        return flat


def make_config(head: str, head_options: Mapping[str, Any], settings: Mapping[str, Any]) -> TrainConfig:
    """Give the record of a run from its settings by name, in whichever group they stand; the rest are defaults.

    `settings` may be what `as_json` gave, or config.json: what is not a setting is passed over.
    """
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    groups = {
        group: record(**{each.name: given[each.name] for each in dataclasses.fields(record) if each.name in given})
        for group, record in GROUPS.items()
    }
    own = {name: given[name] for name in ("separate", "split", "seed") if name in given}
    return TrainConfig(head, head_options, **own, **groups)


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
            raise OptionError("--seeds", f"{text!r} is not a list of seeds such as 0-4 or 0,2,5.")
        seeds += range(int(first), int(last if dash else first) + 1)
    if any(seed >= 2**32 for seed in seeds):
        raise OptionError("--seeds", f"{text!r} has a seed of 2**32 or more.")
    if not seeds or len(set(seeds)) != len(seeds):
        raise OptionError("--seeds", f"{text!r} names no seed, or one twice.")
    return seeds
