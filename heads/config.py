"""How a head is trained: everything that is needed to repeat a run. Loads no torch.

Each setting is defined once, here: its default, what it means, and which values it may have. The command line has an
option for each, and config.json holds them all.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from features.errors import OptionError, unknown_name

# The largest number that torch can still compute with in float32.
_MAX = 1e30


def _setting(
    default: Any,
    text: str,
    *,
    least: float = 0,
    most: float = _MAX,
    kind: type | None = None,
    metavar: str | None = None,
) -> Any:
    """Return a field with its help text and, for numbers, its range; `kind` is its type where the default is None."""
    kind = kind or (str if default is None else type(default))
    return field(
        default=default, metadata={"help": text, "least": least, "most": most, "kind": kind, "metavar": metavar}
    )


def _need_ranges(record: Any) -> None:
    for setting in dataclasses.fields(record):
        value, metadata = getattr(record, setting.name), setting.metadata
        if isinstance(value, (int, float)) and not metadata["least"] <= value <= metadata["most"]:  # NaN as well
            is_below = value < metadata["least"]
            bound = f"below {metadata['least']:g}" if is_below else f"not at most {metadata['most']:g}"
            raise OptionError(f"--{setting.name.replace('_', '-')}", f"{value} is {bound}.")


@dataclass(frozen=True)
class InputSettings:
    """Which steps a head sees of a segment, and how several feature sets are combined."""

    title: ClassVar[str] = "Input"

    context: float = _setting(0.0, "Seconds before and after the segment that a head sees too (dense sets).")
    neighbours: int = _setting(
        0, "Number of segments before and after, in the same video, that a head sees too (sets by segment)."
    )
    view: tuple[str, ...] = _setting(
        (),
        "View of the features. With several, training draws one at random for each segment, and evaluation takes the "
        "first.  [default: the first view of the set; all of its views if there are random augmentations among them]",
    )
    max_steps: int | None = _setting(
        None,
        "Largest number of steps that a head sees; longer windows are thinned evenly.  [default: 256; 32 with fewer "
        "than 10,000 training segments and no context]",
        least=1,
        kind=int,
    )
    window: float | None = _setting(
        None,
        "Seconds of the windows that segments share (head context).  [default: 20]",
        least=0.1,
        kind=float,
    )
    window_hop: float | None = _setting(
        None,
        "Seconds from one window to the next in evaluation, where a segment's logits are the mean over the windows "
        "that hold it (head context).  [default: a tenth of the window]",
        least=0.01,
        kind=float,
    )
    fusion: str = _setting(
        "early", "With several feature sets: early (their steps side by side) or late (the average of their logits)."
    )
    project: int = _setting(0, "Width of a linear layer that each feature set goes through first; 0 for none.")
    stream_dropout: float = _setting(
        0.0,
        "Probability to hide a feature set from a segment in training; with windows, a stretch of it from a window.",
        most=0.9,
    )

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
    """How features are changed at random in training, and only there."""

    title: ClassVar[str] = "Augmentation"

    mixup: float | None = _setting(
        None,
        "Alpha of mixup's Beta distribution (Zhang et al., ICLR 2018); 0 for none.  [default: 0.4 with fewer than "
        "10,000 training segments, else 0]",
        kind=float,
    )
    cutmix: float = _setting(0.0, "Alpha of temporal CutMix (Yun et al., ICCV 2019, along time); 0 for none.")
    step_dropout: float = _setting(0.0, "Probability to leave out a step.", most=0.95)
    draw_steps: int = _setting(
        0,
        "Number of random steps that training takes of each segment, of its neighbours too: 1 for sets of several "
        "clips per segment, such as MTCN's ten; 0 for all steps (sets by segment).",
    )
    jitter: float = _setting(
        0.0, "Largest random move of a segment's start and stop, as a share of its length (dense sets).", most=1.0
    )
    speed: float = _setting(0.0, "Largest random change of a segment's speed, as a share (dense sets).", most=0.9)
    noise: float = _setting(0.0, "Gaussian noise on features, in standard deviations of each dimension.")

    def __post_init__(self) -> None:
        _need_ranges(self)


@dataclass(frozen=True)
class Objective:
    """What training minimises."""

    title: ClassVar[str] = "Loss"

    loss: str = _setting("ce", "Loss of verb and noun, as NAME[:KEY=VALUE]...; `heads list` names them.")
    verb_loss: str | None = _setting(None, "Another loss for verbs.")
    noun_loss: str | None = _setting(None, "Another loss for nouns.")
    verb_weight: float = _setting(1.0, "Weight of the verb loss.")
    noun_weight: float = _setting(1.0, "Weight of the noun loss.")
    action_weight: float = _setting(0.0, "Weight of a cross-entropy over the pairs of verb and noun in training.")
    action_head: bool = _setting(
        False, "Train a third output beside verb and noun: an action classifier, over pairs of verb and noun."
    )
    actions: str = _setting(
        "train", "Pairs of the action classifier: those in training (train), or in validation too (train+val)."
    )
    action_head_loss: str | None = _setting(None, "Another loss for the action classifier.")
    action_head_weight: float = _setting(1.0, "Weight of the loss of the action classifier.")
    adjust: float = _setting(0.0, "Tau of a logit adjustment of the predictions (Menon et al., ICLR 2021).")
    teacher: str | None = _setting(None, "Predictions for the training segments to learn from.", metavar="FILE")
    scores: str | None = _setting(
        None,
        "What the teacher's file holds: logits or probabilities.  [default: probabilities if all rows sum to 1]",
        metavar="KIND",
    )
    teacher_weight: float = _setting(
        0.5, "Share of the loss that the teacher replaces; labels have the rest.", most=1.0
    )
    temperature: float = _setting(2.0, "Temperature of teacher and head (Hinton et al., 2015).", least=1e-3)

    def __post_init__(self) -> None:
        _need_ranges(self)
        if not self.verb_weight + self.noun_weight + self.action_weight + self.action_head * self.action_head_weight:
            raise OptionError(None, "--verb-weight, --noun-weight and --action-weight are all 0.")
        if self.actions not in ("train", "train+val"):
            raise OptionError("--actions", f"{self.actions!r} is neither train nor train+val.")
        for name in ("actions", "action_head_loss", "action_head_weight"):
            if not self.action_head and getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise OptionError(f"--{name.replace('_', '-')}", "is about the classifier of --action-head.")
        if self.scores not in (None, "logits", "probabilities"):
            raise OptionError("--scores", f"{self.scores!r} is neither logits nor probabilities.")
        if self.scores is not None and self.teacher is None:
            raise OptionError("--scores", "is about the file of a --teacher.")


@dataclass(frozen=True)
class Schedule:
    """The learning rate over a run: linear to its peak, then a cosine to 0 (Loshchilov and Hutter, ICLR 2017)."""

    epochs: int
    warmup_epochs: int
    lr: float

    def lr_at(self, progress: float) -> float:
        """Return the learning rate after a share of the epochs.

        >>> schedule = Schedule(epochs=6, warmup_epochs=2, lr=1.0)
        >>> [round(schedule.lr_at(epochs / 6), 2) for epochs in (0.5, 1.5, 2, 3, 4, 6)]
        [0.25, 0.75, 1.0, 0.85, 0.5, 0.0]
        """
        epochs = progress * self.epochs
        if epochs < self.warmup_epochs:
            return self.lr * epochs / self.warmup_epochs
        falling = max(self.epochs - self.warmup_epochs, 1e-9)
        return self.lr * 0.5 * (1 + math.cos(math.pi * (epochs - self.warmup_epochs) / falling))


SELECTIONS = ("action", "loss", "last")


@dataclass(frozen=True)
class Optimisation:
    """How the loss is minimised."""

    title: ClassVar[str] = "Optimisation"

    epochs: int | None = _setting(
        None,
        "Passes over the training segments; 0 evaluates an existing run.  [default: 30, or as many as give 2,000 "
        "updates, but at most 300]",
        kind=int,
    )
    batch_size: int = _setting(64, "Segments per step; windows are whole, so a step may have some more.", least=1)
    lr: float | None = _setting(
        None, "Peak learning rate of AdamW.  [default: the head's own, mostly 0.001]", least=1e-30, kind=float
    )
    lr_scale: tuple[str, ...] = _setting(
        (),
        "Factor on the learning rate of parameters with a part of this name, such as classifier=0.1 (the last linear "
        "layers) or heads.0=0.5 (the head of the first feature set).",
        metavar="NAME=FACTOR",
    )
    bias: str = _setting(
        "prior",
        "Where classifiers' biases begin: prior (at the log prior of the training labels, less what the loss adds) or "
        "zero (near 0, as PyTorch draws them).",
    )
    weight_decay: float = _setting(0.01, "Weight decay of AdamW.")
    warmup_epochs: int | None = _setting(
        None, "Epochs of linear warm-up before the cosine.  [default: a sixth of --epochs]", kind=int
    )
    clip_grad: float = _setting(
        0.0, "Largest norm of the gradient; larger gradients are scaled down to it. 0 for no limit."
    )
    ema: float = _setting(0.0, "Decay of a moving average of the weights, such as 0.999; 0 for none.", most=0.99999)
    select: str | None = _setting(
        None,
        "The epoch whose weights are kept: that of the best action accuracy on validation (action), that of the lowest "
        "loss on validation (loss), or the last one (last).  [default: last with fewer than 2,000 validation segments "
        "and no --patience, else action]",
    )
    patience: int = _setting(
        0, "A run ends after so many epochs without a better one, as --select has it; 0 for never."
    )
    keep_epochs: str | None = _setting(
        None,
        "Epochs whose predictions are kept in folders of the run, such as 12-20, for `heads ensemble RUN/epoch*`.",
        metavar="EPOCHS",
    )
    precision: str = _setting("auto", "float32, bfloat16, or auto (bfloat16 on CUDA, else float32).")

    def __post_init__(self) -> None:
        _need_ranges(self)
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise OptionError("--precision", f"{self.precision!r} is none of auto, float32, bfloat16.")
        if self.bias not in ("prior", "zero"):
            raise OptionError("--bias", f"{self.bias!r} is neither prior nor zero.")
        if self.select is not None and self.select not in SELECTIONS:
            raise OptionError("--select", f"{self.select!r} is none of {', '.join(SELECTIONS)}.")
        if self.patience and self.select == "last":
            raise OptionError("--patience", "ends runs that get no better, and --select last knows no better epoch.")
        _ = self.lr_factors, self.kept_epochs

    @property
    def schedule(self) -> Schedule:
        """The schedule of settings that leave nothing open (heads/training/defaults.py)."""
        if self.epochs is None or self.warmup_epochs is None or self.lr is None:
            raise ValueError("epochs, warmup_epochs and lr are not all chosen yet.")
        return Schedule(self.epochs, self.warmup_epochs, self.lr)

    @property
    def kept_epochs(self) -> frozenset[int]:
        """The epochs whose predictions are kept, from 1."""
        return frozenset(parse_numbers(self.keep_epochs, "--keep-epochs", "epoch")) if self.keep_epochs else frozenset()

    @property
    def selection(self) -> str:
        """How the epoch is chosen whose weights are kept, of settings that leave nothing open."""
        if self.select is None:
            raise ValueError("select is not chosen yet.")
        return self.select

    @property
    def lr_factors(self) -> dict[str, float]:
        """Name in --lr-scale -> factor on the learning rate."""
        factors = {}
        for text in self.lr_scale:
            name, _, factor = text.partition("=")
            if name in factors:
                raise OptionError("--lr-scale", f"{name!r} is given twice.")
            try:
                factors[name] = float(factor)
            except ValueError:
                name = ""
            if not name:
                raise OptionError("--lr-scale", f"{text!r} is not NAME=FACTOR, such as classifier=0.1.")
            if not 0 <= factors[name] <= _MAX:
                raise OptionError("--lr-scale", f"the factor of {text!r} is negative or too large.")
        return factors


# Field of TrainConfig -> its record, whose `title` is the heading of its options in --help.
GROUPS: dict[str, type[InputSettings] | type[Augmentation] | type[Objective] | type[Optimisation]] = {
    "inputs": InputSettings,
    "augmentation": Augmentation,
    "objective": Objective,
    "optimisation": Optimisation,
}

# Old name of a setting -> its name since version 0.2. Commands, options files and grids take both for one release.
RENAMED = {"clip": "clip_grad"}


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        head, head_options: which head, and all of its options.
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
        """Return the record as plain JSON values, the groups' settings side by side with the rest."""
        flat = dataclasses.asdict(self)
        for group in GROUPS:
            flat |= {
                name: list(value) if isinstance(value, tuple) else value for name, value in flat.pop(group).items()
            }
        return flat


