"""Train one head on the features of one split. One loop, from top to bottom."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from features.errors import DataError
from features.files import read_json, sha256_of_json, write_json, write_text
from features.predictions import Predictions, read_predictions, write_predictions
from features.progress import progress
from features.tensors import load_safely, save_tensors
from heads.batches import Split, batches, statistics
from heads.checkpoint import BEST, LAST, HeadRecipe, build_model, load_model, save_model
from heads.config import TrainConfig
from heads.metrics import score_logits
from heads.models.standardised import Standardised
from heads.runs import CONFIG, PREDICTIONS

_PREDICT_BATCH = 512


@dataclass(frozen=True, eq=False)
class TrainData:
    """What a run trains and is scored on.

    Attributes:
        featureset: digest of the feature set all splits come from.
        train, validation: labelled; without validation the last epoch counts as the best.
        test: its predictions are written at the end.
        origin: where it all came from, for config.json.
    """

    featureset: str
    train: Split
    validation: Split | None
    test: Split | None
    origin: dict[str, str | None]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its folder, its best epoch (from 1) and the row of metrics.csv of that epoch."""

    folder: Path
    best_epoch: int
    metrics: dict[str, float]
    was_there: bool


def fit(config: TrainConfig, data: TrainData, folder: Path, *, device: torch.device) -> Outcome:
    """Train a head and write its run folder; a run that was cut off goes on after its last whole epoch.

    On a CPU, a run that was cut off and went on ends bit-identical to one that was not.

    Raises:
        DataError: the folder holds another run, or the loss is no longer finite.
    """
    recipe = HeadRecipe(config.head, config.head_options, data.train.features.shape[1], data.featureset)
    steps_per_epoch = math.ceil(len(data.train) / config.batch_size)

    torch.manual_seed(config.seed)
    model = build_model(recipe)
    model.mean, model.std = statistics(data.train)
    model.to(device)
    _claim(folder, config, data)  # once it is known that the head fits into memory
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    verb_class = torch.from_numpy(data.train.segments.verb_class).to(device)
    noun_class = torch.from_numpy(data.train.segments.noun_class).to(device)

    history: list[dict[str, float]] = []
    if (folder / LAST).is_file():
        history = _resume(folder / LAST, model, optimizer, device)
    was_there = len(history) >= config.epochs

    label = f"{config.head} seed {config.seed}"
    with progress(total=config.epochs, unit="epochs", label=label, done_before=len(history)) as bar:
        for epoch in range(len(history), config.epochs):
            model.train()
            losses = []
            order = torch.randperm(len(data.train), generator=_generator(config.seed, epoch)).to(device)
            for step, batch in enumerate(batches(data.train, order, config.batch_size)):
                lr = lr_at(
                    epoch * steps_per_epoch + step,
                    peak=config.lr,
                    warmup=config.warmup_epochs * steps_per_epoch,
                    total=config.epochs * steps_per_epoch,
                )
                for group in optimizer.param_groups:
                    group["lr"] = lr
                verb, noun = model(batch.features, batch.mask)
                loss = F.cross_entropy(verb, verb_class[batch.index]) + F.cross_entropy(noun, noun_class[batch.index])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            row = {"epoch": epoch + 1, "lr": lr, "train_loss": _mean_loss(losses, folder, epoch)}
            if data.validation is not None:
                row |= evaluate(model, data.validation, where=f"{folder}, epoch {epoch + 1}")
            history.append(row)
            if best_of(history) == epoch + 1:
                save_model(folder / BEST, recipe, model)
            _write_metrics(folder / "metrics.csv", history)
            _save_last(folder / LAST, model, optimizer, history)
            bar.set_postfix_str(_postfix(row), refresh=False)
            bar.update()

    best = load_model(folder / BEST, device=device, featureset=data.featureset)
    for name, split in (("validation", data.validation), ("test", data.test)):
        path = folder / PREDICTIONS[name]
        if split is not None and not _covers(path, split):
            write_predictions(path, predict(best, split, source=str(folder)))
    epoch = best_of(history)
    return Outcome(folder, epoch, history[epoch - 1], was_there)


