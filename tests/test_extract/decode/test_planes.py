"""The colours of planes are those of ITU-T H.273, as the published tables and libswscale have them."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from extract.decode.planes import BT601, BT709, Colour, PlaneBatch, Planes

FULL_BT601, FULL_BT709 = (Colour(colour.kr, colour.kb, full_range=True) for colour in (BT601, BT709))
# The full bars in 8 bits, as ITU-R BT.601 and BT.709 quantise them.
BARS = {
    "white": ((255, 255, 255), (235, 128, 128), (235, 128, 128)),
    "yellow": ((255, 255, 0), (210, 16, 146), (219, 16, 138)),
    "cyan": ((0, 255, 255), (170, 166, 16), (188, 154, 16)),
    "green": ((0, 255, 0), (145, 54, 34), (173, 42, 26)),
    "magenta": ((255, 0, 255), (106, 202, 222), (78, 214, 230)),
    "red": ((255, 0, 0), (81, 90, 240), (63, 102, 240)),
    "blue": ((0, 0, 255), (41, 240, 110), (32, 240, 118)),
    "black": ((0, 0, 0), (16, 128, 128), (16, 128, 128)),
}
# Each chroma sample for its four pixels, rounded to the nearest: SWS_POINT, SWS_ACCURATE_RND, SWS_FULL_CHR_H_INT.
POINT_EXACT = 0x10 | 0x40000 | 0x2000


def _levels(colour: Colour, yuv: np.ndarray) -> np.ndarray:
    """Return RGB in levels of 255, not clamped; the last axis of `yuv` holds Y, U and V."""
    matrix, offset = colour.to_rgb()
    return 255 * (yuv @ matrix.T + offset)


@pytest.mark.parametrize("bar", BARS)
def test_bars_in_limited_range_have_their_colours(bar):
    rgb, in_bt601, in_bt709 = BARS[bar]
    # Half a level of each plane is lost in its 8 bits: up to 0.58 * (1 + 1.86) levels of blue.
    np.testing.assert_allclose(_levels(BT601, np.array(in_bt601)), rgb, atol=1.7)
    np.testing.assert_allclose(_levels(BT709, np.array(in_bt709)), rgb, atol=1.7)


@pytest.mark.parametrize(
    ("colour", "published"),
    [
        (FULL_BT601, [[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]]),  # JFIF 1.02
        (FULL_BT709, [[1, 0, 1.5748], [1, -0.187324, -0.468124], [1, 1.8556, 0]]),
    ],
    ids=["BT.601", "BT.709"],
)
def test_full_range_has_the_published_matrix(colour, published):
    np.testing.assert_allclose(255 * colour.to_rgb()[0], published, atol=1e-6)


@pytest.mark.parametrize("colour", [FULL_BT601, FULL_BT709], ids=["BT.601", "BT.709"])
def test_full_range_spans_black_to_white(colour):
    black_and_white = np.array([[0, 128, 128], [255, 128, 128]])
    np.testing.assert_allclose(_levels(colour, black_and_white), [[0] * 3, [255] * 3], atol=1e-9)


@pytest.mark.parametrize("full_range", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize(("colour", "space"), [(BT601, "ITU601"), (BT709, "ITU709")])
def test_every_colour_is_libswscales(colour, space, full_range):
    height, width = 96, 128
    rng = np.random.default_rng(0)
    # y, and below it u and v; far beyond the legal values, libswscale's sums overflow and white comes out black.
    layers = rng.integers(16, 236, (height * 3 // 2, width), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(layers, format="yuv420p")
    theirs = frame.reformat(
        format="rgb24",
        src_colorspace=Colorspace[space],
        src_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
        interpolation=POINT_EXACT,
    ).to_ndarray()
    chroma = layers[height:].reshape(2, height // 2, width // 2).repeat(2, axis=1).repeat(2, axis=2)
    yuv = np.stack([layers[:height], *chroma], axis=-1)
    ours = _levels(Colour(colour.kr, colour.kb, full_range), yuv).clip(0, 255)
    np.testing.assert_allclose(ours, theirs, atol=0.75)  # half a level, and libswscale's fixed point


def test_records_print_shapes_and_not_values():
    y, uv = np.zeros((5, 7), np.uint8), np.zeros((2, 3, 4), np.uint8)
    assert repr(Planes(y, *uv)) == "Planes(5, 7)"
    assert repr(PlaneBatch(y[None], uv[None])) == "PlaneBatch(1, 5, 7)"
