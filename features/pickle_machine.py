"""The machine that runs pickles, on values that can do nothing.

A pickle is a program: its instructions make values, and call functions by their names. This machine makes values as
Python's does, but calls only the functions that it is given; each other name becomes a `StandIn`. features/pickles.py
says which functions those are.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Mapping
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import mmap


class StandIn:
    """Stands for a class, a function or an object that is not known here. It has a name and does nothing."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"StandIn({self.name!r})"


class Known:
    """The function that is called in place of one that a pickle names; no other is ever called."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., object]) -> None:
        self.call = call


_MARK = object()  # where the items of a container begin on the stack


class Machine:
    """Runs the instructions of pickles on values that can do nothing.

    Args:
        known: what names in a pickle stand for, such as {"collections.OrderedDict": Known(dict)}.
        set_state: sets the state of an object, or ignores it.
        persistent: returns what a persistent id stands for; None to refuse these.
    """

    def __init__(
        self,
        known: Mapping[str, object],
        *,
        set_state: Callable[[object, object], None],
        persistent: Callable[[object], object] | None = None,
    ) -> None:
        self._known = known
        self._set_state = set_state
        self._persistent = persistent
        self._stack: list[Any] = []
        self._memo: dict[int, object] = {}

    def run(self, file: IO[bytes] | mmap.mmap) -> Any:
        """Return the value of the pickle at the position of the file, and leave the file behind it.

        Raises:
            ValueError: it has what is no data.
            Exception: it is damaged; the error may be of any class.
        """
        self._stack, self._memo = [], {}
        for opcode, argument, _ in pickletools.genops(cast("IO[bytes]", file)):
            if opcode.name in _LITERALS:
                self._stack.append(argument)
            elif (instruction := _INSTRUCTIONS.get(opcode.name)) is not None:
                instruction(self, argument)
            else:
                raise ValueError(f"its instruction {opcode.name} is none of data")
        return self._stack.pop()

    def push(self, value: object) -> None:
        """Put a value on the stack."""
        self._stack.append(value)

    def pop(self) -> Any:
        """Take the last value off the stack."""
        return self._stack.pop()

    def since_mark(self) -> list[Any]:
        """Take the values since the last mark off the stack, and the mark."""
        items = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def drop(self) -> None:
        """Drop the values since the last mark."""
        self.since_mark()

    def remember(self, index: int | None) -> None:
        """Keep the last value under a number; None for the next number."""
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def recall(self, index: int) -> None:
        """Put the value that was kept under a number on the stack."""
        self.push(self._memo[index])

    def push_tuple(self, num_items: int) -> None:
        """Turn the last values into a tuple."""
        self.push(tuple([self.pop() for _ in range(num_items)][::-1]))

    def fill(self, items: list[Any], kind: type) -> None:
        """Add items to the list, set or dictionary that is the last value."""
        container = self._stack[-1]
        if isinstance(container, StandIn):
            return
        if type(container) is not kind:
            raise ValueError(f"it fills a {type(container).__name__} as a {kind.__name__}")
        if isinstance(container, list):
            container.extend(items)
        elif isinstance(container, set):
            container.update(map(flat_key, items))
        elif isinstance(container, dict):
            container.update(dict_of(_in_pairs(items)))

    def find(self, module: object, name: object) -> None:
        """Put what a name stands for on the stack."""
        full_name = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "nameless"
        self.push(self._known.get(full_name, StandIn(full_name)))

    def call(self, function: object, arguments: Iterable[Any], keywords: object = None) -> None:
        """Put the value of a function on the stack, or a stand-in for it."""
        if isinstance(function, Known) and not keywords:
            self.push(function.call(*arguments))
        else:
            self.push(StandIn(function.name if isinstance(function, StandIn) else type(function).__name__))

    def set_state(self) -> None:
        """Set the state of the object that is the last value but one."""
        state = self.pop()
        self._set_state(self._stack[-1], state)

    def push_persistent(self, reference: object) -> None:
        """Put what a persistent id stands for on the stack."""
        if self._persistent is None:
            raise ValueError("it refers to objects outside of it")
        self.push(self._persistent(reference))


def _find_pair(machine: Machine, _: object) -> None:
    name, module = machine.pop(), machine.pop()
    machine.find(module, name)


def _call_last(machine: Machine, num_operands: int) -> None:
    function, arguments, *keywords = [machine.pop() for _ in range(num_operands)][::-1]
    machine.call(function, arguments, *keywords)


def _call_since_mark(machine: Machine, name: str | None) -> None:
    arguments = machine.since_mark()
    if name is None:
        function, *arguments = arguments
    else:
        machine.find(*name.split(" ", 1))
        function = machine.pop()
    machine.call(function, arguments)


def _duplicate(machine: Machine, _: object) -> None:
    value = machine.pop()
    machine.push(value)
    machine.push(value)


# By the names that pickletools has for them. The literals carry their value with them.
_LITERALS = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "STRING", "SHORT_BINSTRING", "BINSTRING"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
# Not among them: extension codes, which are names that only the writing program knows, and buffers outside the file.
_INSTRUCTIONS: dict[str, Callable[[Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "MARK": lambda machine, _: machine.push(_MARK),
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.drop(),
    "DUP": _duplicate,
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.push_tuple(1),
    "TUPLE2": lambda machine, _: machine.push_tuple(2),
    "TUPLE3": lambda machine, _: machine.push_tuple(3),
    "DICT": lambda machine, _: machine.push(dict_of(_in_pairs(machine.since_mark()))),
    "FROZENSET": lambda machine, _: machine.push(frozenset(map(flat_key, machine.since_mark()))),
    "APPEND": lambda machine, _: machine.fill([machine.pop()], list),
    "APPENDS": lambda machine, _: machine.fill(machine.since_mark(), list),
    "ADDITEMS": lambda machine, _: machine.fill(machine.since_mark(), set),
    "SETITEM": lambda machine, _: machine.fill([machine.pop(), machine.pop()][::-1], dict),
    "SETITEMS": lambda machine, _: machine.fill(machine.since_mark(), dict),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), lambda machine, index: machine.remember(index)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, index: machine.recall(index)),
    "GLOBAL": lambda machine, name: machine.find(*name.split(" ", 1)),
    "STACK_GLOBAL": _find_pair,
    **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda machine, _: _call_last(machine, 2)),
    "NEWOBJ_EX": lambda machine, _: _call_last(machine, 3),
    **dict.fromkeys(("INST", "OBJ"), _call_since_mark),
    "BUILD": lambda machine, _: machine.set_state(),
    "PERSID": lambda machine, reference: machine.push_persistent(reference),
    "BINPERSID": lambda machine, _: machine.push_persistent(machine.pop()),
}


def flat_key(key: object) -> Any:
    """Return a key of a dictionary if it is a flat one: to hash tuples a million levels deep crashes Python."""
    if any(isinstance(part, (tuple, frozenset)) for part in (key if isinstance(key, tuple) else (key,))):
        raise ValueError("a key in it is nested")
    return key


def _in_pairs(items: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(items[::2], items[1::2], strict=True)


def dict_of(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Return a dictionary of pairs of a key and a value."""
    return {flat_key(key): value for key, value in pairs}
