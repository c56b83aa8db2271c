"""Where a command finds what it reads when it is not told: annotation files and feature sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from features.annotations import (
    TEST_CSV,
    Annotations,
    Segments,
    SplitFiles,
    find_splits,
    read_annotations,
    read_segments,
)
from features.errors import DataError, OptionError, first_few
from features.featureset import FILE_NAME, read_featureset
from features.predictions import Predictions, write_predictions
from features.store import video_ids
from heads.checkpoint import BEST, load_model, need_same_streams
from heads.config import Look, TrainConfig
from heads.predicting import predict, predict_best
from heads.runs import PREDICTIONS, TTA_PREDICTIONS, predictions_of, read_config
from heads.sources import Source, lay_out, open_sources
from heads.splits import choose_split, scored_csv
from heads.streams import Split, free_bytes
from heads.submission import SupervisionLevels
from heads.trainee import TrainData
from heads.tta import predict_tta, with_all_views

# Of pretraining, where nobody says: public images and videos.
_USUAL_LEVEL = 2


def annotations_for(sources: Sequence[Path], given: Path | None) -> Annotations:
    """Give the annotations to score against.

    Args:
        sources: run folders and predictions files; a run knows the files it was trained with.
        given: a validation CSV or a folder of annotation files, instead of those.

    Raises:
        DataError: neither is given nor known, or a file is wrong.
    """
    absent = [str(source) for source in sources if not source.exists()]
    if absent:
        raise DataError(f"{first_few(absent)}: no such run or file.")
    if given is not None and not given.is_dir():
        files = find_splits(given.parent, validation=given)
        return read_annotations(given.parent, replace(files, test=None))
    if given is not None:
        return read_annotations(given)
    for source in sources:
        files, split = files_of(source)
        validation = scored_csv(split, files)
        if validation is not None:
            if not validation.is_file():
                raise DataError(f"{source}: trained with {validation}, which is not there; give --annotations.")
            train = files.train if files.train and files.train.is_file() else None
            return read_annotations(validation.parent, SplitFiles(train, validation, None))
    raise DataError(f"{sources[0]}: does not say what to score it against; give --annotations.")


def known_annotations(sources: Sequence[Path], given: Path | None) -> Annotations | None:
    """Give the annotations to score against, or None where neither is given nor known.

    Raises:
        DataError: a file is wrong, or one that a run names is no longer there.
    """
    if given is None and not any(scored_csv(*reversed(files_of(source))) for source in sources if source.is_dir()):
        return None
    return annotations_for(sources, given)


def files_of(run: Path) -> tuple[SplitFiles, str]:
    """Give the annotation files that a run was trained with, and its way to split; none of a file of predictions."""
    config = read_config(run)
    files = {split: config.get(f"{split}_csv") for split in ("train", "validation", "test")}
    paths = {split: Path(path) if path else None for split, path in files.items()}
    return SplitFiles(**paths), config.get("split", "official")


def find_featuresets(paths: Sequence[Path]) -> list[Path]:
    """Give the feature sets at `paths`; for a folder of sets, the only one in it.

    Raises:
        OptionError: there are several in one.
        DataError: there is none.
    """
    return [_find_featureset(Path(path)) for path in paths]


def _find_featureset(path: Path) -> Path:
    if (path / FILE_NAME).is_file():
        return path
    found = sorted(inner.parent for inner in path.glob(f"*/{FILE_NAME}"))
    if not found:
        raise DataError(f"{path}: no feature set in it; extract one first (make extract BACKBONE=...).")
    if len(found) > 1:
        names = first_few(folder.name for folder in found)
        raise OptionError(f"--features: {path} holds several feature sets ({names}); name those to train on.")
    return found[0]


def load_split(
    sources: Sequence[Source],
    segments: Segments,
    look: Look,
    *,
    allow_missing: bool,
    device: torch.device,
    memory_bytes: float | None = None,
    rooms: list[np.ndarray] | None = None,
) -> Split:
    """Load the features of segments from all feature sets.

    Args:
        allow_missing: go on with the segments that have features in all of them, where some have not.
        memory_bytes: what they may take, by default half of the machine's memory.
        rooms: as for `Split`.

    Raises:
        DataError: as for `lay_out` and `Split`.
    """
    layout = lay_out(tuple(sources), segments, look, allow_missing=allow_missing)
    memory_bytes = free_bytes(torch.device("cpu")) if memory_bytes is None else memory_bytes
    return Split(layout, device, memory_bytes=memory_bytes, rooms=rooms)


def load_train_data(
    roots: Sequence[Path],
    files: SplitFiles,
    config: TrainConfig,
    *,
    allow_missing: bool,
    device: torch.device,
    memory_bytes: float | None = None,
) -> TrainData:
    """Load the features of all splits that there are.

    Of the test list, what has features is taken: it may not have been extracted yet, and training does not need it.

    Args:
        roots: feature sets.
        memory_bytes: of each split, as for `load_split`.

    Raises:
        OptionError: the configuration does not fit the feature sets.
        DataError: there is no training list, or features are missing or damaged.
    """
    sources = open_sources(roots, config.look)
    _need_dense(sources, config)
    chosen = choose_split(config.split, files)

    rooms: list[np.ndarray] = []

    def load(segments: Segments | None, *, allow_missing: bool = allow_missing) -> Split | None:
        if segments is None:
            return None
        how = {"allow_missing": allow_missing, "device": device, "memory_bytes": memory_bytes, "rooms": rooms}
        return load_split(sources, segments, config.look, **how)

    test = files.test and read_segments(files.test)
    has_test = test is not None and all(set(video_ids(root)) & set(test.table.video_id) for root in roots)
    origin = {f"{split}_csv": str(path.resolve()) if path else None for split, path in asdict(files).items()}
    return TrainData(
        sources=sources,
        train=load(chosen.train),
        validation=load(chosen.validation),
        test=load(test, allow_missing=True) if has_test else None,
        origin={"features": [str(root.resolve()) for root in roots], **origin},
    )


def _need_dense(sources: Sequence[Source], config: TrainConfig) -> None:
    """Check that there is time to change: where sets are fused early, that of the first one is every set's."""
    clocks = sources[:1] if config.look.fusion == "early" else sources
    for option in ("jitter", "speed"):
        if getattr(config.augmentation, option) and not any(source.is_dense for source in clocks):
            first = " as the first one" if len(sources) > 1 and clocks != sources else ""
            raise OptionError(f"--{option}: needs a dense feature set{first} (extract run --every 0.2).")


