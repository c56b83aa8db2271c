"""What the heads' tests share: a synthetic feature set, made once, and the command line in this process."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner, Result
from synthetic import Synthetic, write_synthetic

from features.annotations import find_splits
from heads.cli import main
from heads.config import TrainConfig
from heads.data.load import TrainData, load_train_data


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Compute on one thread, here and in processes started from here: networks as small as these only wait on more."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory) -> Synthetic:
    """The synthetic dataset; read it, never write into it."""
    return write_synthetic(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture(scope="session")
def larger_synthetic(tmp_path_factory) -> Synthetic:
    """A synthetic dataset whose epochs are long enough to cut a run off in one; read it, never write into it."""
    return write_synthetic(tmp_path_factory.mktemp("larger"), train=40, validation=12, test=4)


@pytest.fixture(scope="session")
def train_data(synthetic) -> TrainData:
    """Its three splits with their features, in memory."""
    files = find_splits(synthetic.annotations)
    config = TrainConfig("mean_pool")
    return load_train_data([synthetic.featureset], files, config, allow_missing=False, device=torch.device("cpu"))


@pytest.fixture
def heads(tmp_path, monkeypatch):
    """Run `heads ...` in this process, in an empty folder. Whatever else than an exit code comes out is an error."""
    monkeypatch.chdir(tmp_path)
    for name in ("EPIC_ANNOTATIONS", "EPIC_FEATURES", "EPIC_RUNS"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
