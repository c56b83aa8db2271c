"""Submissions: the files for the challenge's servers, written and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from features.annotations import read_segments
from heads.api.arguments import AnyPath, optional_path, texts_of
from heads.prediction_files import parse_scores
from heads.runs import find_last_ensemble
from heads.submission.check import check_file
from heads.submission.choose import levels_of, predictions_to_submit, training_list
from heads.submission.files import Submission, write_submission


def submit(
    run: AnyPath | None = None,
    *,
    annotations: AnyPath | None = None,
    runs: AnyPath = "runs",
    out: AnyPath | None = None,
    sls_pt: int | None = None,
    sls_tl: int = 3,
    sls_td: int | None = None,
    expect: int | None = None,
    missing: Literal["error", "omit", "prior"] = "error",
    scores: str | Sequence[str] = (),
    force: bool = False,
) -> Submission:
    """Return the files for the challenge's servers, after writing them and checking them against the test list.

        submission = heads.submit("runs/ensemble", out="submissions")
        print(submission.num_segments, submission.paths)

    Args:
        run: a run, an ensemble or a predictions file; the ensemble in `runs` that was written last by default.
        annotations: CSV of the segments that the server scores; by default the test list the run was trained with.
        out: folder for the files; submission/ in the run by default.
        sls_pt, sls_tl, sls_td: levels of supervision of pretraining, training labels and training data, 0 to 5
            (epic-kitchens/SLS). By default, the first is read from the feature sets' records of their backbones, and
            the last is 3, or 4 where the run was trained on validation too.
        expect: the number of segments that there have to be.
        missing: for segments without a prediction, "error", "omit" them, or predict the class frequencies of the
            training list ("prior").
        scores: what a predictions file holds, as for `evaluate`.
        force: replace files that are there.

    Raises:
        OptionError: a level is not from 0 to 5.
        DataError: segments are missing or too many, or a file is there already.
    """
    source = find_last_ensemble(Path(runs)) if run is None else Path(run)
    given = optional_path(annotations)
    kind = parse_scores(texts_of(scores), [source]).of(source)
    predictions, segments = predictions_to_submit(source, given, kind)
    written = write_submission(
        predictions,
        segments,
        optional_path(out) or (source if source.is_dir() else source.parent) / "submission",
        levels=levels_of(source, pretraining=sls_pt, training_labels=sls_tl, training_data=sls_td),
        expect=expect,
        missing=missing,
        train=training_list(source, given) if missing == "prior" else None,
        force=force,
    )
    return replace(written, run=source)


def check_submission(path: AnyPath, *, annotations: AnyPath | None = None, expect: int | None = None) -> str:
    """Return a sentence that says what a file for the servers holds, once it has been checked.

        heads.check_submission("submissions/epic_submission.zip", annotations="EPIC_100_test_timestamps.csv")

    Args:
        path: submission.pt, or either of the zip files that `submit` writes.
        annotations: CSV of the segments that the server scores; without it, only the file itself is checked.
        expect: the number of segments that there have to be.

    Raises:
        DataError: the file is damaged, or a server would refuse it.
    """
    segments = None if annotations is None else read_segments(Path(annotations))
    return check_file(Path(path), segments, expect=expect)
