"""A run or an ensemble, opened to predict windows of a new video: its models, and the feature sets that they read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from features.annotations import NUM_CLASSES, SplitFiles, read_segments
from features.errors import DataError
from features.featureset import FILE_NAME, FeatureSet, read_featureset
from features.intervals import SegmentTimes
from features.predictions import Predictions
from features.windows import Windows, windows_by_segment, windows_by_time
from heads.data.chunks import Chunk, stream_of
from heads.data.layout import Source, VideoLayout, open_sources, with_first_view
from heads.ensembles.blend import Weights, blend, uniform
from heads.ensembles.posthoc import Correction, Prior, prior_of
from heads.models.model import Model
from heads.models.saved import BEST, load_model, need_same_streams
from heads.predict.predicting import logits_of_chunks
from heads.runs import RunRecord, need_existing, read_record
from heads.scoring.folds import join_folds
from live.features import WindowFeatures
from live.windows import middles

NO_CORRECTION = Correction()
# Feature set, by its digest -> the features of windows in it.
FeaturesBySet = Mapping[str, WindowFeatures]


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """One trained head, and the feature sets that it reads, each with one view."""

    path: Path
    model: Model
    sources: tuple[Source, ...]

    def predict(self, features: FeaturesBySet, windows: SegmentTimes, device: torch.device) -> Predictions:
        """Return the predictions for windows that have features in every set."""
        chunk = self._chunk(features, windows)
        order = torch.arange(len(chunk))
        logits = logits_of_chunks(self.model, [(chunk, order)], len(chunk), device=device)
        pairs = np.array(self.model.pairs, dtype=np.int64) if self.model.pairs else None
        return Predictions(
            windows.narration_id, logits["verb"], logits["noun"], str(self.path), logits.get("action"), pairs
        )

    def _chunk(self, features: FeaturesBySet, windows: SegmentTimes) -> Chunk:
        """Return the windows as a chunk of a split: what `heads predict` reads of segments from files."""
        read = [features[source.featureset.digest] for source in self.sources]
        steps = [self._windows(source, of_set, windows) for source, of_set in zip(self.sources, read, strict=True)]
        layout = VideoLayout(
            "video",
            np.arange(len(windows.narration_id)),
            tuple(of_set.seconds[window.rows] for of_set, window in zip(read, steps, strict=True)),
            tuple(steps),
            tuple(source.views for source in self.sources),
            (None,) * len(self.sources),  # a set with regions is refused
        )
        streams = []
        for number, (source, of_set) in enumerate(zip(self.sources, read, strict=True)):
            view = of_set.views.index(source.views[0])
            values = torch.from_numpy(of_set.features[steps[number].rows, view])[:, None]
            streams.append(stream_of([layout], number, values, source))
        middle_s = torch.from_numpy(middles(windows).astype(np.float32))
        intervals = torch.from_numpy(np.stack([windows.start_s, windows.stop_s], axis=1).astype(np.float64))
        return Chunk(torch.arange(len(middle_s)), middle_s, tuple(streams), intervals)

    def _windows(self, source: Source, features: WindowFeatures, windows: SegmentTimes) -> Windows:
        if source.is_dense:
            return windows_by_time(features.seconds, windows, context_s=self.model.settings.context)
        return windows_by_segment(features.windows, features.offset, windows)


@dataclass(frozen=True, eq=False)
class Mean:
    """The weighted mean of members and its correction: an ensemble, or the runs of all folds of a head."""

    path: Path
    members: tuple[TrainedRun | Mean, ...]
    weights: Weights
    kind: str = "probabilities"
    correction: Correction = NO_CORRECTION
    prior: Prior | None = None

    def predict(self, features: FeaturesBySet, windows: SegmentTimes, device: torch.device) -> Predictions:
        """Return the predictions for windows that have features in every set."""
        predicted = (member.predict(features, windows, device) for member in self.members)
        mean = blend(predicted, self.weights, self.kind, source=str(self.path))
        if self.prior is None:
            return mean
        return self.correction.apply(mean, self.prior, source=str(self.path))


@dataclass(eq=False)
class WatchedRun:
    """A run or an ensemble, and what it needs.

    Attributes:
        root: what predicts.
        sets: digest of a feature set -> its folder and record.
        views: digest -> names of the views that are read.
        notes: what of an ensemble does not apply to a new video, for people.
        files: the annotation files that it was trained with.
    """

    root: TrainedRun | Mean
    sets: dict[str, tuple[Path, FeatureSet]]
    views: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
    files: SplitFiles

    @property
    def trained(self) -> list[TrainedRun]:
        """All trained heads in it."""
        return list(_trained_runs(self.root))


def _trained_runs(member: TrainedRun | Mean) -> Iterator[TrainedRun]:
    if isinstance(member, TrainedRun):
        yield member
    else:
        for inner in member.members:
            yield from _trained_runs(inner)


def open_run(path: Path, *, roots: Sequence[Path] = (), device: torch.device) -> WatchedRun:
    """Open a run, or an ensemble with all its members.

    Args:
        roots: folders of feature sets that have moved; of each, only featureset.json is read.

    Raises:
        DataError: there is no trained head; the record of a feature set is missing; or a run sees neighbouring
            segments, which a window does not have.
    """
    need_existing([path])
    reader = _Reader(roots, device)
    root = reader.opened(path)
    views = {
        digest: tuple(
            dict.fromkeys(
                source.views[0]
                for run in _trained_runs(root)
                for source in run.sources
                if source.featureset.digest == digest
            )
        )
        for digest in reader.sets
    }
    return WatchedRun(root, reader.sets, views, tuple(dict.fromkeys(reader.notes)), read_record(path).files)


@dataclass(eq=False)
class _Reader:
    roots: Sequence[Path]
    device: torch.device
    sets: dict[str, tuple[Path, FeatureSet]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def opened(self, path: Path) -> TrainedRun | Mean:
        if not path.is_dir():
            raise DataError(f"{path}: a file of predictions cannot predict a new video; name runs.")
        record = read_record(path)
        return self._ensemble(path, record) if record.is_ensemble else self._run(path, record)

    def _run(self, path: Path, record: RunRecord) -> TrainedRun:
        model, model_config = load_model(path / BEST, device=self.device)
        inputs = model_config.inputs
        if inputs.neighbours:
            raise DataError(
                f"{path}: was trained with --neighbours {inputs.neighbours}, and a window that slides over a video has "
                "no neighbouring segments; watch a run without, or one with --context (dense sets)."
            )
        known: dict[str, Path] = {}
        for root in (*map(Path, record.features), *self.roots):
            if (root / FILE_NAME).is_file():
                known.setdefault(read_featureset(root).digest, root)
        missing = [spec.digest for spec in model_config.streams if spec.digest not in known]
        if missing:
            names = ", ".join(record.features) or "a feature set"
            raise DataError(
                f"{path}: the record of a feature set that it was trained on is missing ({names}, digest "
                f"{missing[0][:8]}); name its folder with --features. Only {FILE_NAME} is read there."
            )
        roots = [known[spec.digest] for spec in model_config.streams]
        sources = with_first_view(open_sources(roots, inputs))
        need_same_streams(path / BEST, model_config, sources)
        if inputs.window is not None and not all(source.is_dense for source in sources):
            raise DataError(
                f"{path}: sees the steps of all segments around a segment, and of a set by segment these would be "
                "windows that overlap; watch a run on dense sets."
            )
        for source in sources:
            self.sets.setdefault(source.featureset.digest, (source.root, source.featureset))
        return TrainedRun(path, model, sources)

    def _ensemble(self, path: Path, record: RunRecord) -> Mean:
        given = [Path(member) for member in record.members or ()]
        need_existing(given)
        joined = join_folds(given)
        members: list[TrainedRun | Mean] = []
        for member in joined:
            opened = tuple(self.opened(part) for part in member.paths)
            members.append(opened[0] if len(opened) == 1 else Mean(member.path, opened, uniform(len(opened))))
        settings = record.ensemble or {}
        if settings.get("tta"):
            self.notes.append(f"{path}: the test-time augmentation of its members is left out.")
        correction = self._correction(path, record.values.get("correction") or {})
        return Mean(
            path,
            tuple(members),
            _weights(path, record, len(members)),
            settings.get("kind", "probabilities"),
            correction,
            None if correction == NO_CORRECTION else self._prior(path, record),
        )

    def _correction(self, path: Path, stored: Mapping[str, Any]) -> Correction:
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
        }
        correction = Correction(**values)
        if correction.sequence_power:
            self.notes.append(
                f"{path}: its correction by what precedes and follows an action (--sequence) is left out: windows "
                "overlap, and do not follow one another as segments do."
            )
        return replace(correction, sequence_power=0.0)

    def _prior(self, path: Path, record: RunRecord) -> Prior:
        if record.files.train is None:
            raise DataError(f"{path}: its corrections need the training list, which its record does not name.")
        return prior_of(read_segments(record.files.train))


def _weights(path: Path, record: RunRecord, num_members: int) -> Weights:
    stored = record.values.get("weights") or {}
    weights = {task: np.array(stored.get(task, ()), dtype=np.float64) for task in NUM_CLASSES}
    if any(len(of_task) != num_members for of_task in weights.values()):
        raise DataError(f"{path}: its record has no weight for each of its {num_members} members; make it again.")
    return weights
