"""The miniature is what it says: files like the published ones, and verbs that need the order."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from av.video.frame import PictureType
from av.video.reformatter import Interpolation
from miniature import NOUNS, TAIL_NOUNS, TAIL_VERBS, VERBS, Miniature, motion, write_miniature

TEST_COLUMNS = ["narration_id", "participant_id", "video_id", "narration_timestamp"]
TEST_COLUMNS += ["start_timestamp", "stop_timestamp", "start_frame", "stop_frame"]
LABEL_COLUMNS = ["narration", "verb", "verb_class", "noun", "noun_class", "all_nouns", "all_noun_classes"]
# As the header lines of epic-kitchens/epic-kitchens-100-annotations.
COLUMNS = {
    "train": TEST_COLUMNS + LABEL_COLUMNS,
    "validation": TEST_COLUMNS + LABEL_COLUMNS,
    "test_timestamps": TEST_COLUMNS,
    "verb_classes": ["id", "key", "instances", "category"],
    "noun_classes": ["id", "key", "instances", "category"],
    "tail_verbs": ["verb"],
    "tail_nouns": ["noun"],
    "unseen_participant_ids_validation": ["participant_id"],
    "unseen_participant_ids_test": ["participant_id"],
    "video_info": ["video_id", "duration", "fps", "resolution"],
}
SPLITS = ["train", "validation", "test_timestamps"]


def read(miniature: Miniature, name: str) -> pd.DataFrame:
    return pd.read_csv(miniature.annotations / f"EPIC_100_{name}.csv")


def all_segments(miniature: Miniature) -> pd.DataFrame:
    return pd.concat([read(miniature, split) for split in SPLITS], ignore_index=True)


def seconds(timestamps: pd.Series) -> np.ndarray:
    return pd.to_timedelta(timestamps).dt.total_seconds().to_numpy()


def video_path(miniature: Miniature, video_id: str) -> Path:
    return miniature.videos / video_id.split("_", maxsplit=1)[0] / f"{video_id}.mp4"


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_files_are_the_published_ones(miniature: Miniature) -> None:
    names = {path.name for path in miniature.annotations.iterdir()}
    assert names == {f"EPIC_100_{name}.csv" for name in COLUMNS}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_are_the_published_ones(miniature: Miniature, name: str) -> None:
    assert list(read(miniature, name)) == COLUMNS[name]


def test_timestamps_have_the_published_form(miniature: Miniature) -> None:
    segments = all_segments(miniature)
    decimals_of = {"narration_timestamp": 3, "start_timestamp": 2, "stop_timestamp": 2}
    for column, decimals in decimals_of.items():
        form = rf"\d\d:[0-5]\d:[0-5]\d\.\d{{{decimals}}}"
        assert segments[column].str.fullmatch(form).all(), column


@pytest.mark.parametrize("split", SPLITS)
def test_rows_are_in_the_order_of_their_ids_as_text(miniature: Miniature, split: str) -> None:
    ids = read(miniature, split).narration_id
    assert ids.is_unique
    assert ids.is_monotonic_increasing


def test_frame_columns_count_60_or_50_a_second_and_start_at_1(miniature: Miniature) -> None:
    segments = all_segments(miniature)
    rates = segments.video_id.str.fullmatch(r"P\d\d_1\d\d").map({True: 50, False: 60})
    for edge in ("start", "stop"):
        frames = np.trunc(seconds(segments[f"{edge}_timestamp"]) * rates)
        assert (segments[f"{edge}_frame"] == np.maximum(1, frames)).all()


def test_segments_lie_inside_their_videos_and_last_as_long_as_said(miniature: Miniature) -> None:
    segments = all_segments(miniature)
    durations = segments.video_id.map(read(miniature, "video_info").set_index("video_id").duration)
    start_s, stop_s = seconds(segments.start_timestamp), seconds(segments.stop_timestamp)
    assert (start_s >= 0).all()
    assert (stop_s <= durations).all()
    lengths = (stop_s - start_s).round(2)
    assert lengths.min() >= 0.3
    assert lengths.max() <= 8


def test_some_segments_overlap_and_never_three(miniature: Miniature) -> None:
    overlaps = []
    for _, rows in all_segments(miniature).groupby("video_id"):
        start_s, stop_s = seconds(rows.start_timestamp), seconds(rows.stop_timestamp)
        overlaps.append(max(((start_s <= start) & (start < stop_s)).sum() for start in start_s))
    assert max(overlaps) == 2


def test_splits_share_no_video_and_have_the_published_kinds(miniature: Miniature) -> None:
    videos = {split: set(read(miniature, split).video_id) for split in SPLITS}
    extension = {split: {len(v) == len("P01_101") for v in ids} for split, ids in videos.items()}
    assert len(set.union(*videos.values())) == sum(map(len, videos.values()))
    assert extension == {
        "train": {True, False},
        "validation": {False},
        "test_timestamps": {True},
    }


@pytest.mark.parametrize(
    ("split", "list_name"),
    [
        ("validation", "unseen_participant_ids_validation"),
        ("test_timestamps", "unseen_participant_ids_test"),
    ],
)
def test_unseen_participants_are_those_that_train_has_not(miniature: Miniature, split: str, list_name: str) -> None:
    participants = set(read(miniature, split).participant_id) - set(read(miniature, "train").participant_id)
    assert set(read(miniature, list_name).participant_id) == participants != set()


def test_every_class_occurs_in_train_and_the_tail_is_rare(miniature: Miniature) -> None:
    train = read(miniature, "train")
    for kind, classes, tail in (("verb", VERBS, TAIL_VERBS), ("noun", NOUNS, TAIL_NOUNS)):
        assert set(train[f"{kind}_class"]) == set(range(len(classes)))
        assert set(read(miniature, f"{kind}_classes").id) == set(range(len(classes)))
        assert set(read(miniature, f"tail_{kind}s")[kind]) == set(tail)
        assert train[f"{kind}_class"].isin(tail).mean() < 0.5


def test_labels_agree_with_the_class_lists(miniature: Miniature) -> None:
    train = read(miniature, "train")
    verbs, nouns = (read(miniature, f"{kind}_classes").key for kind in ("verb", "noun"))
    assert (train.verb == train.verb_class.map(verbs)).all()
    assert (train.noun == train.noun_class.map(nouns)).all()
    for row in train.itertuples():
        noun_classes = ast.literal_eval(row.all_noun_classes)
        assert noun_classes[0] == row.noun_class
        assert ast.literal_eval(row.all_nouns) == [nouns[noun] for noun in noun_classes]
    assert train.all_nouns.str.contains(",").any()  # so that some cells are quoted


def test_videos_are_those_of_the_annotations(miniature: Miniature) -> None:
    paths = {str(path.relative_to(miniature.videos)) for path in miniature.videos.rglob("*.*")}
    video_ids = set(all_segments(miniature).video_id)
    assert set(read(miniature, "video_info").video_id) == video_ids
    assert paths == {f"{video_id[:3]}/{video_id}.mp4" for video_id in video_ids}


def test_videos_have_the_codecs_rates_and_frames_stated(miniature: Miniature) -> None:
    for video in read(miniature, "video_info").itertuples():
        with av.open(video_path(miniature, video.video_id)) as container:
            stream = container.streams.video[0]
            frames = list(container.decode(stream))
            codec, fps = stream.codec_context.name, float(stream.average_rate)
        shown_s = np.array([frame.time for frame in frames])
        key_s = shown_s[[frame.key_frame for frame in frames]]

        assert codec == ("hevc" if len(video.video_id) == len("P01_101") else "h264")
        assert fps == pytest.approx(video.fps)
        assert f"{frames[0].width}x{frames[0].height}" == video.resolution
        assert len(frames) / video.fps == pytest.approx(video.duration)
        np.testing.assert_allclose(shown_s, np.arange(len(frames)) / video.fps, atol=1e-4)
        assert PictureType.B in {frame.pict_type for frame in frames}
        assert len(key_s) > 2
        assert np.diff(key_s).max() < 2


def test_objects_appear_on_the_first_frame_of_their_segments(miniature: Miniature) -> None:
    """In the picture, not in the plan: of nine frames around it, that one changes a place most."""
    hits = []
    for video_id, rows in all_segments(miniature).groupby("video_id"):
        with av.open(video_path(miniature, video_id)) as container:
            frames = [(frame.time, patch_means(frame)) for frame in container.decode(video=0)]
        shown_s, patches = (np.array(column) for column in zip(*frames, strict=True))
        change = np.abs(np.diff(patches, axis=0, prepend=patches[:1])).max(axis=(1, 2, 3))
        for first in np.searchsorted(shown_s, seconds(rows.start_timestamp) - 1e-4):
            hits.append(np.argmax(change[first - 4 : first + 5]) == 4)
    assert np.mean(hits) > 0.6  # the others come in dimly, in the colour of the worktop


def patch_means(frame: av.VideoFrame) -> np.ndarray:
    """Average (9, 16, 3) patches of 8 x 8 pixels, which the head's sway hardly changes."""
    picture = frame.to_ndarray(format="rgb24", width=16, height=9, interpolation=Interpolation.AREA)
    return picture.astype(np.float32)


