"""What a backbone takes in: the shape of its clips and the preprocessing of its frames.

Loads neither torch nor a library, so that records of backbones can be listed at once. extract/preprocess.py applies the
preprocessing and extract/sampling.py chooses the frames of each clip.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class ClipShape:
    """How many frames a backbone takes in one forward pass, and how many steps it gives.

    Attributes:
        num_frames: L, frames per clip; 1 for an image backbone.
        fps: frames per second within a clip; None for an image backbone.
        num_steps: P, rows of features per clip; L is a multiple of it.
        spread: whether the clips of a segment have no rate, but spread their frames evenly over it, however long it is.
            `fps` is then for clips of no segment, which cover a whole video.
    """

    num_frames: int = 1
    fps: float | None = None
    num_steps: int = 1
    spread: bool = False

    def __post_init__(self) -> None:
        assert self.num_frames % self.num_steps == 0
        assert (self.fps is None) == (self.num_frames == 1)
        assert not self.spread or self.num_frames > 1


@dataclass(frozen=True)
class Preprocess:
    """How a backbone's frames are resized, cropped and normalised, as its publisher does it.

    Attributes:
        resize: pixels of the shorter side, or (height, width).
        crop: (height, width) of the centre crop after that; None for no crop. The crop lies inside every resized
            picture, so that no padding is needed: which value is black depends on the video.
        mean, std: per channel, for values in 0..1.
        antialias: whether the resize averages the pixels that it leaves out.
        interpolation: torchvision's name of the interpolation.
        channels: the order in which the network takes the channels; `mean` and `std` are in this order.
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int] | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    antialias: bool = True
    interpolation: str = "bilinear"
    channels: Literal["RGB", "BGR"] = "RGB"

    def __post_init__(self) -> None:
        height, width = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        if self.crop is not None and (self.crop[0] > height or self.crop[1] > width):
            raise ValueError(f"Preprocess: crop {self.crop} does not fit into every picture resized to {self.resize}.")

    def as_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values for featureset.json, with the rounding that `scaled` adds to it.

        RGB is left out, so that the record of a feature set that was made before BGR was possible stays the same.
        """
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        if self.channels == "RGB":
            del values["channels"]
        return {**values, "scaled_as": "yuv420p, rounded to 8 bits"}


# Channel means and deviations of ImageNet, which many publishers use.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Those of Facebook's video networks.
GREY_MEAN = (0.45, 0.45, 0.45)
GREY_STD = (0.225, 0.225, 0.225)
# Those of CLIP.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# AVION and LaViLa trained with 108.3 of 255 for the red of CLIP, which is 122.8.
SWAPPED_CLIP_MEAN = (108.3272985 / 255, *CLIP_MEAN[1:])
