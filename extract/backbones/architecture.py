"""How a network is made, with random weights or with those of a checkpoint: torch modules, and models of transformers.

Knows no architecture by name and no file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from features.errors import DataError


@dataclass(frozen=True)
class Mismatch:
    """What keeps a state dict from fitting a network; all empty where it fits.

    Attributes:
        shapes: parameters of another shape, in words.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: tuple[str, ...]


@dataclass(frozen=True)
class TorchModel:
    """A torch module whose attribute `network` carries the published parameter names, less the classifier.

    Attributes:
        make: gives it with random weights.
    """

    make: Callable[[], nn.Module]

    @property
    def settings(self) -> Mapping[str, Any]:
        """What a config.json beside the weights has to agree with: nothing, as none is published."""
        return {}

    def build(self) -> nn.Module:
        """Give the module with random weights."""
        return self.make()

    def load(self, state: Mapping[str, torch.Tensor]) -> tuple[nn.Module, Mismatch]:
        """Give the module with these weights, of use only where nothing mismatches.

        Raises:
            RuntimeError: values cannot be taken over, such as complex numbers.
        """
        module = self.make()
        expected = module.network.state_dict()
        shapes = [
            _shapes(name, state[name].shape, expected[name].shape)
            for name in sorted(expected.keys() & state.keys())
            if state[name].shape != expected[name].shape
        ]
        missing, unexpected = expected.keys() - state.keys(), state.keys() - expected.keys()
        if not (missing or unexpected or shapes):
            module.network.load_state_dict(state)
        return module, Mismatch(tuple(sorted(missing)), tuple(sorted(unexpected)), tuple(shapes))


@dataclass(frozen=True)
class TransformersModel:
    """A model of the transformers library, with its own loading: parameters have changed names over its versions.

    Attributes:
        model, config: classes of transformers.
        settings: of the configuration, all that the published one has other than by default or that features hang on.
        wrap: turns the model into the module that maps clips to steps; what it removes needs no weights.
        unused: prefixes of parameters of the class that `wrap` removes.
        free: settings that are our own choice, whatever the published configuration says.
    """

    model: str
    config: str
    settings: Mapping[str, Any]
    wrap: Callable[[nn.Module], nn.Module]
    unused: tuple[str, ...] = ()
    free: tuple[str, ...] = ()

    def build(self) -> nn.Module:
        """Give the module with random weights."""
        model, config = self._classes()
        with _quiet():
            return self.wrap(model(config(**self.settings)))

    def load(self, state: Mapping[str, torch.Tensor]) -> tuple[nn.Module, Mismatch]:
        """Give the module with these weights, of use only where nothing mismatches."""
        model, config = self._classes()
        # In half precision as some are published, transformers would compute in half precision.
        state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
        with _quiet():
            network, report = model.from_pretrained(
                None,
                config=config(**self.settings),
                state_dict=state,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        missing = [name for name in report["missing_keys"] if not name.startswith(self.unused or ("\0",))]
        shapes = [_mismatch(key, state, network) for key in report["mismatched_keys"]]
        mismatch = Mismatch(tuple(sorted(missing)), tuple(sorted(report["unexpected_keys"])), tuple(sorted(shapes)))
        return self.wrap(network), mismatch

    def _classes(self) -> tuple[Any, Any]:
        try:
            import transformers  # takes seconds, and a backbone of torchvision does not need it
        except ModuleNotFoundError as error:
            raise DataError(
                f"transformers is not installed, and {self.model} is its: pip install '.[extract]'"
            ) from error
        try:
            return getattr(transformers, self.model), getattr(transformers, self.config)
        except (AttributeError, ImportError) as error:
            raise DataError(
                f"transformers {transformers.__version__} with torch {torch.__version__} has no {self.model}; install "
                "a newer transformers (DINOv3 came with 4.56, V-JEPA 2 with 4.53), or an older one for an old torch."
            ) from error


def _mismatch(key: str | tuple, state: Mapping[str, torch.Tensor], network: nn.Module) -> str:
    """Give in words what transformers reports of a shape that differs: before version 5, the network's name for it."""
    if not isinstance(key, str):
        return _shapes(*key)
    return _shapes(key, state[key].shape, network.state_dict()[key].shape) if key in state else key


def _shapes(name: str, there: torch.Size, wanted: torch.Size) -> str:
    return f"{name} {tuple(there)} instead of {tuple(wanted)}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing bars and reports; what they say is checked and reported by us."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