def lr_at(step: int, *, peak: float, warmup: int, total: int) -> float:
    """Give the learning rate of a step (from 0): linear to `peak` over `warmup` steps, then a cosine to 0 at `total`.

    >>> [round(lr_at(step, peak=1.0, warmup=2, total=6), 2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def best_of(history: list[dict[str, float]]) -> int:
    """Give the epoch (from 1) of the highest action accuracy, the earliest of equals; the last one without any."""
    if "val_action_top1" not in history[-1]:
        return len(history)
    return 1 + int(np.argmax([row["val_action_top1"] for row in history]))


def evaluate(model: nn.Module, split: Split, *, where: str) -> dict[str, float]:
    """Score a model on a labelled split: the columns of metrics.csv, accuracies in percent.

    Raises:
        DataError: logits are not finite; they would rank the classes by their ids.
    """
    verb, noun = predict_logits(model, split)
    if not (np.isfinite(verb).all() and np.isfinite(noun).all()):
        raise DataError(f"{where}: the model's logits are no longer finite; try a lower --lr.")
    segments = split.segments
    loss = F.cross_entropy(torch.from_numpy(verb), torch.from_numpy(segments.verb_class)) + F.cross_entropy(
        torch.from_numpy(noun), torch.from_numpy(segments.noun_class)
    )
    scores = score_logits(verb, noun, segments.verb_class, segments.noun_class)
    return {"val_loss": float(loss)} | {f"val_{task}_top{k}": value for (task, k), value in scores.top.items()}


@torch.inference_mode()
def predict_logits(model: nn.Module, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Run a model over a split, in its order: verb logits (S, 97), noun logits (S, 300), float32."""
    model.eval()
    order = torch.arange(len(split), device=split.offset.device)
    outputs = [model(batch.features, batch.mask) for batch in batches(split, order, _PREDICT_BATCH)]
    verb, noun = (torch.cat(parts).float().cpu().numpy() for parts in zip(*outputs, strict=True))
    return verb, noun


def predict(model: nn.Module, split: Split, *, source: str) -> Predictions:
    """Give a model's predictions for a split."""
    verb, noun = predict_logits(model, split)
    return Predictions(tuple(split.segments.narration_id), verb, noun, source)


def _covers(path: Path, split: Split) -> bool:
    """Whether predictions are there, for just these segments: a list may have grown since."""
    return path.is_file() and read_predictions(path).narration_id == tuple(split.segments.narration_id)


def _claim(folder: Path, config: TrainConfig, data: TrainData) -> None:
    """Write config.json into a new run folder, or check that the one there says the same."""
    record = {
        **config.as_json(),
        "featureset_digest": data.featureset,
        "labels_digest": _labels_digest(data),
        "train_segments": len(data.train),
        "train_missing": data.train.num_missing,
        "validation_segments": len(data.validation) if data.validation else 0,
        "validation_missing": data.validation.num_missing if data.validation else 0,
    }
    path = folder / CONFIG
    if not path.is_file():
        write_json(path, {**record, **data.origin})
        return
    there = read_json(path)
    if not isinstance(there, dict):
        raise DataError(f"{path}: not the configuration of a run; delete the folder.")
    differing = [name for name in record if there.get(name) != record[name]]
    if differing:
        changes = "; ".join(f"{name} {there.get(name)!r} there, {record[name]!r} now" for name in differing)
        raise DataError(f"{folder}: holds another run ({changes}); give this one a --name, or delete the folder.")
    if {**there, **data.origin} != there:  # the same annotations and features, elsewhere, or a new test list
        write_json(path, {**there, **data.origin})


def _labels_digest(data: TrainData) -> str:
    """Tell one set of annotations from another; refuse those without labels before anything is written."""
    splits = [split.segments for split in (data.train, data.validation) if split is not None]
    content = [[list(part.narration_id), part.verb_class.tolist(), part.noun_class.tolist()] for part in splits]
    return sha256_of_json(content)[:12]


def _generator(seed: int, epoch: int) -> torch.Generator:
    """The order of an epoch depends on seed and epoch alone, so that a resumed run draws the same."""
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)


def _mean_loss(losses: list[torch.Tensor], folder: Path, epoch: int) -> float:
    values = torch.stack(losses)
    bad = torch.nonzero(~torch.isfinite(values))
    if len(bad):
        raise DataError(
            f"{folder}: the loss is {float(values[bad[0]])} in epoch {epoch + 1}, step {int(bad[0]) + 1}; try a lower "
            "--lr. What was written after the epochs before is kept."
        )
    return float(values.mean())


def _save_last(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, history: list) -> None:
    save_tensors(
        path,
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "history": history,
            "rng_cpu": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        },
    )


def _resume(
    path: Path, model: Standardised, optimizer: torch.optim.Optimizer, device: torch.device
) -> list[dict[str, float]]:
    try:
        content = load_safely(path)
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        torch.set_rng_state(content["rng_cpu"])
        if device.type == "cuda" and content["rng_cuda"]:
            torch.cuda.set_rng_state_all(content["rng_cuda"])
        return content["history"]
    except (DataError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be gone on from ({error}); delete the folder to train again.") from error


def _write_metrics(path: Path, history: list[dict[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(path, text.getvalue())


def _postfix(row: dict[str, float]) -> str:
    action = f", action {row['val_action_top1']:.1f} %" if "val_action_top1" in row else ""
    return f"loss {row['train_loss']:.3f}{action}"
