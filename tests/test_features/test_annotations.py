"""Annotation files: what the published ones hold, and that wrong ones are refused by file, row and id."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from feature_files import COLUMNS, row, write_rows

from features.annotations import (
    NUM_NOUNS,
    NUM_VERBS,
    Annotations,
    Segments,
    find_splits,
    read_all_segments,
    read_annotations,
    read_noun_keys,
    read_participants,
    read_segments,
    read_tail_nouns,
    read_tail_verbs,
    read_verb_keys,
    read_video_info,
)
from features.errors import DataError

PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "epic100"
SPLITS = ("train", "validation", "test")
FILES = {
    "train": "EPIC_100_train.csv.gz",
    "validation": "EPIC_100_validation.csv",
    "test": "EPIC_100_test_timestamps.csv",
}


@pytest.fixture(scope="module")
def annotations() -> Annotations:
    if not PUBLISHED.is_dir():
        pytest.skip("the published annotation files are not there (shared/epic100 beside the repository)")
    return read_annotations(PUBLISHED)


def split_of(annotations: Annotations, split: str) -> Segments:
    return getattr(annotations, split)


@pytest.fixture(scope="module")
def video_info(annotations: Annotations) -> pd.DataFrame:
    return read_video_info(PUBLISHED / "EPIC_100_video_info.csv")


# ---- the published files


@pytest.mark.parametrize(("split", "count"), [("train", 67217), ("validation", 9668), ("test", 13092)])
def test_published_split_is_read_whole(annotations: Annotations, split: str, count: int) -> None:
    assert len(split_of(annotations, split)) == count


@pytest.mark.parametrize(("split", "count"), [("train", 495), ("validation", 138), ("test", 67)])
def test_published_split_has_its_videos(annotations: Annotations, split: str, count: int) -> None:
    assert split_of(annotations, split).table.video_id.nunique() == count


def test_published_class_lists_number_97_verbs_and_300_nouns(annotations: Annotations) -> None:
    assert sorted(annotations.verb_keys) == list(range(NUM_VERBS)) == list(range(97))
    assert sorted(annotations.noun_keys) == list(range(NUM_NOUNS)) == list(range(300))


def test_published_class_keys_are_those_of_the_ids(annotations: Annotations) -> None:
    keys = (annotations.verb_keys[0], annotations.verb_keys[6], annotations.noun_keys[0])
    assert keys == ("take", "turn-on", "tap")


def test_published_tail_has_86_verbs_and_228_nouns(annotations: Annotations) -> None:
    assert (len(annotations.tail_verbs), len(annotations.tail_nouns)) == (86, 228)


def test_published_unseen_participants(annotations: Annotations) -> None:
    assert annotations.unseen_validation == {"P18", "P32"}
    assert annotations.unseen_test == {"P33", "P34", "P36"}


@pytest.mark.parametrize(("split", "count"), [("validation", 1065), ("test", 4110)])
def test_published_unseen_segments_are_as_many_as_the_challenge_says(
    annotations: Annotations, split: str, count: int
) -> None:
    participants = getattr(annotations, f"unseen_{split}")
    assert split_of(annotations, split).table.participant_id.isin(participants).sum() == count


@pytest.mark.parametrize("split", SPLITS)
def test_order_of_the_published_rows_is_kept(annotations: Annotations, split: str) -> None:
    rows = pd.read_csv(PUBLISHED / FILES[split], usecols=["narration_id"]).narration_id
    assert split_of(annotations, split).narration_id.tolist() == rows.tolist()


def test_published_rows_are_in_lexicographic_order_not_in_order_of_time(annotations: Annotations) -> None:
    assert annotations.train.narration_id[:4].tolist() == ["P01_01_0", "P01_01_1", "P01_01_10", "P01_01_100"]


@pytest.mark.parametrize("split", SPLITS)
def test_seconds_are_those_of_the_timestamps(annotations: Annotations, split: str) -> None:
    rows = pd.read_csv(PUBLISHED / FILES[split], usecols=["start_timestamp", "stop_timestamp"])
    for edge in ("start", "stop"):
        expected = pd.to_timedelta(rows[f"{edge}_timestamp"]).dt.total_seconds()
        np.testing.assert_allclose(split_of(annotations, split).table[f"{edge}_s"], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_labels_are_those_of_the_file(annotations: Annotations, split: str) -> None:
    rows = pd.read_csv(PUBLISHED / FILES[split], usecols=["verb_class", "noun_class"])
    segments = split_of(annotations, split)
    np.testing.assert_array_equal(segments.verb_class, rows.verb_class)
    np.testing.assert_array_equal(segments.noun_class, rows.noun_class)


@pytest.mark.parametrize("split", SPLITS)
def test_frame_columns_count_the_seconds_at_60_or_50_fps(annotations: Annotations, split: str) -> None:
    """Not a rule of ours: that it holds says that frames and seconds were read from the right cells."""
    table = split_of(annotations, split).table
    rate = np.where(table.video_id.str.fullmatch(r"P\d\d_1\d\d"), 50, 60)
    for edge in ("start", "stop"):
        frames = np.maximum(1, np.trunc(table[f"{edge}_s"] * rate))
        assert (table[f"{edge}_frame"] == frames).mean() > 0.999


@pytest.mark.parametrize(("split", "count"), [("train", 21), ("validation", 10), ("test", 4)])
def test_rows_whose_start_frame_is_clamped_to_1_are_kept(annotations: Annotations, split: str, count: int) -> None:
    assert (split_of(annotations, split).table.start_frame == 1).sum() == count


def test_rows_of_one_and_the_same_interval_are_all_kept(annotations: Annotations) -> None:
    table = annotations.train.table
    twins = table[table.duplicated(["video_id", "start_frame", "stop_frame"], keep=False)]
    assert len(twins) == 2 * 5
    assert {"P07_10_230", "P07_10_231"} <= set(twins.narration_id)


def test_the_one_segment_that_ends_after_its_video_is_kept(annotations: Annotations, video_info: pd.DataFrame) -> None:
    tables = pd.concat([split_of(annotations, split).table for split in SPLITS])
    over_s = (tables.stop_s - tables.video_id.map(video_info.duration_s)).set_axis(tables.narration_id)
    assert over_s[over_s > 0].round(3).to_dict() == {"P29_05_563": 0.013}


def test_validation_has_nouns_that_train_never_shows(annotations: Annotations) -> None:
    nouns = set(annotations.validation.noun_class) - set(annotations.train.noun_class)
    assert nouns == {205, 240, 288, 295}


def test_every_verb_is_in_train(annotations: Annotations) -> None:
    assert set(annotations.train.verb_class) == set(range(97))


def test_test_split_is_not_labelled(annotations: Annotations) -> None:
    assert (annotations.train.is_labelled, annotations.validation.is_labelled, annotations.test.is_labelled) == (
        True,
        True,
        False,
    )


@pytest.mark.parametrize("column", ["verb_class", "noun_class"])
def test_labels_of_the_test_split_are_refused_not_invented(annotations: Annotations, column: str) -> None:
    with pytest.raises(DataError, match=rf"EPIC_100_test_timestamps\.csv: segments have no {column}"):
        getattr(annotations.test, column)


def test_splits_share_neither_video_nor_segment_and_are_the_700_videos(
    annotations: Annotations, video_info: pd.DataFrame
) -> None:
    table = read_all_segments([PUBLISHED]).table
    assert len(table) == 67217 + 9668 + 13092
    assert len(video_info) == 700
    assert set(table.video_id) == set(video_info.index)


def test_video_info_has_the_native_frame_rates(video_info: pd.DataFrame) -> None:
    rates = video_info.fps.round(2).value_counts().to_dict()
    assert rates == {59.94: 423, 50.0: 268, 29.97: 4, 47.95: 4, 90.0: 1}


def test_noun_list_of_the_second_version_is_refused(annotations: Annotations) -> None:
    with pytest.raises(DataError, match=r"EPIC_100_noun_classes_v2\.csv, row \d+: id is '300', not a class id"):
        read_noun_keys(PUBLISHED / "EPIC_100_noun_classes_v2.csv")


# ---- files of our own, well made


def test_compressed_file_reads_like_the_plain_one(tmp_path: Path) -> None:
    plain_path = write_rows(tmp_path / "EPIC_100_train.csv", [row(0), row(1)])
    compressed_path = tmp_path / "EPIC_100_train.csv.gz"
    compressed_path.write_bytes(gzip.compress(plain_path.read_bytes()))
    pd.testing.assert_frame_equal(read_segments(compressed_path).table, read_segments(plain_path).table)


def test_compressed_file_is_found_in_a_folder(tmp_path: Path) -> None:
    plain_path = write_rows(tmp_path / "EPIC_100_train.csv", [row(0), row(1)])
    plain_path.with_name("EPIC_100_train.csv.gz").write_bytes(gzip.compress(plain_path.read_bytes()))
    plain_path.unlink()
    assert len(read_annotations(tmp_path).train) == 2


def test_train_file_alone_is_enough(tmp_path: Path) -> None:
    write_rows(tmp_path / "EPIC_100_train.csv", [row(0)])
    annotations = read_annotations(tmp_path)
    assert annotations == Annotations(train=annotations.train)
    assert len(annotations.train) == 1


def test_file_given_by_name_stands_for_its_split(tmp_path: Path) -> None:
    write_rows(tmp_path / "EPIC_100_train.csv", [row(0)])
    path = write_rows(tmp_path / "mine.csv", [row(0), row(1)])
    files = find_splits(tmp_path, train=path)
    assert len(read_annotations(tmp_path, files).train) == 2


def test_required_columns_are_enough(tmp_path: Path) -> None:
    columns = [column for column in COLUMNS if not column.endswith("frame") and column != "narration_timestamp"]
    segments = read_segments(write_rows(tmp_path / "own.csv", [row(3)], columns=columns))
    assert segments.table.loc[0, ["start_s", "stop_s"]].tolist() == [6.0, 7.0]


def test_seconds_come_from_the_timestamps_whatever_the_frames_say(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "own.csv", [row(3, start_frame="999999", stop_frame="1")])
    assert read_segments(path).table.loc[0, ["start_s", "stop_s"]].tolist() == [6.0, 7.0]


def test_narrations_are_kept_as_they_are(tmp_path: Path) -> None:
    rows = [row(0, narration="take the tap, NaN"), row(1, narration="")]
    assert read_segments(write_rows(tmp_path / "own.csv", rows)).table.narration.tolist() == ["take the tap, NaN", ""]
    columns = [name for name in COLUMNS if name != "narration"]
    assert read_segments(write_rows(tmp_path / "own.csv", rows, columns=columns)).table.narration.tolist() == ["", ""]


def test_byte_order_mark_of_a_spreadsheet_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "own.csv", [row(0)])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_segments(path).narration_id.tolist() == ["P01_01_0"]


def test_videos_come_sorted_and_their_rows_in_the_order_of_the_file(tmp_path: Path) -> None:
    rows = [row(1, video_id="P02_01"), row(2), row(10, video_id="P02_01"), row(0)]
    segments = read_segments(write_rows(tmp_path / "own.csv", rows))
    videos = [(video_id, part.narration_id.tolist()) for video_id, part in segments.by_video()]
    assert videos == [("P01_01", ["P01_01_2", "P01_01_0"]), ("P02_01", ["P02_01_1", "P02_01_10"])]


def test_selection_keeps_the_order_and_refuses_to_be_empty(tmp_path: Path) -> None:
    segments = read_segments(write_rows(tmp_path / "own.csv", [row(2), row(0), row(1)]))
    assert segments.where(np.array([True, False, True])).narration_id.tolist() == ["P01_01_2", "P01_01_1"]
    with pytest.raises(DataError, match=r"own\.csv: no segments"):
        segments.where(np.zeros(3, dtype=bool))


# ---- files of our own, wrong


def refusal(path: Path) -> str:
    """The message that reading a file of segments ends with."""
    with pytest.raises(DataError) as error:
        read_segments(path)
    return str(error.value)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("verb_class", "97"),
        ("verb_class", "-1"),
        ("verb_class", "1.0"),
        ("verb_class", "take"),
        ("verb_class", ""),
        ("verb_class", "\N{ARABIC-INDIC DIGIT THREE}"),
        ("noun_class", "300"),
        ("noun_class", "-1"),
        ("noun_class", "1e2"),
        ("noun_class", "99999999999999999999"),
        ("start_timestamp", "12.5"),
        ("start_timestamp", "00:61:00.00"),
        ("start_timestamp", "00:00:61.00"),
        ("start_timestamp", "-00:00:01.00"),
        ("start_timestamp", ""),
        ("stop_timestamp", "00:00:nan"),
        ("stop_timestamp", "00:00:03,00"),
        ("video_id", "../P01_01"),
        ("video_id", "P01/P01_01"),
        ("video_id", ".P01_01"),
        ("video_id", ""),
        ("participant_id", "P01 "),
    ],
)
def test_wrong_cell_is_named_by_file_row_id_and_value(tmp_path: Path, column: str, value: str) -> None:
    path = write_rows(tmp_path / "EPIC_100_train.csv", [row(0), {**row(1), column: value}, row(2)])
    assert refusal(path).startswith(f"{path}, row 3 (P01_01_1): {column} is '{value}', not ")


@pytest.mark.parametrize("value", ["inf", "1e30", "-inf", "nan", "sixty", "", "59.5"])
def test_frame_columns_are_for_reference_and_never_stop_the_reading(tmp_path: Path, value: str) -> None:
    path = write_rows(tmp_path / "own.csv", [row(0), row(1, start_frame=value)])
    assert len(read_segments(path)) == 2


def test_wrong_narration_id_is_named_by_file_and_row(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "EPIC_100_train.csv", [row(0), row(1, narration_id="../../x")])
    message = refusal(path)
    assert f"{path}, row 3" in message
    assert "narration_id is '../../x'" in message


@pytest.mark.parametrize("stop", ["00:00:01.99", "00:00:02.00"])
def test_stop_that_is_not_after_start_is_refused(tmp_path: Path, stop: str) -> None:
    path = write_rows(tmp_path / "EPIC_100_train.csv", [row(0), row(1, stop_timestamp=stop)])
    expected = f"{path}, row 3 (P01_01_1): stop_timestamp {stop} is not after start_timestamp 00:00:02.00."
    assert refusal(path) == expected


def test_second_row_of_an_id_names_the_first(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "EPIC_100_train.csv", [row(0), row(1), row(0)])
    assert refusal(path) == f"{path}, row 4 (P01_01_0): this narration_id is in row 2 already."


def test_number_of_further_wrong_rows_is_said(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "own.csv", [row(index, verb_class="x") for index in range(3)])
    assert "(2 more such rows)" in refusal(path)


def test_row_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "own.csv", [row(0), row(1), row(2)])
    lines = path.read_text().splitlines()
    lines[2] = lines[2].split(",00:00:03")[0]
    path.write_text("\n".join(lines) + "\n")
    assert refusal(path).startswith(f"{path}, row 3 (P01_01_1): ")


def test_row_that_is_too_long_is_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "own.csv", [row(0), row(1)])
    path.write_text(path.read_text() + path.read_text().splitlines()[1].replace("P01_01_0", "P01_01_2") + ",more\n")
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert "line 4" in message


def test_blank_lines_count_as_rows_in_a_message(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "own.csv", [row(0), row(1, verb_class="x")])
    header, first, second = path.read_text().splitlines()
    path.write_text("\n".join([header, first, "", second, ""]))
    assert refusal(path).startswith(f"{path}, row 4 (P01_01_1): ")


@pytest.mark.parametrize("column", ["narration_id", "video_id", "start_timestamp", "stop_timestamp"])
def test_missing_column_is_named_with_those_that_are_there(tmp_path: Path, column: str) -> None:
    columns = [name for name in COLUMNS if name != column]
    message = refusal(write_rows(tmp_path / "own.csv", [row(0)], columns=columns))
    assert message == f"{tmp_path / 'own.csv'}: no column {column}; it has {', '.join(columns)}."


@pytest.mark.parametrize(("column", "missing"), [("verb_class", "noun_class"), ("noun_class", "verb_class")])
def test_one_kind_of_label_alone_is_refused(tmp_path: Path, column: str, missing: str) -> None:
    path = write_rows(tmp_path / "own.csv", [row(0)], columns=[*COLUMNS, column])
    assert refusal(path) == f"{path}: it has the column {column} but not {missing}; give both or neither."


def test_file_of_a_header_alone_has_no_segments(tmp_path: Path) -> None:
    assert "own.csv: no segments" in refusal(write_rows(tmp_path / "own.csv", []))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        bytes(range(256)) * 40,
        "narration_id,é".encode("latin-1"),
    ],
    ids=["empty", "blank", "picture", "binary", "latin-1"],
)
def test_file_that_is_no_csv_of_utf8_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(content)
    assert refusal(path).startswith(f"{path}: not a CSV file")


@pytest.mark.parametrize("damage", ["cut", "plain", "flipped"])
def test_damaged_compressed_file_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    path = write_rows(tmp_path / "own.csv", [row(index) for index in range(20)])
    compressed = gzip.compress(path.read_bytes())
    middle = len(compressed) // 2
    path = path.with_name("own.csv.gz")
    contents = {
        "cut": compressed[:middle],
        "plain": b"narration_id,video_id\n",
        "flipped": compressed[:middle] + bytes([compressed[middle] ^ 0xFF]) + compressed[middle + 1 :],
    }
    path.write_bytes(contents[damage])
    assert refusal(path).startswith(f"{path}: ")


def test_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.csv") == f"{tmp_path / 'none.csv'}: no such file."


def test_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(f"{tmp_path}: cannot be read")


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder") as error:
        read_annotations(tmp_path / "none")
    assert str(tmp_path / "none") in str(error.value)


def test_folder_without_any_split_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "EPIC_100_tail_verbs.csv", [{"verb": "1"}], columns=["verb"])
    with pytest.raises(DataError, match=r"none of EPIC_100_train\.csv, EPIC_100_validation\.csv"):
        read_annotations(tmp_path)


def test_id_in_two_files_is_refused_with_both_files(tmp_path: Path) -> None:
    first = write_rows(tmp_path / "first.csv", [row(0), row(1)])
    second = write_rows(tmp_path / "second.csv", [row(1), row(2)])
    with pytest.raises(DataError, match=r"first\.csv \+ second\.csv: 1 narration_id .*P01_01_1"):
        read_all_segments([first, second])


def test_files_are_put_together_in_the_order_given(tmp_path: Path) -> None:
    first = write_rows(tmp_path / "first.csv", [row(5)])
    second = write_rows(tmp_path / "second.csv", [row(1), row(2)])
    segments = read_all_segments([second, first])
    assert segments.narration_id.tolist() == ["P01_01_1", "P01_01_2", "P01_01_5"]


def test_labelled_and_unlabelled_files_together_are_not_labelled(tmp_path: Path) -> None:
    labelled = write_rows(tmp_path / "labelled.csv", [row(0)])
    unlabelled = write_rows(tmp_path / "unlabelled.csv", [row(1)], columns=COLUMNS)
    assert not read_all_segments([labelled, unlabelled]).is_labelled


# ---- the lists


@pytest.mark.parametrize(
    ("reader", "columns", "rows", "message"),
    [
        (read_verb_keys, ["id", "key"], [{"id": "97", "key": "x"}], "row 2: id is '97', not a class id from 0 to 96"),
        (
            read_noun_keys,
            ["id", "key"],
            [{"id": "300", "key": "x"}],
            "row 2: id is '300', not a class id from 0 to 299",
        ),
        (read_verb_keys, ["id", "key"], 2 * [{"id": "5", "key": "x"}], "row 3: id is '5', not an id of its own"),
        (read_verb_keys, ["id"], [{"id": "5"}], "no column key"),
        (read_tail_verbs, ["verb"], [{"verb": "97"}], "row 2: verb is '97', not a class id"),
        (read_tail_nouns, ["noun"], [{"noun": "tap"}], "row 2: noun is 'tap', not a class id"),
        (read_tail_nouns, ["verb"], [{"verb": "1"}], "no column noun"),
        (read_participants, ["id"], [{"id": "P18"}], "no column participant_id"),
    ],
)
def test_wrong_list_is_refused_by_file_and_row(tmp_path: Path, reader, columns, rows, message: str) -> None:
    path = write_rows(tmp_path / "list.csv", rows, columns=columns)
    with pytest.raises(DataError) as error:
        reader(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)


@pytest.mark.parametrize(("column", "value"), [("fps", "0"), ("fps", "fast"), ("duration", "-3"), ("duration", "")])
def test_video_info_refuses_what_is_no_positive_number(tmp_path: Path, column: str, value: str) -> None:
    cells = {"video_id": "P01_01", "duration": "10.5", "fps": "50.0", "resolution": "1920x1080", column: value}
    path = write_rows(tmp_path / "info.csv", [cells], columns=list(cells))
    with pytest.raises(DataError, match=rf"row 2: {column} is '{value}', not a number above 0"):
        read_video_info(path)


def test_list_with_windows_line_ends_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "verbs.csv"
    path.write_bytes(b"id,key\r\n0,take\r\n")
    assert read_verb_keys(path) == {0: "take"}
