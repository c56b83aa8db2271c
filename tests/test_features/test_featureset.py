"""featureset.json: written once, checked ever after, the same for everyone who asks at once."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from feature_files import DENSE, REGIONS, SEGMENT_16, finished, make_featureset, python

from features.errors import DataError
from features.featureset import FeatureSet, Sampling, Weights, create_featureset, read_featureset

# Twenty folders, each entered by all processes at once: argument 2 is when the first one opens.
CREATE_AT_ONCE = """
import sys, time
from pathlib import Path
from feature_files import make_featureset
from features.featureset import create_featureset

number, start = sys.argv[2], float(sys.argv[3])
for index in range(20):
    while time.time() < start + 0.02 * index:
        pass
    print(create_featureset(Path(sys.argv[1], str(index)), make_featureset(created=f"by {number}")).created)
"""
OTHERS = {
    "backbone": make_featureset(backbone="another"),
    "weights": make_featureset(weights=Weights("random:1", "none", "1" * 64)),
    "preprocess": make_featureset(preprocess={"crop": 64, "mean": [0.5, 0.5, 0.5]}),
    "sampling": make_featureset(sampling=replace(SEGMENT_16, num_frames=32)),
    "dim": make_featureset(dim=9),
    "tokens": make_featureset(tokens="mean+cls"),
    "layers": make_featureset(layers=(5,)),
    "cells": make_featureset(cells=("left", "right")),
    "regions": make_featureset(regions={"boxes": "drawn"}),
}


def rewrite(root: Path, **changes: object) -> None:
    """Change fields of a featureset.json by hand; None takes a field away."""
    path = root / "featureset.json"
    record = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in record.items() if value is not None}))


@pytest.mark.parametrize(
    "featureset",
    [
        make_featureset(),
        make_featureset(sampling=DENSE, views=("centre", "left"), view_parameters={"left": {"crop": "left"}}),
        make_featureset(versions={"torch": "2.1"}),
        make_featureset(tokens="grid2+cls", layers=(5, 11), dim=20),
        make_featureset(cells=("left", "right")),
        make_featureset(**REGIONS),
    ],
)
def test_record_comes_back(tmp_path: Path, featureset: FeatureSet) -> None:
    create_featureset(tmp_path, featureset)
    record = read_featureset(tmp_path)
    assert (record, record.digest) == (featureset, featureset.digest)
    assert (record.versions, record.created) == (featureset.versions, featureset.created)


@pytest.mark.parametrize("level", [None, 0, 5])
def test_the_level_of_supervision_comes_back_and_is_not_in_the_digest(tmp_path: Path, level: int | None) -> None:
    create_featureset(tmp_path, make_featureset(supervision=level))
    record = read_featureset(tmp_path)
    assert (record.supervision, record.digest) == (level, make_featureset().digest)


def test_a_record_from_before_levels_does_not_say(tmp_path: Path) -> None:
    create_featureset(tmp_path, make_featureset(supervision=2))
    rewrite(tmp_path, supervision=None)
    assert read_featureset(tmp_path).supervision is None


def test_a_level_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    create_featureset(tmp_path, make_featureset())
    rewrite(tmp_path, supervision=9)
    with pytest.raises(DataError, match="supervision is 9, not a level from 0 to 5"):
        read_featureset(tmp_path)


@pytest.mark.parametrize("name", OTHERS)
def test_digest_depends_on_whatever_the_features_depend_on(name: str) -> None:
    assert OTHERS[name].digest != make_featureset().digest


@pytest.mark.parametrize(
    "featureset",
    [
        make_featureset(versions={"torch": "9"}, created="later"),
        make_featureset(weights=Weights("elsewhere.pth", "none", "0" * 64)),
        make_featureset(preprocess={"mean": [0.5, 0.5, 0.5], "crop": 32}),
        make_featureset(views=("flip", "left"), view_parameters={"flip": {"flip": True}}),
    ],
    ids=["versions", "place of the weights", "order of keys", "views"],
)
def test_digest_does_not_depend_on_what_leaves_the_features_alone(featureset: FeatureSet) -> None:
    assert featureset.digest == make_featureset().digest


@pytest.mark.parametrize("name", OTHERS)
def test_folder_of_other_features_is_refused_by_what_differs(tmp_path: Path, name: str) -> None:
    create_featureset(tmp_path, make_featureset())
    with pytest.raises(DataError, match=rf"holds other features \({name} is .* there, .* is wanted\)") as error:
        create_featureset(tmp_path, OTHERS[name])
    assert str(error.value).startswith(f"{tmp_path}: ")


@pytest.mark.parametrize("name", ["layers", "cells", "regions"])
def test_folder_that_has_more_than_is_wanted_is_refused_by_what_differs(tmp_path: Path, name: str) -> None:
    create_featureset(tmp_path, OTHERS[name])
    with pytest.raises(DataError, match=rf"holds other features \({name} is .* there, .* is wanted\)"):
        create_featureset(tmp_path, make_featureset())


def test_a_record_from_before_regions_has_none(tmp_path: Path) -> None:
    create_featureset(tmp_path, make_featureset())
    digest = json.loads((tmp_path / "featureset.json").read_text())["digest"]
    rewrite(tmp_path, regions=None)
    assert (read_featureset(tmp_path).regions, read_featureset(tmp_path).digest) == (None, digest)


def test_record_names_the_cells_of_a_step(tmp_path: Path) -> None:
    create_featureset(tmp_path, make_featureset(tokens="mean+cls", layers=(5, 11)))
    record = json.loads((tmp_path / "featureset.json").read_text())
    assert record["cells"] == ["layer5:mean", "layer5:cls", "layer11:mean", "layer11:cls"]


def test_cells_that_do_not_divide_a_step_are_refused(tmp_path: Path) -> None:
    create_featureset(tmp_path, make_featureset())
    rewrite(tmp_path, cells=["a", "b", "c"])
    with pytest.raises(DataError, match=r"featureset\.json: 8 values do not make 3 cells"):
        read_featureset(tmp_path)


def test_refused_features_leave_the_record_that_stands(tmp_path: Path) -> None:
    create_featureset(tmp_path, make_featureset())
    with pytest.raises(DataError):
        create_featureset(tmp_path, OTHERS["dim"])
    assert read_featureset(tmp_path) == make_featureset()


def test_second_run_of_the_same_features_gets_the_first_record(tmp_path: Path) -> None:
    create_featureset(tmp_path, make_featureset(created="first"))
    assert create_featureset(tmp_path, make_featureset(created="second")).created == "first"


def test_a_set_gains_views_and_the_centre_stays_first(tmp_path: Path) -> None:
    first = create_featureset(tmp_path, make_featureset(views=("flip",), created="first"))
    create_featureset(tmp_path, make_featureset(views=("left", "centre"), view_parameters={"left": {"crop": "left"}}))
    record = read_featureset(tmp_path)
    assert record.views == ("centre", "flip", "left")
    assert (record.view_parameters, record.created) == ({"left": {"crop": "left"}}, "first")
    assert record.digest == first.digest
    assert create_featureset(tmp_path, make_featureset()).views == record.views


def test_a_view_that_was_made_in_another_way_is_refused(tmp_path: Path) -> None:
    wide, narrow = ({"augment1": {"scale": [least, 1]}} for least in (0.5, 0.8))
    create_featureset(tmp_path, make_featureset(views=("centre", "augment1"), view_parameters=wide))
    with pytest.raises(
        DataError, match=r"holds other features of view 'augment1' \(.*0\.5.* there, .*0\.8.* is wanted"
    ):
        create_featureset(tmp_path, make_featureset(views=("augment1",), view_parameters=narrow))


def test_a_record_whose_digest_counts_its_views_keeps_that_digest(tmp_path: Path) -> None:
    older = make_featureset(views=("centre", "flip"), digest_views=("centre", "flip"))
    create_featureset(tmp_path, older)
    rewrite(tmp_path, digest_views=None, view_parameters=None)
    assert read_featureset(tmp_path) == older
    assert older.digest != make_featureset().digest
    grown = create_featureset(tmp_path, make_featureset(views=("left",)))
    assert (grown.digest, read_featureset(tmp_path)) == (older.digest, grown)
    assert grown.views == ("centre", "flip", "left")


@pytest.mark.parametrize("views", [[], ["flip", "flip"]])
def test_views_without_a_name_of_their_own_are_refused(tmp_path: Path, views: list[str]) -> None:
    create_featureset(tmp_path, make_featureset())
    rewrite(tmp_path, views=views)
    with pytest.raises(DataError, match=r"featureset\.json: views are .*, not one or more different names"):
        read_featureset(tmp_path)


def test_processes_that_create_one_set_at_once_agree(tmp_path: Path) -> None:
    start = time.time() + 3  # longer than a process takes to start
    processes = [python(CREATE_AT_ONCE, tmp_path, number, start) for number in range(4)]
    results = [finished(process) for process in processes]
    assert [code for code, _, _ in results] == [0, 0, 0, 0], results
    assert len({out for _, out, _ in results}) == 1
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"featureset.json"}


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 9},
        {"backbone": "another"},
        {"preprocess": {"crop": 64}},
        {"digest": "0" * 64},
    ],
)
def test_record_changed_by_hand_is_found(tmp_path: Path, change: dict) -> None:
    create_featureset(tmp_path, make_featureset())
    rewrite(tmp_path, **change)
    with pytest.raises(DataError, match=r"featureset\.json: .*changed after it was written"):
        read_featureset(tmp_path)


@pytest.mark.parametrize("schema", [2, "1", None])
def test_other_schema_is_refused(tmp_path: Path, schema: object) -> None:
    create_featureset(tmp_path, make_featureset())
    rewrite(tmp_path, schema=schema)
    with pytest.raises(DataError, match=rf"featureset\.json: schema {schema!r}; this version reads schema 1"):
        read_featureset(tmp_path)


@pytest.mark.parametrize("field", ["backbone", "weights", "preprocess", "sampling", "dim", "views", "dtype"])
def test_missing_field_is_named(tmp_path: Path, field: str) -> None:
    create_featureset(tmp_path, make_featureset())
    rewrite(tmp_path, **{field: None})
    with pytest.raises(DataError, match=rf"featureset\.json: a field is missing or unknown: '{field}'"):
        read_featureset(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "1", "{"])
def test_file_that_is_no_record_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "featureset.json").write_text(content)
    with pytest.raises(DataError, match=r"featureset\.json"):
        read_featureset(tmp_path)


def test_folder_without_a_record_is_no_feature_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not a feature set: it holds no featureset\.json"):
        read_featureset(tmp_path)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written: Not a directory") as error:
        create_featureset(tmp_path / "file" / "set", make_featureset())
    assert str(error.value).startswith(str(tmp_path / "file" / "set"))


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "segments", "num_frames": 16},
        {"kind": "segment"},
        {"kind": "segment", "num_frames": 0},
        {"kind": "segment", "every_s": 0.2},
        {"kind": "dense", "num_frames": 16},
        {"kind": "dense", "every_s": -0.2},
    ],
)
def test_sampling_that_says_nothing_of_its_kind_is_refused(fields: dict) -> None:
    with pytest.raises(DataError, match="sampling"):
        Sampling(clip_frames=1, steps_per_clip=1, **fields)
