"""Stage 2: feature sets in; trained heads, predictions and submissions out. Needs neither av nor torchvision.

The functions of heads/api/ are the way in from Python. They are loaded when first used, so `import heads` is instant:

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
    from heads.api.ensembles import ensemble
    from heads.api.grids import plan_grid, train_grid
    from heads.api.runs import predict_run, train
    from heads.api.scores import compare, evaluate, make_report
    from heads.api.submissions import check_submission, submit

_MODULES = {
    "check_submission": "submissions",
    "compare": "scores",
    "ensemble": "ensembles",
    "evaluate": "scores",
    "make_report": "scores",
    "plan_grid": "grids",
    "predict_run": "runs",
    "submit": "submissions",
    "train": "runs",
    "train_grid": "grids",
}
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
    if name in _MODULES:
        return getattr(importlib.import_module(f"heads.api.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
