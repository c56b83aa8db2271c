"""A device that only pretends: tensors compute on the CPU, and say that they are on `mps` or `cuda`.

    with PretendedDevice("mps") as device:
        model.to(device.name)(...)     # NotImplementedError where MPS has no kernel, TypeError for its float64
    device.costs                       # kernels, copies and waits of what ran

A tensor is on the device if its memory was allocated there, as on a real one; so views are there too. Every operator
that reaches torch's dispatcher is looked up in the list of kernels (kernels.py). A composite without a kernel of its
own is taken apart, and what it calls is looked up in turn. Values are those of the CPU, so a whole run can be compared.

What it does not know: values and speed of the device's kernels; inputs that a kernel refuses, but for those in
kernels.py; memory; and composites that choose another way on CUDA or MPS, but for LSTMs, convolutions and attention.
The casts of autocast are the CPU's. On cuda an LSTM is one cuDNN kernel.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from kernels import TORCH, has_kernel, is_composite, refusal, stand_ins
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

_TOP = f"{Path(__file__).resolve().parents[2]}/"
_OWN = tuple(f"{_TOP}{package}/" for package in ("features", "extract", "heads"))
_CPU = torch.device("cpu")
# Operators that take indices of another device, and copy them over.
_MIXES = {"index.Tensor", "index_put_", "index_put", "_index_put_impl_"}
# These take counts that are on the CPU.
_TAKES_LENGTHS = {"_pack_padded_sequence", "_pack_padded_sequence_backward", "_pad_packed_sequence"}
_KEYS = tuple(
    getattr(torch._C.DispatchKey, name)
    for name in ("CompositeExplicitAutogradNonFunctional", "CompositeExplicitAutograd", "CompositeImplicitAutograd")
)
_DTYPES = {bool: torch.bool, int: torch.int64, float: torch.float32}
_WAITS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


@dataclass
class Costs:
    """What ran on the device: how many kernels, and where in our own code the host copied, or waited for the device.

    Attributes:
        copies: those that the host does not wait for.
    """

    kernels: int = 0
    copies: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)


class PretendedDevice:
    """The device `kind`, mps or cuda, while it is entered.

    Attributes:
        memory: where tensors of the device really are: on the CPU, or on "meta", where nothing is computed.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.device = torch.device(kind, 0)  # as tensors there say
        self.memory = _CPU
        self.costs = Costs()
        self._there: dict[int, StorageWeakRef] = {}  # a storage's address is not used again while it is referred to
        self.calls: list[Any] = []  # arguments of the calls and composites that are under way

    def __enter__(self) -> PretendedDevice:
        self._stack = ExitStack()
        for patched in _patches(self):
            self._stack.enter_context(patched)
        self._stack.enter_context(_Operators(self))
        self._stack.enter_context(_Calls(self))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def holds(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor is on the device."""
        while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            tensor = torch._C._functorch.get_unwrapped(tensor)
        return tensor.layout is torch.strided and tensor.untyped_storage()._cdata in self._there

    def place(self, tensor: torch.Tensor) -> torch.Tensor:
        """Say of a tensor's memory that it is on the device."""
        if self.kind == "mps" and tensor.dtype in (torch.float64, torch.complex128):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework has none.")
        if tensor.device.type in ("cpu", "meta"):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._there:
                self._there[storage._cdata] = StorageWeakRef(storage)
            if len(self._there) % 10_000 == 0:
                self._there = {key: reference for key, reference in self._there.items() if not reference.expired()}
        return tensor

    def displace(self, tensor: torch.Tensor) -> None:
        """Say of a tensor's memory that it is on the CPU."""
        self._there.pop(tensor.untyped_storage()._cdata, None)

    def allocates(self) -> bool:
        """Return whether what is allocated now is on the device."""
        return bool(self.calls) and (self.calls[-1] is self or self.any_there(self.calls[-1]))

    def crossed(self, inwards: bool, *, non_blocking: bool) -> None:
        """Count a copy to the device (inwards) or from it."""
        if non_blocking and inwards and self.kind == "mps":
            raise AssertionError(  # pytorch/pytorch#189690, #139550
                f"MPS may copy the tensor after its memory is used for another; wait for the copy (at {_where()})."
            )
        copies = self.costs.copies if non_blocking else self.costs.waits
        copies.append(f"copy {'to' if inwards else 'from'} {self.kind} at {_where()}")

    def any_there(self, arguments: Any) -> bool:
        return any(self.holds(tensor) for tensor in tensors_in(arguments))

    def is_self(self, device: Any) -> bool:
        """Return whether a device, as arguments name it, is this one."""
        if isinstance(device, str):
            device = torch.device(device)
        return isinstance(device, torch.device) and device.type == self.kind


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Return the tensors in nested arguments."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return []
    return [tensor for inner in value for tensor in tensors_in(inner)]


def _where() -> str:
    """Return the innermost line of our own code, tests apart, that is being run."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith(_OWN):
            return f"{frame.f_code.co_filename.removeprefix(_TOP)}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"


@dataclass(frozen=True)
class _Operator:
    """What is known of an operator, for one device.

    Attributes:
        name: with its overload, as in the list of kernels.
        has_own: whether the device has a kernel for it.
        composite: the key of the kernel that makes it of other operators; None without one.
        tensors: the positions of arguments that are tensors.
        waits: whether the host has to see values before it goes on.
    """

    name: str
    has_own: bool
    composite: Any
    is_view: bool
    tensors: frozenset[int]
    waits: bool


@cache
def _facts(func: Any, kind: str) -> _Operator:
    name = f"{func}".partition(".")[2].removesuffix(".default")
    instead = stand_ins(name, kind)
    keys = [key for key in _KEYS if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), key)]
    schema = func._schema
    alias = schema.returns[0].alias_info if schema.returns else None
    return _Operator(
        name=name,
        has_own=any(has_kernel(each, kind) for each in instead),
        composite=keys[0] if keys and (is_composite(name) or instead != [name]) else None,
        is_view=alias is not None and not alias.is_write,
        tensors=frozenset(n for n, each in enumerate(schema.arguments) if each.type.kind() == "TensorType"),
        # The tag of an operator that indexes is of those by a mask.
        waits=not name.startswith("index") and not _WAITS.isdisjoint(func.tags),
    )


class _Operators(TorchDispatchMode):
    """Looks up each operator, and places what it gives."""

    def __init__(self, pretended: PretendedDevice) -> None:
        super().__init__()
        self._pretended = pretended
        self._open: list[object] = []  # composites that are being taken apart

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Leave torch's compiler, which takes seconds to load, out of it."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        pretended, kwargs = self._pretended, kwargs or {}
        operator = _facts(func, pretended.kind)
        args = _with_tensors(operator, args)
        tensors = tensors_in(args) + (tensors_in(kwargs) if kwargs else [])
        if pretended.calls and isinstance(pretended.calls[-1], _Crossing):
            out = func(*args, **kwargs)
            return pretended.place(out) if pretended.calls[-1].inwards else out
        if not tensors:
            is_there = operator.name != "scalar_tensor" and pretended.allocates()
        else:
            there = [tensor for tensor in tensors if pretended.holds(tensor)]
            is_there = bool(there)
            if operator.name == "copy_" and 0 < len(there) < len(tensors):
                return self._copied(func, args, kwargs)
            if is_there and len(there) < len(tensors):
                self._check_devices(operator, tensors, there)
        return self._run(func, operator, args, kwargs) if is_there else func(*args, **kwargs)

    def _copied(self, func: Any, args: Any, kwargs: Any) -> torch.Tensor:
        """Copy between the devices, into what the first argument is."""
        target, source, non_blocking = args[0], args[1], bool(args[2:3] and args[2])
        self._pretended.crossed(self._pretended.holds(target), non_blocking=non_blocking)
        return target if "meta" in (source.device.type, target.device.type) else func(*args, **kwargs)

    def _check_devices(self, operator: _Operator, tensors: list[torch.Tensor], there: list[torch.Tensor]) -> None:
        strangers = [tensor for tensor in tensors if not any(tensor is own for own in there)]
        strangers = [tensor for tensor in strangers if tensor.dim() and tensor.device.type == "cpu"]
        if not strangers or operator.name in _TAKES_LENGTHS:
            return
        if operator.name not in _MIXES:
            raise RuntimeError(
                f"{operator.name}: Expected all tensors to be on the same device, but found at least two devices, "
                f"{self._pretended.device} and cpu! (at {_where()})"
            )
        self._pretended.costs.waits.append(f"{operator.name} between devices at {_where()}")

    def _run(self, func: Any, operator: _Operator, args: Any, kwargs: Any) -> Any:
        pretended = self._pretended
        reason = refusal(operator.name, pretended.kind, args)
        if reason:
            raise RuntimeError(f"{reason} (at {_where()})")
        if not operator.has_own and not operator.is_view and func not in self._open:
            if operator.composite is None:
                raise NotImplementedError(
                    f"The operator '{func.name()}' is not currently implemented for the {pretended.kind} device "
                    f"(at {_where()})."
                )
            return self._taken_apart(func, operator, args, kwargs)
        self._count(operator, args)
        out = func(*args, **kwargs)
        for tensor in tensors_in(out):
            pretended.place(tensor)
        return out

    def _taken_apart(self, func: Any, operator: _Operator, args: Any, kwargs: Any) -> Any:
        """Run a composite so that what it calls comes by here too."""
        pretended = self._pretended
        self._open.append(func)
        pretended.calls.append(pretended)
        try:
            with self:
                out = func._op_dk(operator.composite, *args, **kwargs)
        finally:
            self._open.pop()
            pretended.calls.pop()
        if operator.name in ("_pack_padded_sequence", "_pad_packed_sequence"):  # with a second result on the CPU
            pretended.displace(out[1])
        return out

    def _count(self, operator: _Operator, args: Any) -> None:
        costs = self._pretended.costs
        if operator.is_view or operator.name.startswith(("empty", "new_empty", "lift_fresh")):
            return
        costs.kernels += 1
        by_mask = operator.name.startswith("index") and any(
            tensor.dtype in (torch.bool, torch.uint8) for tensor in tensors_in(args[1:2])
        )
        if by_mask or operator.waits:
            costs.waits.append(f"{operator.name} at {_where()}")


def _with_tensors(operator: _Operator, args: Any) -> Any:
    """Return arguments with tensors where a composite hands on a number as one: torch shows it as the number."""
    if not any(isinstance(args[n], (int, float)) for n in operator.tensors if n < len(args)):
        return args
    return tuple(
        torch.scalar_tensor(value, dtype=_DTYPES[type(value)])
        if n in operator.tensors and isinstance(value, (int, float))
        else value
        for n, value in enumerate(args)
    )


@dataclass(frozen=True)
class _Crossing:
    """A copy to the device (inwards) or from it."""

    inwards: bool


class _Calls(TorchFunctionMode):
    """Says where tensors are, and makes and moves them: what calls of torch's Python functions say about devices."""

    def __init__(self, pretended: PretendedDevice) -> None:
        super().__init__()
        self._pretended = pretended

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "__get__":
            return self._attribute(func, args)
        pretended, kwargs = self._pretended, dict(kwargs or {})
        kwargs.pop("pin_memory", None)
        if name in ("to", "type_as", "cpu", "cuda") and isinstance(args[0], torch.Tensor):
            return self._moved(name, *args, **kwargs)
        if name in ("pin_memory", "_cudnn_rnn_flatten_weight"):  # move memory, and change no value
            return args[0]
        if name in ("numpy", "__array__", "tolist") and pretended.holds(args[0]):
            self._check_read(name)
        elif name == "lstm" and pretended.any_there(args):
            func = _lstm_kernel(pretended, args) or func
        elif pretended.is_self(kwargs.get("device")):
            return self._made(func, name, args, kwargs)
        return self._called([args, kwargs], func, *args, **kwargs)

    def _called(self, arguments: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function. Memory that is allocated in it is on the device if any of these arguments is."""
        self._pretended.calls.append(arguments)
        try:
            return func(*args, **kwargs)
        finally:
            self._pretended.calls.pop()

    def _check_read(self, name: str) -> None:
        if name != "tolist":
            raise TypeError(f"can't convert {self._pretended.device} device type tensor to numpy. (at {_where()})")
        self._pretended.costs.waits.append(f"tolist at {_where()}")

    def _made(self, func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> torch.Tensor:
        """Return what a function makes on the device; of values, it makes them on the CPU and moves them."""
        kwargs["device"] = self._pretended.memory
        if name in ("tensor", "as_tensor", "asarray"):
            return self._moved("to", func(*args, **kwargs), self._pretended.device)
        return self._called(self._pretended, func, *args, **kwargs)

    def _attribute(self, func: Any, args: Any) -> Any:
        attribute = func.__self__.__name__
        if attribute in ("device", "is_cuda", "is_mps", "is_cpu") and self._pretended.holds(args[0]):
            kind = self._pretended.kind
            return self._pretended.device if attribute == "device" else attribute == f"is_{kind}"
        return func(*args)

    def _moved(self, name: str, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        pretended = self._pretended
        if name in ("cpu", "cuda"):
            target = _CPU if name == "cpu" else torch.device("cuda", 0)
            return self._moved("to", x, target, **{key: kwargs[key] for key in ("non_blocking",) if key in kwargs})
        copy = kwargs.pop("copy", False)
        if args and isinstance(args[0], torch.Tensor):
            other, *rest = args
            target, dtype = (pretended.device if pretended.holds(other) else other.device), other.dtype
            non_blocking, memory_format = bool(kwargs.get("non_blocking", rest and rest[0])), None
        else:
            target, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
        options = {} if memory_format is None else {"memory_format": memory_format}
        dtype = x.dtype if dtype is None else dtype
        is_there = pretended.holds(x)
        goes_there = is_there if target is None else pretended.is_self(target)
        if target is not None and not goes_there and target.type != "cpu":  # such as meta
            return x.to(target, dtype)
        if goes_there and not is_there:
            x = x.to(pretended.memory)
        if goes_there == is_there:
            return self._called([x], x.to, dtype, copy=copy, **options)
        # What is copied to memory that is not pinned is waited for.
        pretended.crossed(goes_there, non_blocking=non_blocking and goes_there)
        return self._called(_Crossing(goes_there), x.to, dtype, copy=True, **options)


def _lstm_kernel(pretended: PretendedDevice, args: Any) -> Callable[[], Any] | None:
    """Return the LSTM as one kernel, as cuDNN has it and MPS, but for packed sequences, which MPS takes apart."""
    is_packed = isinstance(args[1], torch.Tensor)
    if pretended.kind == "mps":
        if is_packed:
            return None
        *_, num_layers, dropout, _, _, _ = args
        if num_layers > 1 and dropout:
            raise AssertionError(  # pytorch/pytorch#180744, at least up to torch 2.12
                f"on MPS, an LSTM of several layers with dropout drops out in evaluation as well (at {_where()})."
            )
    elif is_packed and pretended.holds(args[1]):
        raise RuntimeError("batch_sizes of a packed sequence have to be on the CPU.")
    pretended.costs.kernels += 1
    is_half = torch.is_autocast_enabled("cpu") if TORCH >= (2, 4) else torch.is_autocast_cpu_enabled()
    tensors = list(tensors_in(args))
    return lambda *_: _OneKernel.apply(pretended, args, is_half, *tensors)


class _OneKernel(torch.autograd.Function):
    """torch.lstm, forward and backward out of sight of the other modes."""

    @staticmethod
    def forward(ctx: Any, pretended: PretendedDevice, args: Any, is_half: bool, *flat: torch.Tensor) -> Any:
        with _disable_current_modes(), torch.enable_grad(), torch.autocast("cpu", enabled=False):
            inputs = [x.detach().float().requires_grad_(x.requires_grad) if x.is_floating_point() else x for x in flat]
            replaced = iter(inputs)
            outputs = torch.lstm(*_rebuilt(args, replaced))
            outputs = [output.to(torch.bfloat16) if is_half else output for output in outputs]
        ctx.pretended, ctx.graph = pretended, (inputs, outputs)
        return tuple(pretended.place(output.detach().clone()) for output in outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        inputs, outputs = ctx.graph
        wanted = [x for x in inputs if x.requires_grad]
        ctx.pretended.costs.kernels += 1
        with _disable_current_modes():
            found = iter(torch.autograd.grad(outputs, wanted, gradients, allow_unused=True))
        of_inputs = [next(found) if x.requires_grad else None for x in inputs]
        return None, None, None, *(None if x is None else ctx.pretended.place(x) for x in of_inputs)


def _rebuilt(value: Any, replaced: Iterator[torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return next(replaced)
    if isinstance(value, (list, tuple)):
        return type(value)(_rebuilt(inner, replaced) for inner in value)
    return value


# ---- what is not a function of tensors


def _patches(pretended: PretendedDevice) -> Iterator[Any]:
    """Yield what stands for the parts of torch that ask the device itself."""
    kind, load, save, generator = pretended.kind, torch.load, torch.save, torch.Generator
    group = torch._C._group_tensors_by_device_and_dtype

    class Autocast(torch.autocast):
        def __init__(self, device_type: str, dtype: Any = None, **settings: Any) -> None:
            if device_type == kind:
                if kind == "mps" and TORCH < (2, 5):
                    raise RuntimeError("User specified an unsupported autocast device_type 'mps'")
                device_type, dtype = "cpu", torch.bfloat16
            super().__init__(device_type, dtype=dtype, **settings)

    class Generator:
        def __new__(cls, device: Any = None) -> Any:
            return generator()

    def loaded(file: Any, map_location: Any = None, **settings: Any) -> Any:
        is_there = pretended.is_self(map_location)
        with torch._C.DisableTorchFunction(), _disable_current_modes():
            content = load(file, map_location="cpu" if is_there else map_location, **settings)
        for tensor in tensors_in(content) if is_there else ():
            pretended.place(tensor)
        return content

    def saved(*args: Any, **settings: Any) -> None:
        with torch._C.DisableTorchFunction(), _disable_current_modes():
            save(*args, **settings)

    def grouped(tensors: Any, with_indices: bool = False) -> Any:
        groups = group(tensors, with_indices)
        own = {key: pretended.device if pretended.any_there(group[0][0]) else key[0] for key, group in groups.items()}
        return {(own[key], key[1]): group for key, group in groups.items()}

    yield patch.object(torch, "autocast", Autocast)
    yield patch.object(torch._C, "_group_tensors_by_device_and_dtype", grouped)
    yield patch.object(torch, "load", loaded)
    yield patch.object(torch, "save", saved)
    yield patch.object(torch, "Generator", Generator)
    # MPS has no fused attention of the CPU's kind; without it, the CPU takes attention apart.
    if kind == "mps":
        yield _no_fused_attention()
    yield patch.multiple(
        torch.cuda,
        mem_get_info=lambda *_: (2**30, 2**30),
        get_device_capability=lambda *_: (8, 0),
        Event=_Event,
        Stream=_Stream,
        stream=lambda _: nullcontext(),
        current_stream=lambda *_: _Stream(),
    )
    yield patch.object(torch.Tensor, "record_stream", lambda *_: None)


@contextmanager
def _no_fused_attention() -> Iterator[None]:
    before = torch.backends.cuda.flash_sdp_enabled()
    torch.backends.cuda.enable_flash_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_flash_sdp(before)


class _Event:
    def record(self, _: object = None) -> None:
        pass

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass


class _Stream:
    def __init__(self, *_: object) -> None:
        pass

    def wait_stream(self, _: object) -> None:
        pass
