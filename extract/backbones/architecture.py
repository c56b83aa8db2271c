"""How a network is made, with random weights or with those of a checkpoint: torch modules, and models of transformers.

Loads neither torch nor transformers until a network is made. Knows no architecture by name and no file.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from features.errors import DataError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from extract.backbones.networks.clip_network import ClipNetwork


@dataclass(frozen=True)
class Mismatch:
    """Why a state dict does not fit a network; all three are empty if it fits.

    Attributes:
        missing, unexpected: names of parameters.
        shapes: parameters whose shape differs, in words.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: tuple[str, ...]


@dataclass(frozen=True)
class TorchModel:
    """A torch module whose attribute `network` has the published parameter names, without the classifier.

    Attributes:
        make: imports and returns the module, with random weights.
    """

    make: Callable[[], ClipNetwork]

    def differences(self, config: Mapping[str, Any]) -> list[str]:
        """Return how a config.json beside the weights contradicts this model: never, as none is published."""
        return []

    def build(self) -> ClipNetwork:
        """Return the module with random weights."""
        return self.make()

    def load(self, state: Mapping[str, torch.Tensor]) -> tuple[ClipNetwork, Mismatch]:
        """Return the module with these weights, and what does not fit; use the module only if everything fits.

        Raises:
            RuntimeError: values cannot be copied, such as complex numbers.
        """
        import torch

        # Random weights would cost their memory, and seconds, only to be replaced.
        with torch.device("meta"):
            module = self.make()
        return module, fill(module.network, state, assign=True)


def fill(network: nn.Module, state: Mapping[str, torch.Tensor], *, assign: bool = False) -> Mismatch:
    """Load weights into a network if all of them fit, and return what does not fit.

    Args:
        assign: whether the network takes the tensors themselves instead of copying their values; tensors of another
            type are still copied.

    Raises:
        RuntimeError: values cannot be copied, such as complex numbers.
    """
    expected = network.state_dict()
    shapes = [
        _shape_mismatch(name, state[name].shape, expected[name].shape)
        for name in sorted(expected.keys() & state.keys())
        if state[name].shape != expected[name].shape
    ]
    missing, unexpected = expected.keys() - state.keys(), state.keys() - expected.keys()
    if not (missing or unexpected or shapes):
        if assign:
            state = {name: _as_type(tensor, expected[name].dtype) for name, tensor in state.items()}
        network.load_state_dict(state, assign=assign)
    return Mismatch(tuple(sorted(missing)), tuple(sorted(unexpected)), tuple(shapes))


def _as_type(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor as it is, or a copy of another type; RuntimeError where complex numbers would become real."""
    if tensor.is_complex() and not dtype.is_complex:
        raise RuntimeError("complex numbers cannot be copied to real ones")
    return tensor.to(dtype).contiguous()


@dataclass(frozen=True)
class TransformersModel:
    """A model of the transformers library, loaded by the library itself: parameter names changed between its versions.

    Attributes:
        model, config: names of classes of transformers.
        settings: of the configuration: every setting whose published value is not the default, or that features
            depend on.
        wrap: turns the model into the module that maps clips to steps; parts that it removes need no weights.
        unused: prefixes of the parameters that `wrap` removes.
        free: settings that we choose ourselves, whatever the published configuration says.
    """

    model: str
    config: str
    settings: Mapping[str, Any]
    wrap: Callable[[Any], ClipNetwork]
    unused: tuple[str, ...] = ()
    free: tuple[str, ...] = ()

    def differences(self, config: Mapping[str, Any]) -> list[str]:
        """Return how a config.json beside the weights contradicts this model's settings, in words."""
        return [
            f"{name} {config[name]!r} instead of {expected!r}"
            for name, expected in self.settings.items()
            if name in config and name not in self.free and not _same_value(config[name], expected)
        ]

    def build(self) -> ClipNetwork:
        """Return the module with random weights."""
        model, config = self._classes()
        with _quiet():
            return self.wrap(model(config(**self.settings)))

    def load(self, state: Mapping[str, torch.Tensor]) -> tuple[ClipNetwork, Mismatch]:
        """Return the module with these weights, and what does not fit; use the module only if everything fits."""
        model, config = self._classes()
        # Given weights in half precision, as some are published, transformers would compute in half precision.
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
        shapes = [_reported_mismatch(key, state, network) for key in report["mismatched_keys"]]
        mismatch = Mismatch(tuple(sorted(missing)), tuple(sorted(report["unexpected_keys"])), tuple(sorted(shapes)))
        return self.wrap(network), mismatch

    def _classes(self) -> tuple[Any, Any]:
        try:
            import transformers
        except ModuleNotFoundError as error:
            raise DataError(
                f"transformers is not installed, and {self.model} is part of it: pip install '.[extract]'"
            ) from error
        try:
            return getattr(transformers, self.model), getattr(transformers, self.config)
        except (AttributeError, ImportError) as error:
            import torch

            raise DataError(
                f"transformers {transformers.__version__} with torch {torch.__version__} has no {self.model}; install "
                "a newer transformers (VideoPrism came with 5.24, DINOv3 with 4.56, V-JEPA 2 with 4.53), or an older "
                "one for an old torch."
            ) from error


def _same_value(value: object, expected: object) -> bool:
    if isinstance(value, (int, float)) and isinstance(expected, (int, float)):
        return math.isclose(value, expected, rel_tol=1e-6)
    return value == expected


def _reported_mismatch(
    key: str | tuple[str, torch.Size, torch.Size], state: Mapping[str, torch.Tensor], network: nn.Module
) -> str:
    """Return in words what transformers reports of a shape: before version 5 a tuple, now the parameter's name."""
    if not isinstance(key, str):
        return _shape_mismatch(*key)
    return _shape_mismatch(key, state[key].shape, network.state_dict()[key].shape) if key in state else key


def _shape_mismatch(name: str, shape: torch.Size, expected: torch.Size) -> str:
    return f"{name} {tuple(shape)} instead of {tuple(expected)}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing progress bars and reports; we check what they say and report it ourselves."""
    from transformers.utils import logging

    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()
