"""Extraction of regions: what a backbone sees of each, which steps have it, and what happens without boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from annotate import annotate
from encode import HEIGHT, WIDTH, decode_all, turn_video, write_video
from hand_objects import Found, Hand, message, write_detections
from shell import output_here
from torchvision.transforms.v2 import functional as F

from extract.backbones import get
from extract.backbones.networks.pooling import steps
from extract.backbones.tokens import MEAN
from extract.cli import main
from extract.extraction import Summary, extract_videos
from extract.regions.crops import pixel_box
from extract.weights.load import load_backbone
from features.annotations import read_segments
from features.check import verify
from features.errors import DataError, OptionError
from features.failures import read_failures
from features.featureset import read_featureset
from features.store import VideoFeatures, read_video

# From a file: random:0 draws from torch's generator, which threads share.
WEIGHTS = Path(__file__).parents[2] / "golden" / "features-0.1.0" / "weights.pth"
SEGMENTS = {"P01_101_0": (0.1, 0.9), "P01_101_1": (0.5, 1.9)}
HAND, HELD, OTHER = (0.125, 0.25, 0.375, 0.5), (0.25, 0.5, 0.5, 0.75), (0.75, 0.0, 1.0, 0.25)
UNTIL_S = 1.0  # the hand is seen; half a second more it is held


def _frame(number: int, *, moved: float = 0.0) -> bytes:
    hand = tuple(np.add(HAND, moved).tolist())
    if (number - 1) / 50 > UNTIL_S:
        return message("P01_101", number, [], [Found(OTHER, 0.9)])
    return message("P01_101", number, [Hand(hand, 0.9, 3, 0, (0.125, 0.25))], [Found(OTHER, 0.9), Found(HELD, 0.8)])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """A video of 2 s that players turn by half a turn, its segments, and its boxes under two folders."""
    folder = tmp_path_factory.mktemp("dataset")
    plain = write_video(folder / "plain" / "P01_101.mp4")
    (folder / "videos").mkdir()
    turn_video(plain, folder / "videos" / "P01_101.mp4", 180)
    annotate(folder / "segments.csv", SEGMENTS)
    for name, moved in (("boxes", 0.0), ("moved/boxes", 0.125)):
        messages = [_frame(number, moved=moved) for number in range(1, 101)]
        write_detections(folder / name / "P01_101.pkl", messages)
    return folder


def _extract(dataset: Path, out: Path, regions: str | None, *, boxes: str = "boxes", **options) -> Summary:
    settings = {"backbone": "tiny_cnn", "weights": str(WEIGHTS), "num_frames": 4, "workers": 1, **options}
    rows = read_segments(dataset / "segments.csv")
    where = {} if regions is None else {"regions": regions, "boxes": dataset / boxes}
    return extract_videos(rows, dataset / "videos", out, **where, **settings)


def _read(out: Path) -> VideoFeatures:
    return read_video(out, "P01_101", digest=read_featureset(out).digest)


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory) -> VideoFeatures:
    out = tmp_path_factory.mktemp("whole")
    _extract(dataset, out, None, views="centre,flip")
    return _read(out)


@pytest.fixture(scope="module")
def four_regions(dataset, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("regions")
    _extract(dataset, out, "hands+objects", views="centre,flip")
    return out


# ---- what a step holds


def test_a_set_names_its_regions_and_cells(four_regions):
    featureset = read_featureset(four_regions)
    assert featureset.cells == ("left:mean", "right:mean", "held:mean", "hands:mean")
    assert featureset.dim == 4 * 384
    assert featureset.regions == {
        "kind": "hands+objects",
        "boxes": "epic:boxes",
        "min_score": 0.5,
        "margin": 0.25,
        "hold_s": 0.5,
        "smooth_s": 0.1,
        "sizes": 24,
    }
    assert _read(four_regions).source["boxes"].startswith("P01_101.pkl, ")
    assert list(verify(four_regions)) == []


def test_has_region_is_true_while_boxes_are_seen_or_held(four_regions):
    video = _read(four_regions)
    is_held = video.seconds <= UNTIL_S + 0.5
    assert 0 < is_held.sum() < len(is_held)
    expected = np.stack([is_held, np.zeros_like(is_held), is_held, is_held], axis=1)  # left, right, held, hands
    np.testing.assert_array_equal(video.has_region, expected)


def test_where_there_is_no_box_the_features_are_those_of_the_whole_frame(four_regions, whole):
    video = _read(four_regions)
    cells = video.features.reshape(len(video.features), 2, 4, -1)
    assert video.views == whole.views
    for region in range(4):
        is_lacking = ~video.has_region[:, region]
        np.testing.assert_array_equal(cells[is_lacking, :, region], whole.features[is_lacking])
        assert (cells[~is_lacking, :, region] != whole.features[~is_lacking]).any(axis=2).all()


def test_a_region_is_what_the_backbone_makes_of_that_part_of_the_frame(four_regions, dataset):
    """By a plain loop: decode, turn, crop, resize, normalise, run; as torchvision would be used by hand."""
    video, entry = _read(four_regions), get("tiny_cnn")
    network, _ = load_backbone(entry, str(WEIGHTS))
    decoded = [np.rot90(frame, 2).copy() for _, frame in decode_all(dataset / "videos" / "P01_101.mp4")]
    union = np.array([*HAND[:2], *HELD[2:]])
    for region, box in ((0, np.array(HAND)), (2, np.array(HELD)), (3, union)):
        margin = 0.25 * (box[2:] - box[:2])
        square = pixel_box([*(box[:2] - margin), *(box[2:] + margin)], (HEIGHT, WIDTH))
        for row in np.flatnonzero(video.has_region[:, region]):
            rgb = torch.from_numpy(decoded[video.frame[row]]).permute(2, 0, 1)
            part = F.crop(rgb, square.top, square.left, square.height, square.width)
            part = F.resize(part, list(entry.preprocess.resize), antialias=True) / 255
            for view, picture in enumerate((part, part.flip(-1))):
                x = F.normalize(picture, entry.preprocess.mean, entry.preprocess.std)
                expected = steps(network, x[None, :, None], MEAN).flatten().numpy()
                found = video.features[row, view].reshape(4, -1)[region]
                assert np.abs(found - expected).mean() < 0.03 * np.abs(expected).mean() + 0.01


def test_a_clip_has_one_box_the_union_over_its_frames(dataset, tmp_path):
    moving = [
        message("P01_101", number, [Hand((0.0, 0.0, 0.25, 0.25), 0.9, 0, 0)])
        if number <= 50
        else message("P01_101", number, [Hand((0.25, 0.25, 0.5, 0.5), 0.9, 0, 0)])
        for number in range(1, 101)
    ]
    still = [message("P01_101", number, [Hand((0.0, 0.0, 0.5, 0.5), 0.9, 0, 0)]) for number in range(1, 101)]
    rows = read_segments(annotate(tmp_path / "one.csv", {"P01_101_0": (0.1, 1.9)}))
    found = []
    for name, messages in (("moving", moving), ("still", still)):
        write_detections(tmp_path / name / "boxes" / "P01_101.pkl", messages)
        out = tmp_path / f"out-{name}"
        options = {"backbone": "r2plus1d_18", "weights": "random:0", "num_frames": 16, "clip": "spread", "workers": 1}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            extract_videos(rows, dataset / "videos", out, regions="hands", boxes=tmp_path / name / "boxes", **options)
        found.append(_read(out))
    assert found[0].has_region.shape == (len(found[0].features), 1)
    np.testing.assert_array_equal(found[0].features, found[1].features)


# ---- more than one run


def test_a_finished_set_gains_the_mirrored_view(dataset, four_regions, tmp_path):
    _extract(dataset, tmp_path, "hands+objects")
    assert _extract(dataset, tmp_path, "hands+objects", views="centre,flip").done == 2
    np.testing.assert_array_equal(_read(tmp_path).features, _read(four_regions).features)
    np.testing.assert_array_equal(_read(tmp_path).has_region, _read(four_regions).has_region)


def test_other_boxes_other_regions_and_whole_frames_are_not_mixed_in(dataset, tmp_path):
    _extract(dataset, tmp_path, "hands")
    assert _extract(dataset, tmp_path, "hands").kept == 2
    with pytest.raises(DataError, match=r"P01_101\.h5: made with other boxes than those of --boxes"):
        _extract(dataset, tmp_path, "hands", boxes="moved/boxes")
    with pytest.raises(DataError, match=r"holds other features .*regions is .*epic:moved"):
        _extract(dataset, tmp_path, "hands", boxes="moved")
    with pytest.raises(DataError, match=r"holds other features .*min_score"):
        _extract(dataset, tmp_path, "hands", min_score=0.6)
    with pytest.raises(DataError, match="holds other features"):
        _extract(dataset, tmp_path, None)


# ---- what is missing


def test_a_video_without_boxes_is_a_recorded_failure_and_the_rest_goes_on(dataset, tmp_path):
    rows = read_segments(annotate(tmp_path / "two.csv", {**SEGMENTS, "P02_01_0": (0.1, 0.9), "P03_01_0": (0.1, 0.9)}))
    videos, boxes = tmp_path / "videos", tmp_path / "boxes"
    videos.mkdir()
    boxes.mkdir()
    for name in ("P01_101", "P02_01", "P03_01"):
        (videos / f"{name}.mp4").symlink_to(dataset / "videos" / "P01_101.mp4")
    (boxes / "P01_101.pkl").symlink_to(dataset / "boxes" / "P01_101.pkl")
    (boxes / "P03_01.pkl").write_bytes(b"cut short")
    options = {"backbone": "tiny_cnn", "weights": str(WEIGHTS), "num_frames": 4, "workers": 1}
    summary = extract_videos(rows, videos, tmp_path / "out", regions="hands", boxes=boxes, **options)
    assert (summary.done, summary.failed) == (2, 2)
    [missing], [damaged] = (read_failures(tmp_path / "out", name) for name in ("P02_01", "P03_01"))
    assert (str(missing.error), missing.message) == ("NoBoxes", f"{boxes}: holds no boxes of P02_01.")
    assert str(damaged.error) == "NoBoxes"
    assert "P03_01.pkl" in damaged.message


def test_views_that_move_the_crop_are_refused(dataset, tmp_path):
    with pytest.raises(OptionError, match="--views: early is none of regions"):
        _extract(dataset, tmp_path, "hands", views="centre,early")


# ---- the contact sheet


def test_a_contact_sheet_shows_frames_and_regions(dataset, tmp_path):
    words = ("show", dataset / "videos", "--segment", "P01_101_1", "--annotations", dataset / "segments.csv")
    options = ("--boxes", dataset / "boxes", "--backbone", "tiny_cnn", "--frames", 4, "-o", tmp_path / "sheet.png")
    printed = output_here(main, *words, *options)
    assert [line.split()[1:] for line in printed.splitlines()[1:]] == [["left,", "held,", "hands"]] * 3 + [["-"]]
    [(_, pixels)] = decode_all(tmp_path / "sheet.png")
    sheet = torch.from_numpy(pixels).permute(2, 0, 1)
    height, width = 48, 80
    assert sheet.shape == (3, (height + 8) * 4 + round(width / WIDTH * HEIGHT) + 8, 4 * (width + 8))
    is_red = (sheet[0].int() - sheet[1].int()) > 150
    cells = is_red[-(height + 8) * 4 :].unflatten(0, (4, -1)).unflatten(2, (4, -1)).sum(dim=(1, 3)) > 20
    # Regions by frames: no right hand at all, and nothing in the last frame.
    assert cells.tolist() == [[False] * 3 + [True], [True] * 4, [False] * 3 + [True], [False] * 3 + [True]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"--segment": "P01_101_7"}, "has no segment P01_101_7"),
        ({"--regions": "feet"}, "no regions 'feet'"),
        ({"--boxes": "nowhere"}, "no such folder or table of boxes"),
    ],
)
def test_what_cannot_be_shown_is_said(dataset, tmp_path, changes, reason):
    options = {"--segment": "P01_101_1", "--boxes": dataset / "boxes", "--annotations": dataset / "segments.csv"}
    words = [word for pair in {**options, **changes, "-o": tmp_path / "sheet.png"}.items() for word in pair]
    with pytest.raises(Exception, match=reason):
        output_here(main, "show", dataset / "videos", *words)
