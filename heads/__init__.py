"""Stage 2: feature sets in; trained heads, predictions and submissions out. Needs neither av nor torchvision.

The functions of heads/api.py are the way in from Python. They are loaded when first used, so `import heads` is instant:

    import heads

    heads.train(head="bilstm", features="features/videomae_b_k400-seg16", annotations="annotations", seeds=[0, 1, 2])
    for row in heads.evaluate():
        print(row.name, row.figures["action@1"])
    heads.ensemble()
    heads.submit()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heads.api import (
        check_submission,
        compare,
        ensemble,
        evaluate,
        make_report,
        plan_grid,
        predict_run,
        submit,
        train,
        train_grid,
    )

__all__ = [
    "check_submission",
    "compare",
    "ensemble",
    "evaluate",
    "make_report",
    "plan_grid",
    "predict_run",
    "submit",
    "train",
    "train_grid",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("heads.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
