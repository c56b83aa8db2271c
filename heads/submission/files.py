"""The files for the servers, checked against the list of segments before anything is written.

    submission.pt             [{narration_id, verb_output (97,), noun_output (300,)}, ...]
    ensemble_submission.zip   that file alone
    epic_submission.zip       test.json in the format of the public challenge (epic-kitchens/C1-Action-Recognition)

All scores are row-wise log-probabilities. The public scoring code computes one softmax over the whole float32 array:
raw logits with a large offset between segments lose the order of their actions to underflow, log-probabilities do not.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.annotations import Segments
from features.errors import DataError, OptionError, first_few
from features.files import write_text, written_whole
from features.predictions import Predictions, write_predictions
from heads.losses.class_counts import class_counts, log_prior
from heads.scoring.metrics import log_softmax

CHALLENGE_VERSION = "0.2"


@dataclass(frozen=True)
class SupervisionLevels:
    """The levels of supervision that the challenge asks for (epic-kitchens/SLS), each from 0 to 5.

    Attributes:
        pretraining: 0 none, 1 public images, 2 public images and videos, 3 self-supervised on public data, 4 the same
            and EPIC's videos, 5 private data.
        training_labels: 3 is start and stop times; 4 adds spatial annotations, 5 categories or outside priors.
        training_data: 3 the training set, 4 training and validation, 5 more than these.
    """

    pretraining: int = 2
    training_labels: int = 3
    training_data: int = 3

    def __post_init__(self) -> None:
        for option, value in (
            ("--sls-pt", self.pretraining),
            ("--sls-tl", self.training_labels),
            ("--sls-td", self.training_data),
        ):
            if not 0 <= value <= 5:
                raise OptionError(option, f"{value} is not a level from 0 to 5.")


@dataclass(frozen=True)
class Submission:
    """The files that were written for the servers.

    Attributes:
        paths: submission.pt, ensemble_submission.zip and epic_submission.zip.
        num_segments: how many segments they hold.
        segments: name of the list of segments that the server scores.
        note: a sentence about segments without a prediction; empty where there are none.
        run: the run, ensemble or predictions file that was submitted, where it is known.
    """

    paths: tuple[Path, ...]
    num_segments: int
    segments: str
    note: str
    run: Path | None = None


def write_submission(
    predictions: Predictions,
    segments: Segments,
    out: Path,
    *,
    levels: SupervisionLevels,
    expect: int | None = None,
    missing: str = "error",
    train: Segments | None = None,
    force: bool,
) -> Submission:
    """Write the three files into `out`.

    Args:
        segments: the list that the server scores; exactly these segments must be predicted.
        expect: the number of segments that there have to be, where it is known.
        missing: for segments without a prediction, "error", "omit" them, or predict the class frequencies of the
            training list `train` ("prior"). note.txt beside the files says which segments that were.
        force: replace files that are there.

    Raises:
        DataError: segments are missing or too many, scores are all the same, or a file is there already.
    """
    final, note = _for_list(predictions, segments, missing=missing, train=train)
    need_sound(final, expect=expect)
    paths = [out / name for name in ("submission.pt", "ensemble_submission.zip", "epic_submission.zip")]
    existing = [path.name for path in paths if path.exists()]
    if existing and not force:
        raise DataError(f"{out}: {', '.join(existing)} there already; --force replaces, --out writes elsewhere.")
    list_file, list_zip, json_zip = paths
    write_predictions(list_file, final)
    _write_zip(list_zip, list_file.name, [list_file.read_bytes()])
    _write_zip(json_zip, "test.json", challenge_json(final, levels))
    if note:
        write_text(out / "note.txt", note + "\n")
    else:
        (out / "note.txt").unlink(missing_ok=True)
    return Submission(tuple(paths), len(final), segments.source, note)


def _for_list(
    predictions: Predictions, segments: Segments, *, missing: str, train: Segments | None
) -> tuple[Predictions, str]:
    """Return log-probabilities for a list of segments, and a note about segments without a prediction."""
    if missing == "error":
        need_exactly(predictions, segments)
    given, source = set(predictions.narration_id), predictions.source
    strangers = sorted(given - set(segments.narration_id))
    if strangers:
        raise DataError(f"{source}: {len(strangers)} predictions are not in {segments.source}: {first_few(strangers)}.")
    names = [name for name in segments.narration_id if name in given]
    lacking = [name for name in segments.narration_id if name not in given]
    final = as_log_probabilities(predictions.aligned(names))
    if not lacking:
        return final, ""
    count = f"{len(lacking)} of {len(segments)} segments of {segments.source} have no prediction"
    if missing == "omit":
        return final, f"{count} and are left out: {', '.join(lacking)}."
    if train is None:
        raise DataError(f"{source}: --missing prior needs a training list; give --annotations.")
    verb, noun = (log_prior(class_counts(train, task)) for task in ("verb", "noun"))
    filled = Predictions(
        (*names, *lacking),
        np.concatenate([final.verb, np.tile(verb, (len(lacking), 1))]),
        np.concatenate([final.noun, np.tile(noun, (len(lacking), 1))]),
        source,
    )
    note = f"{count} and are answered by the frequencies of {train.source}: {', '.join(lacking)}."
    return filled.aligned(segments.narration_id), note


def need_sound(predictions: Predictions, *, expect: int | None) -> None:
    """Check predictions without a list of segments.

    Raises:
        DataError: the number of segments is not the expected one, or all segments or all classes have the same scores.
    """
    if expect is not None and len(predictions) != expect:
        raise DataError(f"{predictions.source}: {len(predictions)} segments, and {expect} are expected.")
    for task in ("verb", "noun"):
        scores = getattr(predictions, task)
        if (len(scores) > 1 and (scores == scores[0]).all()) or (scores == scores[:, :1]).all():
            raise DataError(f"{predictions.source}: {task} scores are the same throughout; nothing was predicted.")


def as_log_probabilities(predictions: Predictions) -> Predictions:
    """Return predictions with each row normalised to log-probabilities."""
    verb, noun = (log_softmax(logits).astype(np.float32) for logits in (predictions.verb, predictions.noun))
    return Predictions(predictions.narration_id, verb, noun, predictions.source)


def challenge_json(predictions: Predictions, levels: SupervisionLevels) -> Iterator[bytes]:
    """Yield test.json in pieces; nine digits are enough to read a float32 back exactly."""
    head = {
        "version": CHALLENGE_VERSION,
        "challenge": "action_recognition",
        "sls_pt": levels.pretraining,
        "sls_tl": levels.training_labels,
        "sls_td": levels.training_data,
    }
    yield (json.dumps(head)[:-1] + ', "results": {').encode()
    verb_row, noun_row = (_row_template(logits.shape[1]) for logits in (predictions.verb, predictions.noun))
    rows = zip(predictions.narration_id, predictions.verb.tolist(), predictions.noun.tolist(), strict=True)
    for index, (name, verb, noun) in enumerate(rows):
        comma = ", " if index else ""
        yield (
            f'{comma}{json.dumps(name)}: {{"verb": {verb_row % tuple(verb)}, "noun": {noun_row % tuple(noun)}}}'
        ).encode()
    yield b"}}"


def _row_template(width: int) -> str:
    return "{" + ", ".join(f'"{index}": %.9g' for index in range(width)) + "}"


def _write_zip(path: Path, name: str, pieces: Iterator[bytes] | list[bytes]) -> None:
    # 13,092 segments take 4.4 s of CPU time at level 1, and 44 MB; 10.7 s at the usual one, and 38 MB. A member
    # that is added by its name is dated 1980, so that a zip of the same scores is the same file.
    with (
        written_whole(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w", force_zip64=True) as file,
    ):
        for piece in pieces:
            file.write(piece)


def need_exactly(predictions: Predictions, segments: Segments) -> None:
    """Check that predictions are for exactly these segments.

    Raises:
        DataError: segments are not predicted, or others are.
    """
    listed, given = set(segments.narration_id), set(predictions.narration_id)
    problems = {"not predicted": sorted(listed - given), "not in the list": sorted(given - listed)}
    if any(problems.values()):
        counts = "; ".join(f"{len(names)} {kind}: {first_few(names)}" for kind, names in problems.items() if names)
        raise DataError(
            f"{predictions.source}: does not cover the {len(listed)} segments of {segments.source} exactly ({counts})."
        )
