"""Frames of real files: their times, exactly the wanted ones, and what comes of files that are damaged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from encode import (
    cut,
    damage_packet,
    decode_all,
    number_in,
    number_picture,
    planes_of_all,
    turn_video,
    without_start,
    write_sound,
    write_video,
)
from odd_videos import later, one_after_the_other, pictures_shown, rewritten

from extract.backbone_input import Preprocess
from extract.decode import video as video_module
from extract.decode.container import VideoError
from extract.decode.planes import BT601, BT709, Colour, PlaneBatch
from extract.decode.probing import VideoInfo, probe
from extract.decode.video import decode, decode_task
from extract.preprocess import scaled

UNEVEN = np.cumsum(np.random.default_rng(0).integers(300, 3000, 60)).tolist()  # in 1/30000 s, first not at 0
KINDS = {
    "h264": {"codec": "libx264"},
    "hevc": {"codec": "libx265"},
    "mpeg4": {"codec": "mpeg4"},
    "h264 at 59.94 fps": {"fps": Fraction(60000, 1001)},
    "hevc at 29.97 fps": {"codec": "libx265", "fps": Fraction(30000, 1001)},
    "h264 in mkv": {"ending": "mkv"},
    "h264 without B-frames": {"b_frames": 0},
    "h264, uneven": {"pts": UNEVEN, "time_base": Fraction(1, 30000)},
    "hevc, uneven": {"codec": "libx265", "pts": UNEVEN, "time_base": Fraction(1, 30000)},
    "mpeg4, uneven": {"codec": "mpeg4", "pts": UNEVEN, "time_base": Fraction(1, 30000)},
    "h264, index first": {"container_options": {"movflags": "faststart"}},
    "h264, first frame at 0.8 s": {"pts": range(24, 84)},
    "h264 of one frame": {"num_frames": 1},
}
CODECS = {"h264": "libx264", "hevc": "libx265", "mpeg4": "mpeg4"}
GOP = 12


@dataclass(frozen=True)
class _Video:
    path: Path
    seconds: np.ndarray  # by a full decode
    pictures: list[list[np.ndarray]]  # planes


@pytest.fixture(scope="module", params=KINDS)
def video(request, tmp_path_factory) -> _Video:
    options = dict(KINDS[request.param])
    path = tmp_path_factory.mktemp("video") / f"P01_01.{options.pop('ending', 'mp4')}"
    write_video(path, **options)
    return _Video(path, np.array([second for second, _ in decode_all(path)]), planes_of_all(path))


def _decoded(info: VideoInfo, frames: np.ndarray | None = None) -> dict[int, list[np.ndarray]]:
    """Return the planes of the wanted frames (all by default), in the order in which they are decoded."""
    frames = np.arange(len(info.pts)) if frames is None else np.asarray(frames)
    return {
        frame: [planes.y.copy(), planes.u.copy(), planes.v.copy()]
        for frame, planes in decode(decode_task(info, frames))
    }


def _same(actual: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    return all(np.array_equal(*pair) for pair in zip(actual, expected, strict=True))


def test_encoder_paints_numbers_that_can_be_read(video):
    # Of the helper, on which the tests below rest.
    assert [number_in(picture[0]) for picture in video.pictures] == list(range(len(video.pictures)))


def test_probe_gives_the_times_of_a_full_decode(video):
    np.testing.assert_allclose(probe(video.path).seconds, video.seconds, rtol=0, atol=1e-9)


def test_probe_says_what_the_picture_is(video):
    info = probe(video.path)
    assert (info.width, info.height) == (64, 48)
    assert not info.is_truncated


def test_decode_gives_exactly_the_wanted_frames(video):
    info = probe(video.path)
    frames = np.union1d([0], np.flatnonzero(np.random.default_rng(1).random(len(info.pts)) < 0.3))
    assert [(frame, number_in(picture[0])) for frame, picture in _decoded(info, frames).items()] == [
        (n, n) for n in frames
    ]


def test_decode_gives_the_pixels_of_a_full_decode(video):
    info = probe(video.path)
    pictures = _decoded(info)
    assert sorted(pictures) == list(range(len(video.pictures)))
    for frame, picture in pictures.items():
        assert _same(picture, video.pictures[frame])


def test_decode_of_the_last_frame_alone_gives_it(video):
    info = probe(video.path)
    last = len(info.pts) - 1
    assert [number_in(picture[0]) for picture in _decoded(info, [last]).values()] == [last]


@pytest.mark.parametrize(
    ("fps", "expected"), [(Fraction(60000, 1001), 59.94), (Fraction(30000, 1001), 29.97), (50, 50.0)]
)
def test_fps_is_the_files(tmp_path, fps, expected):
    assert probe(write_video(tmp_path / "P01_01.mp4", fps=fps)).fps == pytest.approx(expected, abs=0.001)


def test_hidden_start_is_neither_counted_nor_given(tmp_path):
    full_video = write_video(tmp_path / "whole.mp4", gop=30)
    info = probe(without_start(full_video, tmp_path / "P01_01.mp4", num_frames=10, fps=30))
    numbers = [(frame, number_in(picture[0])) for frame, picture in _decoded(info).items()]
    assert numbers == [(frame, frame + 10) for frame in range(50)]


def test_complete_video_with_a_hidden_start_is_not_called_truncated(tmp_path):
    full_video = write_video(tmp_path / "whole.mp4", gop=30)
    assert not probe(without_start(full_video, tmp_path / "P01_01.mp4", num_frames=10, fps=30)).is_truncated


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_frames_before_time_0_are_neither_counted_nor_given(tmp_path, ending):
    path = write_video(
        tmp_path / f"P01_01.{ending}", pts=range(-10, 50), container_options={"avoid_negative_ts": "disabled"}
    )
    info = probe(path)
    assert info.seconds[0] == 0
    numbers = [(frame, number_in(picture[0])) for frame, picture in _decoded(info).items()]
    assert numbers == [(frame, frame + 10) for frame in range(50)]


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_pictures_come_upright(tmp_path, rotation):
    # The same turn as the `ffmpeg` program makes.
    path = write_video(tmp_path / "plain.mp4")
    pictures = planes_of_all(path)
    for frame, picture in _decoded(probe(turn_video(path, tmp_path / "turned.mp4", rotation))).items():
        assert _same(picture, [np.rot90(plane, rotation // 90) for plane in pictures[frame]])


def test_turn_by_no_right_angle_is_refused_by_name(tmp_path):
    path = turn_video(write_video(tmp_path / "plain.mp4"), tmp_path / "P01_01.mp4", 30)
    with pytest.raises(VideoError, match=r"P01_01\.mp4: .* (29|30) degrees"):
        _decoded(probe(path))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, BT601),
        ({"colorspace": 1, "color_range": 1}, BT709),
        ({"colorspace": 5, "color_range": 2}, replace(BT601, full_range=True)),
        ({"colorspace": 9, "color_range": 1}, Colour(0.2627, 0.0593, full_range=False)),
    ],
    ids=["no tags", "BT.709", "BT.601, full range", "BT.2020"],
)
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_colours_are_those_that_the_file_names(tmp_path, codec, tags, expected):
    assert probe(write_video(tmp_path / "P01_01.mp4", codec=codec, tags=tags)).colour == expected


# ---- files that begin late, and pictures of several sizes


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_times_are_counted_from_the_first_frame_if_that_is_late(tmp_path, codec, ending):
    plain = write_video(tmp_path / f"plain.{ending}", codec=codec)
    path = rewritten(plain, tmp_path / f"P01_01.{ending}", later(3600))
    info = probe(path)
    np.testing.assert_allclose(info.seconds, np.arange(60) / 30, atol=0.0011)
    assert float(info.source["counted_from_s"]) == pytest.approx(3600, abs=0.1)
    assert [number_in(picture[0]) for picture in _decoded(info).values()] == list(range(60))


def test_times_near_zero_are_the_files(tmp_path):
    info = probe(write_video(tmp_path / "P01_01.mp4", pts=range(30, 90)))
    assert info.seconds[0] == 1
    assert "counted_from_s" not in info.source


@pytest.mark.parametrize("codec", ["libx264", "libvpx"])
def test_pictures_whose_size_changes_come_in_their_sizes(tmp_path, codec):
    ending = {"libx264": "ts", "libvpx": "webm"}[codec]
    small = write_video(tmp_path / f"small.{ending}", codec=codec)
    large = write_video(
        tmp_path / f"large.{ending}", codec=codec, picture=lambda number: number_picture(number + 60).repeat(2, 0)
    )
    path = one_after_the_other([small, large], tmp_path / f"P01_01.{ending}")
    pictures = pictures_shown(path)
    assert {picture[0].shape for picture in pictures} == {(48, 64), (96, 64)}
    decoded = _decoded(probe(path))
    assert list(decoded) == list(range(120))
    assert all(_same(decoded[frame], pictures[frame]) for frame in decoded)


def test_picture_that_fits_no_buffer_is_averaged(tmp_path, monkeypatch):
    path = write_video(tmp_path / "P01_01.mp4", num_frames=2, picture=lambda _: _smooth(720, 1280))
    [whole, _] = _decoded(probe(path)).values()
    monkeypatch.setattr(video_module, "MAX_PICTURE_BYTES", 400_000)
    [small, _] = _decoded(probe(path)).values()
    # As much smaller as 8K is than the input of a backbone.
    recipe = Preprocess(42, (42, 42), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert small[0].shape == (360, 640)
    levels = [scaled(_batch(planes), recipe, torch.device("cpu")).int() for planes in (whole, small)]
    assert (levels[0] - levels[1]).abs().max() <= 2


def _smooth(height: int, width: int) -> np.ndarray:
    """Return a picture with details of all sizes, (height, width, 3) uint8."""
    rng = np.random.default_rng(0)
    parts = [rng.normal(0, 20, (height // s, width // s, 3)).repeat(s, 0).repeat(s, 1) for s in (4, 8, 16, 40, 80)]
    return (128 + sum(parts)).clip(0, 255).astype(np.uint8)


def _batch(planes: list[np.ndarray]) -> PlaneBatch:
    return PlaneBatch(planes[0][None], np.stack(planes[1:])[None])


# ---- long files


@pytest.fixture(scope="module", params=["h264 mp4", "hevc mp4", "h264 mkv"])
def long_video(request, tmp_path_factory) -> _Video:
    """A video of which the later part is sought."""
    codec, ending = request.param.split()
    path = tmp_path_factory.mktemp("long") / f"P01_01.{ending}"
    write_video(path, codec={"h264": "libx264", "hevc": "libx265"}[codec], num_frames=1500, gop=30)
    return _Video(path, np.array([]), planes_of_all(path))


def test_frames_that_are_sought_are_those_of_a_full_decode(long_video):
    info = probe(long_video.path)
    for first in (1010, 1049, 1050, 1051, 1200, 1499):
        frames = np.unique(np.clip([first, first + 7, first + 31], None, 1499))
        pictures = _decoded(info, frames)
        assert list(pictures) == frames.tolist()
        assert all(_same(picture, long_video.pictures[frame]) for frame, picture in pictures.items())


def test_seeking_saves_reading_what_lies_before(long_video):
    packets = []
    list(decode(decode_task(probe(long_video.path), np.array([1400])), on_packet=lambda: packets.append(1)))
    assert len(packets) < 100


def test_file_without_an_index_gives_the_same(tmp_path):
    path = write_video(tmp_path / "P01_01.mkv", num_frames=1500, gop=30, container_options={"live": "1"})
    [(frame, planes)] = decode(decode_task(probe(path), np.array([1400])))
    assert (frame, number_in(planes.y)) == (1400, 1400)


def test_file_that_cannot_be_sought_in_is_read_from_its_start(long_video):
    packets = []
    task = replace(decode_task(probe(long_video.path), np.array([1400])), can_seek=False)
    [(frame, planes)] = decode(task, on_packet=lambda: packets.append(1))
    assert (frame, number_in(planes.y)) == (1400, 1400)
    assert len(packets) > 1390


def test_file_that_has_changed_since_it_was_probed_gives_no_wrong_frame(tmp_path):
    path = write_video(tmp_path / "P01_01.mp4")
    info = probe(path)
    write_video(path, pts=range(7, 67))
    assert set(_decoded(info)) == set()


# ---- files that are damaged


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 5000, b"narration_id,video_id\nP01_01_0,P01_01\n" * 50, np.random.default_rng(0).bytes(5000)],
    ids=["empty", "zeros", "text", "noise"],
)
def test_file_that_is_no_video_is_refused_by_name(tmp_path, content):
    path = tmp_path / "P01_01.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"P01_01\.mp4"):
        probe(path)


def test_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(VideoError, match=r"P01_01\.mp4"):
        probe(tmp_path / "P01_01.mp4")


def test_sound_alone_is_refused_as_that(tmp_path):
    with pytest.raises(VideoError, match="no video stream"):
        probe(write_sound(tmp_path / "P01_01.mp4"))


def test_video_without_frames_is_refused(tmp_path):
    with pytest.raises(VideoError, match=r"P01_01\.mp4"):
        probe(write_video(tmp_path / "P01_01.mp4", num_frames=0))


def test_mp4_cut_before_its_index_is_refused(tmp_path):
    path = write_video(tmp_path / "P01_01.mp4")  # the index lies at the end
    cut(path, share=0.6)
    with pytest.raises(VideoError, match=r"P01_01\.mp4"):
        probe(path)


def test_mp4_cut_after_its_index_is_called_truncated(tmp_path):
    path = write_video(tmp_path / "P01_01.mp4", container_options={"movflags": "faststart"})
    cut(path, share=0.6)
    info = probe(path)
    assert 10 < len(info.pts) < 60
    assert info.is_truncated


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_frames_before_the_cut_come_whole(tmp_path, codec):
    path = write_video(tmp_path / "P01_01.mp4", codec=codec, container_options={"movflags": "faststart"}, gop=GOP)
    pictures = planes_of_all(path)
    cut(path, share=0.8)
    info = probe(path)
    decoded = _decoded(info)
    complete_frames = range((len(info.pts) - 1) // GOP * GOP)  # the groups before the one that is cut
    assert len(complete_frames) >= GOP
    for frame in complete_frames:
        assert _same(decoded[frame], pictures[frame])


# A codec, its B-frames, and a frame in the middle of the group 24..35 from which others are predicted.
DAMAGES = {
    "h264": ("libx264", 0, 31),
    "h264 with B-frames": ("libx264", 2, 34),
    "hevc": ("libx265", 0, 31),
    "hevc with B-frames": ("libx265", 2, 33),
    "mpeg4": ("mpeg4", 0, 30),
    "mpeg4 with B-frames": ("mpeg4", 2, 33),
}


@dataclass(frozen=True)
class _DamagedVideo:
    path: Path
    frame: int
    pictures: list[list[np.ndarray]]  # as they were before


@pytest.fixture(params=DAMAGES)
def damaged_video(request, tmp_path) -> _DamagedVideo:
    codec, b_frames, frame = DAMAGES[request.param]
    path = write_video(tmp_path / "P01_01.mp4", codec=codec, gop=GOP, b_frames=b_frames)
    pictures = planes_of_all(path)
    damage_packet(path, frame)
    return _DamagedVideo(path, frame, pictures)


def test_damage_costs_no_frame_outside_its_group(damaged_video):
    info = probe(damaged_video.path)
    pictures = _decoded(info)
    for frame in [*range(24), *range(36, 60)]:
        assert _same(pictures[frame], damaged_video.pictures[frame])


def test_damaged_frame_does_not_come(damaged_video):
    info = probe(damaged_video.path)
    assert damaged_video.frame not in _decoded(info)


def test_no_frame_comes_that_was_predicted_from_a_damaged_one(damaged_video):
    info = probe(damaged_video.path)
    pictures = _decoded(info)
    assert [frame for frame in pictures if not _same(pictures[frame], damaged_video.pictures[frame])] == []


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_damage_near_the_end_costs_no_frame_that_is_whole(tmp_path, codec):
    # A decoder holds frames back, and gives the last of them only once the file has ended.
    path = write_video(tmp_path / "P01_01.mp4", codec=codec, gop=1, b_frames=0)  # each frame by itself
    damage_packet(path, 58)
    info = probe(path)
    assert list(_decoded(info)) == [*range(58), 59]


def test_title_that_is_not_utf8_does_not_matter(tmp_path):
    path = write_video(tmp_path / "P01_01.mp4")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"VideoHandler", b"Vid\xe9oHandler"))  # latin-1, as old cameras write
    assert path.read_bytes() != content
    assert len(probe(path).pts) == 60


def test_codec_that_nobody_knows_is_refused_by_name(tmp_path):
    path = write_video(tmp_path / "P01_01.mp4")
    content = path.read_bytes()
    assert content.count(b"avc1") >= 1
    path.write_bytes(content.replace(b"avc1", b"zzz1"))
    with pytest.raises(VideoError, match=r"P01_01\.mp4"):
        _decoded(probe(path), [0])


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_noise_anywhere_gives_frames_or_a_named_error(tmp_path, codec):
    original = write_video(tmp_path / "whole.mp4", codec=codec, num_frames=20, gop=6).read_bytes()
    path = tmp_path / "P01_01.mp4"
    for seed in range(40):
        rng = np.random.default_rng(seed)
        content = bytearray(original)
        for position in rng.integers(len(content) - 1200, len(content), 3):  # mostly in the index, at the end
            content[position] = rng.integers(256)
        path.write_bytes(content)
        try:
            info = probe(path)
            frames = list(_decoded(info))
        except VideoError:
            continue
        assert set(frames) <= set(range(len(info.pts)))


def test_painted_video_is_what_pyav_says_it_is(tmp_path):
    # Of the helper: there are B-frames, so that the order of packets is not that of frames.
    with av.open(str(write_video(tmp_path / "P01_01.mp4"))) as container:
        pts = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    assert pts != sorted(pts)


def test_decoder_that_cannot_start_comes_to_an_end(tmp_path):
    path = write_video(tmp_path / "P01_01.mp4", codec="libx265")
    info = probe(path)
    content = bytearray(path.read_bytes())
    start = content.index(b"hvcC") + 4  # the decoder's own settings; with these broken it reports damage for ever
    content[start : start + 24] = b"\xff" * 24
    path.write_bytes(content)
    try:
        frames = list(_decoded(info))
    except VideoError:
        frames = []
    assert frames == []