def test_another_seed_makes_another_miniature(miniature: Miniature, tmp_path: Path) -> None:
    first = contents(miniature.annotations.parent)
    write_miniature(tmp_path, size="test", seed=1)
    other = contents(tmp_path)
    assert other.keys() == first.keys()
    assert all(other[name] != first[name] for name in first if name.endswith(("train.csv", ".mp4")))


def test_a_second_call_touches_nothing(miniature: Miniature, capsys: pytest.CaptureFixture[str]) -> None:
    root = miniature.annotations.parent
    mtimes_before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert write_miniature(root, size="test") == miniature
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == mtimes_before
    assert "is there already" in capsys.readouterr().err


def test_an_unfinished_miniature_is_made_anew_and_the_same_seed_makes_the_same_bytes(
    miniature: Miniature, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "miniature.json").write_text("")
    (tmp_path / "videos" / "P01").mkdir(parents=True)
    (tmp_path / "videos" / "P01" / "P01_99.mp4").write_bytes(b"cut off")
    (tmp_path / ".unfinished").mkdir()
    write_miniature(tmp_path, size="test", seed=0)
    assert contents(tmp_path) == contents(miniature.annotations.parent)
    shown = capsys.readouterr().err
    assert shown.startswith("draw the miniature: 0/7 videos\n"), "a word at once, and one every half a minute"
    assert "draw the miniature: 7/7 videos, " in shown


