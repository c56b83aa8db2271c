"""Draw the picture of docs/watch.md: a frame of the demo's miniature as the window of `heads watch` shows it.

python tests/support/watch_picture.py demo docs/watch.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from live.pictures import pictures_of
from live.watch import Annotated, watch_video

_VIDEO, _SECOND, _SCALE = "P01_07", 14.5, 4


def main(demo: Path, out: Path) -> None:
    """Write the picture, from the folder of a finished demo."""
    watched = watch_video(demo / "runs" / "multiscale_ensemble", next(demo.rglob(f"{_VIDEO}.mp4")), device="cpu")
    second, picture = next(shown for shown in pictures_of(watched.info) if shown[0] >= _SECOND)
    drawn = Image.fromarray(Annotated(watched, scale=_SCALE).picture(second, picture))
    drawn.quantize(128).save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
