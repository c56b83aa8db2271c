"""Feature sets as heads read them: what may be seen of them, and which steps of each are whose."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from synthetic import labelled_rows, write_csv, write_dense, write_features

from features.annotations import Segments, read_segments
from features.errors import DataError, OptionError
from features.failures import Failure, write_failures
from features.featureset import read_featureset
from heads.config import InputSettings
from heads.data.layout import Layout, lay_out, open_sources, with_first_view
from heads.models.saved import stream_specs

VIDEOS = ("P01_01", "P02_101")


@pytest.fixture
def segments(tmp_path) -> Segments:
    """A dozen segments in two videos, those of each in between those of the other."""
    rows = labelled_rows(VIDEOS, 12, np.random.default_rng(0)).sample(frac=1, random_state=1)
    return read_segments(write_csv(tmp_path / "train.csv", rows))


def random_features(segments: Segments, *, most: int = 5, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(rng.integers(1, most + 1), 4)) for name in segments.narration_id}


def whole_videos(num_steps: int = 130) -> dict[str, np.ndarray]:
    """Steps over whole videos, 26 s of them at 0.2 s."""
    return {video_id: np.random.default_rng(0).normal(size=(num_steps, 4)) for video_id in VIDEOS}


def layout_of(roots: list[Path], segments: Segments, *, allow_missing: bool = False, **inputs: object) -> Layout:
    inputs = InputSettings(**inputs)
    return lay_out(open_sources(roots, inputs), segments, inputs, allow_missing=allow_missing)


def rows_by_name(layout: Layout, stream_index: int = 0) -> dict[str, tuple[list[int], list[int]]]:
    """narration_id -> the rows of its window and of its own part, in the file of its video."""
    rows = {}
    for video in layout.videos:
        windows = video.windows[stream_index]
        for segment, index in enumerate(video.index):
            outer = windows.rows[windows.first[segment] : windows.stop[segment]].tolist()
            inner = windows.rows[windows.inner_first[segment] : windows.inner_stop[segment]].tolist()
            rows[layout.segments.narration_id[index]] = (outer, inner)
    return rows


def stored_rows(root: Path, segments: Segments) -> dict[str, list[int]]:
    """narration_id -> its rows, as the files of a set by segment say."""
    rows = {}
    for video_id in segments.table.video_id.unique():
        with h5py.File(root / f"{video_id}.h5") as file:
            offset = file["segments/offset"][:]
            for index, name in enumerate(file["segments/narration_id"].asstr()):
                rows[name] = list(range(offset[index], offset[index + 1]))
    return {name: rows[name] for name in segments.narration_id}


# ---- what is opened


def test_sets_are_opened_in_the_order_given(segments, tmp_path):
    roots = [tmp_path / name for name in ("second", "first", "third")]
    for index, root in enumerate(roots):
        write_features(root, segments, random_features(segments), backbone=f"backbone{index}")
    sources = open_sources(roots, InputSettings())
    assert [source.root for source in sources] == roots
    assert [source.featureset for source in sources] == [read_featureset(root) for root in roots]


@pytest.mark.parametrize(
    ("tokens", "layers", "expected"),
    [("cls", (), 1), ("mean+cls", (), 2), ("grid2+cls", (), 5), ("mean", (1, 3), 2), ("grid2+cls", (1, 3), 10)],
)
def test_class_tokens_and_layers_are_cells_as_places_are(tokens, layers, expected, tmp_path):
    write_dense(tmp_path / "set", {"P01_01": np.zeros((3, 1, 20))}, tokens=tokens, layers=layers)
    (source,) = open_sources([tmp_path / "set"], InputSettings())
    assert source.cells == expected
    assert [stream.cells for stream in stream_specs([source])] == [expected]


def test_a_source_says_what_a_step_is_and_takes(tmp_path):
    steps = {"P01_01": np.zeros((3, 2, 12))}
    write_dense(tmp_path / "set", steps, views=("centre", "flip"), tokens="grid2")
    (source,) = open_sources([tmp_path / "set"], InputSettings(view=("centre", "flip")))
    assert (source.is_dense, source.cells, source.row_bytes) == (True, 4, 2 * 12 * 2)


def test_a_step_that_is_the_average_of_its_map_has_one_cell(segments, tmp_path):
    write_features(tmp_path / "set", segments, random_features(segments))
    (source,) = open_sources([tmp_path / "set"], InputSettings())
    assert (source.is_dense, source.cells, source.views) == (False, 1, ("centre",))


def test_a_folder_that_is_no_feature_set_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: not a feature set"):
        open_sources([tmp_path / "nowhere"], InputSettings())


def test_a_feature_set_that_is_given_twice_is_refused(segments, tmp_path):
    write_features(tmp_path / "set", segments, random_features(segments))
    (tmp_path / "link").symlink_to(tmp_path / "set")
    with pytest.raises(OptionError, match="--features: a feature set is given twice"):
        open_sources([tmp_path / "set", tmp_path / "link"], InputSettings())


# ---- views


@pytest.fixture
def views(tmp_path) -> list[Path]:
    """A set of three views, and one of one."""
    write_dense(tmp_path / "three", {"P01_01": np.zeros((3, 3, 4))}, views=("centre", "flip", "left"))
    write_dense(tmp_path / "one", {"P01_01": np.zeros((3, 4))})
    return [tmp_path / "three", tmp_path / "one"]


@pytest.mark.parametrize(
    ("names", "expected"), [((), ("centre",)), (("left",), ("left",)), (("flip", "centre"), ("flip", "centre"))]
)
def test_views_are_chosen_by_name_in_the_order_given(views, names, expected):
    three, single = open_sources(views, InputSettings(view=names))
    assert (three.views, single.views) == (expected, ("centre",))


def test_all_views_are_read_by_default_where_some_are_random_augmentations(tmp_path):
    names = ("centre", "flip", "augment1")
    write_dense(tmp_path / "set", {"P01_01": np.zeros((3, 3, 4))}, views=names)
    (source,) = open_sources([tmp_path / "set"], InputSettings())
    assert source.views == names
    assert [source.views for source in with_first_view([source])] == [("centre",)]


def test_a_view_that_no_set_has_is_refused_with_the_nearest(views):
    with pytest.raises(OptionError, match=r"--view: no view 'flp'; did you mean 'flip'\? Known: centre, flip, left\."):
        open_sources(views, InputSettings(view=("flp",)))


def test_a_view_is_not_passed_over_where_there_is_nothing_to_choose(views):
    with pytest.raises(OptionError, match=r"--view: no view 'flip'\. Known: centre\."):
        open_sources(views[1:], InputSettings(view=("flip",)))


def test_a_view_that_one_of_two_sets_lacks_is_refused_by_its_name(views, tmp_path):
    write_dense(tmp_path / "other", {"P01_01": np.zeros((3, 2, 4))}, views=("centre", "lefts"))
    with pytest.raises(OptionError, match=r"--view: no view of .*other 'left'; did you mean 'lefts'\?"):
        open_sources([views[0], tmp_path / "other"], InputSettings(view=("left",)))


def test_a_view_that_is_given_twice_is_refused(views):
    with pytest.raises(OptionError, match="--view: a view is given twice"):
        open_sources(views, InputSettings(view=("flip", "flip")))


# ---- context


@pytest.fixture
def kinds(segments, tmp_path) -> dict[str, Path]:
    """A dense set, and one by segment."""
    write_features(tmp_path / "segment", segments, random_features(segments))
    write_dense(tmp_path / "dense", whole_videos())
    return {"segment": tmp_path / "segment", "dense": tmp_path / "dense"}


@pytest.mark.parametrize(
    ("names", "inputs", "message"),
    [
        (["segment"], {"context": 1.0}, r"--context: needs a dense feature set .*--neighbours"),
        (["dense"], {"neighbours": 1}, r"--neighbours: needs a feature set by segment; .*--context"),
        (["dense", "segment"], {"context": 1.0}, "--fusion: early: with context, all feature sets have to be"),
        (["segment", "dense"], {"neighbours": 1}, "--fusion: early: with context, all feature sets have to be"),
    ],
)
def test_context_that_does_not_fit_the_sets_is_refused(kinds, names, inputs, message):
    with pytest.raises(OptionError, match=message):
        open_sources([kinds[name] for name in names], InputSettings(**inputs))


@pytest.mark.parametrize(
    ("names", "inputs"),
    [
        (["dense"], {"context": 1.0}),
        (["segment"], {"neighbours": 1}),
        (["dense", "segment"], {}),
        (["dense", "segment"], {"context": 1.0, "neighbours": 1, "fusion": "late"}),
    ],
)
def test_context_that_fits_the_sets_is_taken(kinds, names, inputs):
    assert len(open_sources([kinds[name] for name in names], InputSettings(**inputs))) == len(names)


# ---- layout


def test_segments_have_the_rows_that_the_files_say(kinds, segments):
    layout = layout_of([kinds["segment"]], segments)
    assert {name: own for name, (_, own) in rows_by_name(layout).items()} == stored_rows(kinds["segment"], segments)


def test_every_segment_is_laid_out_once_and_in_the_order_of_the_annotations(kinds, segments):
    layout = layout_of([kinds["segment"]], segments)
    assert layout.segments.narration_id.tolist() == segments.narration_id.tolist()
    assert sorted(np.concatenate([video.index for video in layout.videos]).tolist()) == list(range(12))
    assert layout.num_missing == 0


def test_each_video_is_a_part_with_its_own_segments(kinds, segments):
    layout = layout_of([kinds["segment"]], segments)
    assert [video.video_id for video in layout.videos] == list(VIDEOS)
    for video in layout.videos:
        assert set(layout.segments.table.video_id.iloc[video.index]) == {video.video_id}


def test_times_are_those_of_the_kept_rows(kinds, segments):
    layout = layout_of([kinds["segment"], kinds["dense"]], segments)
    for video in layout.videos:
        for stream_index, name in enumerate(("segment", "dense")):
            with h5py.File(kinds[name] / f"{video.video_id}.h5") as file:
                expected = file["seconds"][:][video.windows[stream_index].rows]
            np.testing.assert_array_equal(video.seconds[stream_index], expected)


def test_sets_with_other_numbers_of_steps_are_laid_out_side_by_side(segments, tmp_path):
    roots = [tmp_path / "short", tmp_path / "long"]
    for root, most in zip(roots, (2, 9), strict=True):
        write_features(root, segments, random_features(segments, most=most))
    layout = layout_of(roots, segments)
    for stream_index, root in enumerate(roots):
        own = {name: inner for name, (_, inner) in rows_by_name(layout, stream_index).items()}
        assert own == stored_rows(root, segments)


def test_dense_steps_are_those_in_the_time_of_the_segment(kinds, segments):
    layout = layout_of([kinds["segment"], kinds["dense"]], segments)
    seconds = 0.2 * (np.arange(130) + 0.5)
    rows = rows_by_name(layout, 1)
    for row in segments.table.itertuples():
        expected = np.flatnonzero((row.start_s <= seconds) & (seconds <= row.stop_s)).tolist()
        assert rows[row.narration_id] == (expected, expected)


def test_context_widens_dense_windows(kinds, segments):
    plain_rows = rows_by_name(layout_of([kinds["dense"]], segments))
    for name, (outer, inner) in rows_by_name(layout_of([kinds["dense"]], segments, context=1.0)).items():
        assert inner == plain_rows[name][1]
        assert outer == list(range(max(0, inner[0] - 5), min(130, inner[-1] + 6)))


def test_neighbours_are_those_of_the_same_video(kinds, segments):
    """Segment number 3 of a video starts after number 2 and before number 4."""
    own = stored_rows(kinds["segment"], segments)
    for name, (outer, _) in rows_by_name(layout_of([kinds["segment"]], segments, neighbours=1)).items():
        video_id, number = name.rsplit("_", 1)
        neighbours = [f"{video_id}_{int(number) + step}" for step in (-1, 0, 1)]
        assert outer == [row for neighbour in neighbours if neighbour in own for row in own[neighbour]]


def test_neighbours_may_be_segments_of_another_list(kinds, segments):
    own = stored_rows(kinds["segment"], segments)
    subset = segments.where(segments.table.narration_id.isin(["P01_01_2", "P02_101_5"]).to_numpy())
    rows = rows_by_name(layout_of([kinds["segment"]], subset, neighbours=1))
    assert rows["P01_01_2"][0] == [row for number in (1, 2, 3) for row in own[f"P01_01_{number}"]]


# ---- what is missing


def steps_without(steps: dict[str, np.ndarray], *names: str) -> dict[str, np.ndarray]:
    return {name: rows for name, rows in steps.items() if not name.startswith(names)}


@pytest.fixture
def incomplete_set(segments, tmp_path) -> Path:
    """A feature set without the features of seven segments: all of P02_101, and the first of P01_01."""
    write_features(tmp_path / "lacking", segments, steps_without(random_features(segments), "P02_101", "P01_01_0"))
    return tmp_path / "lacking"


def test_missing_features_are_counted_and_named(segments, incomplete_set):
    missing = [name for name in segments.narration_id if name.startswith(("P02_101", "P01_01_0"))]
    message = rf"lacking: no features for 7 of 12 segments of train\.csv \({', '.join(missing[:5])} and 2 more\); "
    with pytest.raises(DataError, match=message + "extract them, or --allow-missing to do without"):
        layout_of([incomplete_set], segments)


def test_missing_segments_are_left_out_and_counted_when_allowed(segments, incomplete_set):
    layout = layout_of([incomplete_set], segments, allow_missing=True)
    expected = [name for name in segments.narration_id if name.startswith("P01_01") and name != "P01_01_0"]
    assert layout.segments.narration_id.tolist() == expected
    assert layout.num_missing == 7


def test_segments_that_are_not_left_out_keep_their_rows(segments, incomplete_set):
    layout = layout_of([incomplete_set], segments, allow_missing=True)
    own_rows = {name: own for name, (_, own) in rows_by_name(layout).items()}
    assert own_rows == stored_rows(incomplete_set, layout.segments)


def test_of_several_sets_the_one_that_lacks_features_is_named(segments, kinds, incomplete_set):
    with pytest.raises(DataError, match="lacking: no features for 7 of 12 segments"):
        layout_of([kinds["segment"], incomplete_set], segments)


def test_segments_need_features_in_every_set(segments, incomplete_set, tmp_path):
    write_features(tmp_path / "other", segments, steps_without(random_features(segments), "P01_01_4"), backbone="other")
    layout = layout_of([incomplete_set, tmp_path / "other"], segments, allow_missing=True)
    assert sorted(layout.segments.narration_id) == [f"P01_01_{number}" for number in (1, 2, 3, 5)]
    assert layout.num_missing == 8
    for stream_index, root in enumerate((incomplete_set, tmp_path / "other")):
        own_rows = {name: own for name, (_, own) in rows_by_name(layout, stream_index).items()}
        assert own_rows == stored_rows(root, layout.segments)


@pytest.mark.parametrize("allow_missing", [False, True])
def test_a_set_without_any_of_the_segments_is_refused_without_a_way_around(segments, incomplete_set, allow_missing):
    subset = segments.where((segments.table.video_id == "P02_101").to_numpy())
    with pytest.raises(DataError, match=r"no features for 6 of 6 segments .*; extract them\.$"):
        layout_of([incomplete_set], subset, allow_missing=allow_missing)


def test_sets_that_share_no_segment_are_refused(segments, incomplete_set, tmp_path):
    write_features(tmp_path / "rest", segments, steps_without(random_features(segments), "P01_01"))
    with pytest.raises(DataError, match=r"lacking, .*rest: no segment of train\.csv has features in all of these"):
        layout_of([incomplete_set, tmp_path / "rest"], segments, allow_missing=True)


def test_a_segment_past_the_end_of_a_dense_video_is_missing(segments, tmp_path):
    write_dense(tmp_path / "short", whole_videos(60))  # 12 s; segment 4 starts at 13.77 s
    layout = layout_of([tmp_path / "short"], segments, allow_missing=True)
    assert {name.rsplit("_", 1)[1] for name in layout.segments.narration_id} <= {"0", "1", "2", "3"}
    assert layout.num_missing + len(layout.segments) == 12


def test_a_segment_that_failed_in_a_dense_set_is_missing(segments, kinds):
    write_failures(kinds["dense"], "P01_01", [Failure("P01_01_2", "Undecodable", "frame 7")])
    with pytest.raises(DataError, match=r"dense: no features for 1 of 12 segments .*\(P01_01_2\)"):
        layout_of([kinds["dense"]], segments)


# ---- what is refused


def segments_with_changes(segments: Segments, name: str, **cells: float) -> Segments:
    table = segments.table.copy()
    for column, value in cells.items():
        table.loc[table.narration_id == name, column] += value
    return Segments(table, segments.source)


@pytest.mark.parametrize("cells", [{"start_s": -0.25}, {"stop_s": 0.5}])
@pytest.mark.parametrize("allow_missing", [False, True])
def test_features_of_another_interval_are_refused(segments, kinds, cells, allow_missing):
    message = r"P01_01\.h5: segment P01_01_3 was extracted from .* the annotations now say"
    with pytest.raises(DataError, match=message):
        layout_of([kinds["segment"]], segments_with_changes(segments, "P01_01_3", **cells), allow_missing=allow_missing)


def test_dense_features_serve_any_interval(segments, kinds):
    layout_of([kinds["dense"]], segments_with_changes(segments, "P01_01_3", stop_s=0.5))


def test_a_file_of_other_settings_is_refused(segments, kinds, tmp_path):
    write_features(tmp_path / "other", segments, random_features(segments), backbone="other")
    (tmp_path / "other/P02_101.h5").replace(kinds["segment"] / "P02_101.h5")
    with pytest.raises(DataError, match=r"P02_101\.h5: made with other settings than featureset\.json"):
        layout_of([kinds["segment"]], segments, allow_missing=True)


def test_a_damaged_file_is_refused(segments, kinds):
    (kinds["dense"] / "P02_101.h5").write_bytes(b"no HDF5 at all")
    with pytest.raises(DataError, match=r"P02_101\.h5: damaged"):
        layout_of([kinds["dense"]], segments, allow_missing=True)


def test_a_file_of_a_video_that_is_not_asked_for_is_not_read(segments, kinds):
    (kinds["segment"] / "P02_101.h5").write_bytes(b"no HDF5 at all")
    layout_of([kinds["segment"]], segments.where((segments.table.video_id == "P01_01").to_numpy()))