def test_a_real_dataset_is_never_deleted(tmp_path: Path) -> None:
    video = tmp_path / "videos" / "P01" / "P01_01.mp4"
    video.parent.mkdir(parents=True)
    video.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="no miniature"):
        write_miniature(tmp_path, size="test")
    assert video.read_bytes() == b"mine"


def test_an_unknown_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no size 'huge'"):
        write_miniature(tmp_path, size="huge")


def test_every_verb_is_equally_long_at_every_place() -> None:
    progress = (np.arange(720) + 0.5) / 720
    for verb in VERBS:
        angles = motion(verb.turns, progress) % (2 * math.pi)
        counts, _ = np.histogram(angles, bins=12, range=(0, 2 * math.pi))
        assert counts.tolist() == [60] * 12, verb.key


def test_every_verb_moves_in_an_order_of_its_own() -> None:
    """Seen on 16 frames, from any start: the steps between frames differ from verb to verb."""
    angles = [motion(verb.turns, (np.arange(16) + 0.5) / 16) for verb in VERBS]
    steps = [np.angle(np.exp(1j * np.diff(angle))) for angle in angles]
    for first in range(len(VERBS)):
        for second in range(first):
            difference = np.abs(steps[first] - steps[second]).max()
            assert difference > 0.3, (VERBS[first].key, VERBS[second].key)
