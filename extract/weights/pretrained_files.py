"""Names of the weight files that `save_pretrained` of transformers writes. Loads no torch."""

from __future__ import annotations

from pathlib import Path

from features.errors import DataError
from features.files import read_json

# As current and earlier versions of transformers write them; the first that exists is taken.
PRETRAINED_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def part_names(path: Path) -> list[str]:
    """Return the names of the files that hold the weights: the file's own name, or the parts that an index lists.

    Raises:
        DataError: the path is an index that cannot be read as one.
    """
    if not path.name.endswith(".index.json"):
        return [path.name]
    record = read_json(path)
    names = record.get("weight_map") if isinstance(record, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()) or not names:
        raise DataError(f"{path}: not an index of weights: it has no weight_map.")
    return sorted({Path(name).name for name in names.values()})  # the parts lie beside the index, whatever it says
