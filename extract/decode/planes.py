"""Decoded pictures as they leave a decoder: YUV planes, and the numbers that turn them into RGB.

Pictures stay in the codec's colours until they are small. Resizing and the colour matrix are both linear, so their
order matters only for rounding, and a small picture is much cheaper to convert.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Colour:
    """Which colours the values of a video's planes stand for.

    Attributes:
        kr, kb: the weights of red and blue in luma (ITU-T H.273, table 4).
        full_range: luma spans 0..255 instead of 16..235.
    """

    kr: float
    kb: float
    full_range: bool

    def to_rgb(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (3, 3) `matrix` and (3,) `offset`, float64: RGB in 0..1 is matrix @ YUV in 0..255 + offset."""
        kg = 1 - self.kr - self.kb
        matrix = np.array(
            [
                [1, 0, 2 * (1 - self.kr)],
                [1, -2 * (1 - self.kb) * self.kb / kg, -2 * (1 - self.kr) * self.kr / kg],
                [1, 2 * (1 - self.kb), 0],
            ]
        )
        black, luma, chroma = (0, 255, 255) if self.full_range else (16, 219, 224)
        matrix /= np.array([luma, chroma, chroma])
        return matrix, -matrix @ np.array([black, 128, 128])


BT601 = Colour(kr=0.299, kb=0.114, full_range=False)
BT709 = Colour(kr=0.2126, kb=0.0722, full_range=False)


# A picture of 8192 x 4096 pixels; larger ones are handed over at half the size or less.
MAX_PICTURE_BYTES = 48 * 2**20


def planes_bytes(height: int, width: int) -> int:
    """Return the size of the planes of a picture."""
    return height * width + 2 * ((height + 1) // 2) * ((width + 1) // 2)


@dataclass(frozen=True, eq=False)
class Planes:
    """One picture, 4:2:0, upright.

    Attributes:
        y: (H, W) uint8.
        u, v: (ceil(H / 2), ceil(W / 2)) uint8.
    """

    y: np.ndarray
    u: np.ndarray
    v: np.ndarray

    def __repr__(self) -> str:
        return f"Planes{self.y.shape}"


@dataclass(frozen=True, eq=False)
class PlaneBatch:
    """K pictures of one size.

    Attributes:
        y: (K, H, W) uint8.
        uv: (K, 2, ceil(H / 2), ceil(W / 2)) uint8.
    """

    y: np.ndarray
    uv: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        return f"PlaneBatch{self.y.shape}"
