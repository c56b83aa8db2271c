"""What a configuration leaves open, chosen for the numbers of segments. Loads no torch."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

from features.errors import OptionError
from heads.config import InputSettings, Objective, TrainConfig
from heads.models.catalogue import head_lr, head_options_for, is_fitted, reads_windows

# With fewer training segments than this, heads overfit: mixup is on, and long windows are thinned to fewer steps.
_SMALL = 10_000
_MIXUP = 0.4
_MAX_STEPS, _MAX_STEPS_OF_SMALL = 256, 32
_EPOCHS, _MOST_EPOCHS = 30, 300
_UPDATES = 2000
_WARMUP = 6  # one epoch in so many
_WINDOW_S, _HOPS = 20.0, 10  # hops of evaluation per window
# With fewer validation segments than this, the best epoch is a matter of luck, and its own accuracy flatters.
_FEW_TO_SELECT_BY = 2_000


def complete(config: TrainConfig, num_segments: int, num_validation: int) -> TrainConfig:
    """Return a configuration with everything chosen that it leaves open. docs/results.md says what by.

    Args:
        num_segments: the number of training segments.
        num_validation: the number of validation segments; 0 without validation.

    Raises:
        OptionError: the head is fitted, and the configuration asks for what only training has; or it keeps an epoch
            that there is not; or an option is only for heads that read windows, or not for these.
    """
    settings, is_small = config.optimisation, num_segments < _SMALL
    epochs = epochs_of(config, num_segments)
    augmentation, inputs = config.augmentation, _with_windows(config)
    if augmentation.mixup is None:
        mixes = not is_fitted(config.head) and not reads_windows(config.head)
        has_mixup = is_small and not augmentation.cutmix and mixes
        augmentation = replace(augmentation, mixup=_MIXUP if has_mixup else 0.0)
    if inputs.max_steps is None:
        # With context, there are few steps of the segment itself to spare.
        is_short = is_small and not inputs.has_context and inputs.window is None
        inputs = replace(inputs, max_steps=_MAX_STEPS_OF_SMALL if is_short else _MAX_STEPS)
    warmup_epochs = round(epochs / _WARMUP) if settings.warmup_epochs is None else settings.warmup_epochs
    lr = head_lr(config.head) if settings.lr is None else settings.lr
    select = settings.select
    if select is None:
        # Without a better epoch than others, patience could not end a run.
        select = "last" if num_validation < _FEW_TO_SELECT_BY and not settings.patience else "action"
    completed = replace(
        config,
        head_options=head_options_for(config.head, config.head_options, num_segments),
        inputs=inputs,
        augmentation=augmentation,
        optimisation=replace(settings, epochs=epochs, warmup_epochs=warmup_epochs, lr=lr, select=select),
    )
    late = sorted(epoch for epoch in settings.kept_epochs if not 1 <= epoch <= epochs)
    if late:
        raise OptionError("--keep-epochs", f"there is no epoch {late[-1]}: the run has epochs 1 to {epochs}.")
    if is_fitted(config.head):
        _need_plain_settings(completed)
    return completed


def epochs_of(config: TrainConfig, num_segments: int) -> int:
    """Return the number of epochs of a run: as given, or by the number of training segments; 1 for what is fitted."""
    settings = config.optimisation
    if is_fitted(config.head):
        return 1
    return default_epochs(num_segments, settings.batch_size) if settings.epochs is None else settings.epochs


def default_epochs(num_segments: int, batch_size: int) -> int:
    """Return the epochs of a run that names none: 30, or as many as give 2,000 updates, but at most 300.

    >>> default_epochs(67_217, 64), default_epochs(761, 64), default_epochs(24, 64)
    (30, 167, 300)
    """
    updates_per_epoch = math.ceil(num_segments / batch_size)
    return min(max(_EPOCHS, math.ceil(_UPDATES / updates_per_epoch)), _MOST_EPOCHS)


def _with_windows(config: TrainConfig) -> InputSettings:
    """Return the input settings with the windows of a head that reads these.

    Raises:
        OptionError: an option has no meaning for windows that segments share, or is about them and the head reads none.
    """
    inputs, augmentation = config.inputs, config.augmentation
    if not reads_windows(config.head):
        for option in ("window", "window_hop"):
            if getattr(inputs, option) is not None:
                raise OptionError(f"--{option.replace('_', '-')}", f"is about windows, and {config.head} reads none.")
        return inputs
    refused = {
        "--context": (inputs.context, "a window is the context; --window makes it longer"),
        "--neighbours": (inputs.neighbours, "a window is the context; --window makes it longer"),
        "--fusion": (inputs.fusion != "early", "the steps of all feature sets are in one window"),
        "--mixup": (augmentation.mixup, "segments share their steps"),
        "--cutmix": (augmentation.cutmix, "segments share their steps"),
        "--draw-steps": (augmentation.draw_steps, "segments share their steps; --step-dropout leaves out some"),
        "--speed": (augmentation.speed, "segments share their steps"),
    }
    for option, (is_asked, reason) in refused.items():
        if is_asked:
            raise OptionError(option, f"is not for {config.head}: {reason}.")
    window = _WINDOW_S if inputs.window is None else inputs.window
    hop = window / _HOPS if inputs.window_hop is None else inputs.window_hop
    if hop > window:
        raise OptionError("--window-hop", f"{hop:g} s is longer than the window of {window:g} s.")
    return replace(inputs, window=window, window_hop=hop)


def _need_plain_settings(config: TrainConfig) -> None:
    """Check that a configuration asks for nothing that a regression does not have.

    Raises:
        OptionError: it asks for augmentation, another loss, a teacher, or a network around the regression.
    """
    plain_objective = Objective(adjust=config.objective.adjust)
    asked = {
        "augmentation": any(asdict(config.augmentation).values()),
        "other loss, teacher, weights of losses or --action-head": config.objective != plain_objective,
        "--project, --stream-dropout or --fusion late": bool(
            config.inputs.project or config.inputs.stream_dropout or config.inputs.fusion == "late"
        ),
        "--ema": bool(config.optimisation.ema),
    }
    for what, is_asked in asked.items():
        if is_asked:
            raise OptionError("--head", f"logistic is a plain regression; it takes no {what}.")