def kind_of(setting: dataclasses.Field[Any]) -> type:
    """Return the type of a setting's values: int, float, str, bool for a switch, or tuple for several texts."""
    return setting.metadata["kind"]


def setting_names() -> list[str]:
    """Return the names of all settings that `make_config` takes."""
    return ["separate", "split", "seed", *(setting.name for record in GROUPS.values() for setting in _fields(record))]


def make_config(head: str, head_options: Mapping[str, Any], settings: Mapping[str, Any]) -> TrainConfig:
    """Return the record of a run from its settings by name, whichever group they are in; others have their defaults.

    Args:
        settings: as `setting_names`; a list may stand for a tuple.

    Raises:
        OptionError: a setting is unknown, or a value is out of its range.
    """
    names = setting_names()
    for name in settings:
        if name not in names:
            raise unknown_name(f"--{name.replace('_', '-')}", "setting", name, names)
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    return TrainConfig(
        head,
        head_options,
        separate=values.get("separate", False),
        split=values.get("split", "official"),
        seed=values.get("seed", 0),
        inputs=_group(InputSettings, values),
        augmentation=_group(Augmentation, values),
        objective=_group(Objective, values),
        optimisation=_group(Optimisation, values),
    )


Record = TypeVar("Record", InputSettings, Augmentation, Objective, Optimisation)


