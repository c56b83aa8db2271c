"""The smallest path gives what it gave when it was last stored: no change of the code's shape changes a result."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from golden_path import RECORD, digest_of, machine, run_smallest_path, values_of
from torchvision.transforms.v2 import functional as F

# What torch 2.14 gives.
_SUM_OF_RESIZED = 2062833


@pytest.fixture(scope="module")
def arrays(tmp_path_factory) -> dict[str, np.ndarray]:
    return run_smallest_path(tmp_path_factory.mktemp("golden"))


def _rounds_as_stored() -> bool:
    """Whether pictures are resized as they were: torch 2.1 rounds some values of uint8 to the next level."""
    picture = torch.arange(3 * 4 * 48 * 64).remainder(251).to(torch.uint8).view(3, 4, 48, 64)
    return int(F.resize(picture, [32, 43], antialias=True).sum()) == _SUM_OF_RESIZED


def test_results_are_those_that_were_stored(arrays):
    record = json.loads(RECORD.read_text())
    assert sorted(arrays) == sorted(record["arrays"])
    same_machine, rounds_as_stored = machine() == record["machine"], _rounds_as_stored()
    for name, array in arrays.items():
        if not rounds_as_stored:
            # Then runs are trained on other features, so only the features themselves can be compared.
            if name.startswith(("features/", "dense/")):
                np.testing.assert_allclose(values_of(array), record["arrays"][name]["values"], atol=0.01, err_msg=name)
            continue
        expected = record["arrays"][name]
        if same_machine:
            assert digest_of(array) == expected["digest"], f"{name}: not the same bits"
        # Runs that are trained on another CPU differ by up to 3.5e-5 in their logits.
        np.testing.assert_allclose(values_of(array), expected["values"], rtol=1e-5, atol=1e-4, err_msg=name)
