"""The commands of a demo, once more."""

from __future__ import annotations

import re
from pathlib import Path

from shell import output_here

import extract.cli
import features.cli
import heads.cli

_PROGRAMS = {"extract": extract.cli.main, "features": features.cli.main, "heads": heads.cli.main}
_PLACES = ("annotations", "videos", "features", "runs")


def repeated(output: str, folder: Path) -> list[str]:
    """Run each command of this project that a demo printed once more; return the words after the program's name.

    In this process: each of its own would load torch.
    """
    places = {f"EPIC_{name.upper()}": folder / name for name in _PLACES}
    commands = re.findall(r"^\$ (extract|features|heads) (.*?)(?: > .*)?$", output, flags=re.MULTILINE)
    for program, words in commands:
        output_here(_PROGRAMS[program], *words.split(), **places)
    return [words for _, words in commands]
