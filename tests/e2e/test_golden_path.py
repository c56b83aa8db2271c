"""The smallest path gives what it gave when it was last stored: no change of the code's shape changes a result."""

from __future__ import annotations

import json

import numpy as np
import pytest
from golden_path import RECORD, digest_of, machine, run_smallest_path, values_of


@pytest.fixture(scope="module")
def arrays(tmp_path_factory) -> dict[str, np.ndarray]:
    return run_smallest_path(tmp_path_factory.mktemp("golden"))


def test_results_are_those_that_were_stored(arrays):
    record = json.loads(RECORD.read_text())
    assert sorted(arrays) == sorted(record["arrays"])
    same_machine = machine() == record["machine"]
    for name, array in arrays.items():
        expected = record["arrays"][name]
        if same_machine:
            assert digest_of(array) == expected["digest"], f"{name}: not the same bits"
        np.testing.assert_allclose(values_of(array), expected["values"], rtol=1e-5, atol=1e-5, err_msg=name)
