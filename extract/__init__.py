"""Stage 1: videos and annotations in, feature sets out. Needs av and torchvision (the `extract` extra).

    import extract

    extract.run(annotations="data/annotations", videos="data/videos", backbone="videomae", out="data/features/videomae")

Names are loaded when they are first used, so that `import extract` loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from extract.extraction import Summary, run

__all__ = ["Summary", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from extract import extraction

    return getattr(extraction, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