def predict_run(
    run: Path,
    splits: Sequence[str],
    *,
    roots: Sequence[Path] = (),
    csv: Path | None = None,
    out: Path | None = None,
    tta: bool = False,
    allow_missing: bool = False,
    device: torch.device,
) -> list[Path]:
    """Write what a run's best model predicts for splits of its own, or for any list; give the files.

    Args:
        splits: of train, validation and test; each goes into the run's folder, and is kept where it is there already.
            By default all that it has.
        roots: the feature sets it was trained on, where they have moved since.
        csv, out: another list of segments, and the file for its predictions.
        tta: average over all views of the feature sets, and over windows that are moved (heads/tta.py), into files of
            its own; by default not for training.

    Raises:
        DataError: the run has no trained head or not this split, or its features are missing or other ones.
    """
    model, recipe = load_model(run / BEST, device=device)
    sources = open_sources(list(roots) or [Path(path) for path in read_config(run).get("features", ())], recipe.look)
    need_same_streams(run / BEST, recipe, sources)
    how, names = predict, PREDICTIONS
    if tta:
        sources, how, names = with_all_views(sources), predict_tta, TTA_PREDICTIONS

    def load(segments: Segments) -> Split:
        return load_split(sources, segments, recipe.look, allow_missing=allow_missing, device=device)

    if csv is not None:
        write_predictions(out, how(model, load(read_segments(csv)), source=str(run), device=device))
        return [out]
    files, way = files_of(run)
    chosen = choose_split(way, files)
    lists = {"train": chosen.train, "validation": chosen.validation, "test": files.test and read_segments(files.test)}
    absent = [split for split in splits if lists[split] is None]
    if absent:
        raise DataError(
            f"{run}: was trained without a {absent[0]} list; name one by --annotations, and a file by --out."
        )
    splits = splits or [split for split in lists if lists[split] is not None and not (tta and split == "train")]
    predict_best(run, {split: load(lists[split]) for split in splits}, device=device, how=how, names=names)
    return [run / names[split] for split in splits]


def predictions_to_submit(run: Path, given: Path | None) -> tuple[Predictions, Segments]:
    """Give the predictions for a list of segments, and that list.

    Args:
        run: a run folder or a predictions file; of a run, whichever of its predictions are for that list.
        given: CSV of the list, or the folder of the published one; by default the test list the run was trained with.

    Raises:
        DataError: the list is neither given nor known, or the run has no predictions for it.
    """
    if not run.exists():
        raise DataError(f"{run}: no such run or file.")
    config = read_config(run)
    path = given or (Path(config["test_csv"]) if config.get("test_csv") else None)
    if path is not None and path.is_dir():
        path = find_splits(path).test
    if path is None:
        raise DataError(f"{run}: does not say which segments to submit; give --annotations (such as {TEST_CSV}).")
    segments = read_segments(path)
    asked = set(segments.narration_id)
    for split in PREDICTIONS:
        if (run / PREDICTIONS[split]).is_file():
            predictions = predictions_of(run, split)
            if asked & set(predictions.narration_id):
                return predictions, segments
    return predictions_of(run, "test"), segments


def training_list(run: Path, given: Path | None) -> Segments:
    """Give the list that a run was trained on; of a predictions file, the one beside the list that was given.

    Raises:
        DataError: there is none, or the file is gone.
    """
    files, way = files_of(run)
    if files.train is None and given is not None:
        files, way = find_splits(given if given.is_dir() else given.parent), "official"
    return choose_split(way, files).train


def levels_of(
    run: Path, *, pretraining: int | None, training_labels: int, training_data: int | None
) -> SupervisionLevels:
    """Give a run's levels of supervision; those that are not given are told from its record.

    The pretraining is that of its feature sets' backbones, the highest of them; 2 (public images and videos) where a
    feature set does not say or is gone. Training data are 4 where validation was trained on, else 3.
    """
    config = read_config(run)
    if pretraining is None:
        levels = [_supervision_of(Path(root)) for root in config.get("features", ())]
        pretraining = max(levels, default=_USUAL_LEVEL)
    if training_data is None:
        training_data = 4 if config.get("split") == "all" else 3
    return SupervisionLevels(pretraining, training_labels, training_data)


def _supervision_of(root: Path) -> int:
    known = read_featureset(root).supervision if (root / FILE_NAME).is_file() else None
    return _USUAL_LEVEL if known is None else known