def _group(record: type[Record], values: Mapping[str, Any]) -> Record:
    return record(**{setting.name: values[setting.name] for setting in _fields(record) if setting.name in values})


def _fields(record: type) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(record)


def config_from_json(record: Mapping[str, Any]) -> TrainConfig:
    """Return the training configuration that a run's config.json holds; its other keys are ignored.

    Raises:
        KeyError: there is no head in it.
        OptionError: a value is out of its range.
    """
    known, names = with_current_names(record), setting_names()
    settings = {name: value for name, value in known.items() if name in names}
    return make_config(known["head"], known.get("head_options", {}), settings)


def with_current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by name, with settings under an old name under their current one.

    >>> with_current_names({"lr": 0.1, "clip": 1.0})
    {'lr': 0.1, 'clip_grad': 1.0}
    """
    current = dict(settings)
    for old, new in RENAMED.items():
        if old in current:
            current[new] = current.pop(old)
    return current


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of a list such as "0-4" or "0,2,7-9".

    >>> parse_seeds("0-2,7")
    [0, 1, 2, 7]

    Raises:
        OptionError: the text is not such a list, or names a seed twice.
    """
    seeds = parse_numbers(text, "--seeds", "seed")
    if any(seed >= 2**32 for seed in seeds):
        raise OptionError("--seeds", f"{text!r} has a seed of 2**32 or more.")
    return seeds


def parse_numbers(text: str, option: str, what: str) -> list[int]:
    """Return the numbers of a list such as "0-4" or "0,2,7-9".

    Raises:
        OptionError: the text is not such a list, or names a number twice.
    """
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise OptionError(option, f"{text!r} is not a list of {what}s such as 0-4 or 0,2,5.")
        numbers += range(int(first), int(last if dash else first) + 1)
    if not numbers or len(set(numbers)) != len(numbers):
        raise OptionError(option, f"{text!r} names no {what}, or one twice.")
    return numbers
