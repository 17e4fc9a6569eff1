"""Reads what a pickle says without doing what it asks: no import, no call, no attribute of anything is touched.

A pickle is a program for a small stack machine. `pickletools` splits it into instructions; the machine below carries
out those that build plain values, and turns the few names that a file of weights needs into records of our own. Any
other name ends the reading with its own error. There is no instruction here that could run foreign code.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from appliance.errors import InvalidInput

MAX_ITEMS = 2_000_000  # instructions; the official files have 20 000


@dataclass(frozen=True)
class Name:
    """A global that the pickle refers to, never looked up: "module attribute"."""

    text: str


@dataclass(frozen=True)
class Storage:
    """A stretch of numbers outside the pickle."""

    kind: str  # "HalfStorage", …
    key: str
    length: int  # numbers, not bytes


@dataclass(frozen=True)
class TensorRecord:
    """A view into a storage."""

    storage: Storage
    offset: int  # numbers
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # numbers


@dataclass
class Bag:
    """Stands in for the attribute bag (`utils.HParams`) that official files wrap their configuration in."""

    attributes: dict[Any, Any] = field(default_factory=dict)


class _Mark:
    """What MARK puts on the stack."""


STORAGES = frozenset(
    f"torch {kind}Storage"
    for kind in ("Half", "Float", "Double", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
)
BAGS = frozenset({"utils HParams", "GPT_SoVITS.utils HParams", "module.utils HParams"})
PATHS = frozenset(
    f"pathlib {kind}" for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path")
)


def read_pickle(source: BinaryIO) -> Any:
    """The value of the pickle at the position of `source`, which is left behind its end.

    Dictionaries, lists, tuples, strings, numbers, `Bag`s, `TensorRecord`s. Raises InvalidInput
    ("checkpoint_carries_code") for any name that weights do not need, InvalidInput("checkpoint_damaged") for nonsense.
    """
    machine = _Machine()
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(source)):
            if count > MAX_ITEMS:
                raise ValueError("too many instructions")
            machine.step(operation.name, argument)
        return machine.result()
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, UnicodeError, OverflowError) as error:
        raise InvalidInput("checkpoint_damaged", problem=_why(error)) from error


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:120]


class _Machine:
    """Stack and memo of one pickle."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._has_stopped = False

    def result(self) -> Any:
        if not self._has_stopped or len(self._stack) != 1:
            raise ValueError("no single value at the end")
        return self._stack[0]

    def step(self, name: str, argument: Any) -> None:  # noqa: PLR0912 - one branch per family of instructions
        stack = self._stack
        if name in _PUSHED_ARGUMENT:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in {"BINPUT", "LONG_BINPUT", "PUT"}:
            self._memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in {"BINGET", "LONG_BINGET", "GET"}:
            stack.append(self._memo[int(argument)])
        elif name in {"GLOBAL", "INST"}:
            stack.append(_checked_name(str(argument)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_checked_name(f"{module} {attribute}"))
        elif name in {"EXT1", "EXT2", "EXT4"}:
            raise InvalidInput("checkpoint_carries_code", name=f"extension {argument}")
        elif name in {"REDUCE", "NEWOBJ"}:
            arguments, callee = stack.pop(), stack.pop()
            stack.append(_make(callee, arguments))
        elif name == "BUILD":
            self._build(stack.pop())
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name == "STOP":
            self._has_stopped = True
        elif name in _COLLECTORS:
            _COLLECTORS[name](stack)
        elif name not in {"PROTO", "FRAME"}:
            raise ValueError(f"instruction {name}")

    def _build(self, state: Any) -> None:
        """The state of an attribute bag; anything else has no state here."""
        target = self._stack[-1]
        if isinstance(target, Bag):
            target.attributes.update(state)
        elif not (isinstance(target, dict) and isinstance(state, dict)):  # an OrderedDict's `_metadata` is dropped
            raise ValueError("BUILD")


_PUSHED_ARGUMENT = frozenset(
    {
        *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    }
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": _Mark,
}


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    items: list[Any] = []
    while not isinstance(stack[-1], _Mark):
        items.append(stack.pop())
    stack.pop()
    return items[::-1]


def _pop_tuple(stack: list[Any], length: int) -> None:
    if len(stack) < length:
        raise IndexError("stack too short")
    stack[-length:] = [tuple(stack[-length:])]


def _append(stack: list[Any], items: list[Any]) -> None:
    if not isinstance(stack[-1], list):
        raise TypeError("APPEND to no list")
    stack[-1].extend(items)


def _set(stack: list[Any], items: list[Any]) -> None:
    if not isinstance(stack[-1], dict) or len(items) % 2:
        raise TypeError("SETITEM of no dictionary")
    stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _make_pairs(stack: list[Any], items: list[Any]) -> None:
    stack.append({})
    _set(stack, items)


_COLLECTORS: dict[str, Callable[[list[Any]], None]] = {
    "TUPLE": lambda stack: stack.append(tuple(_pop_to_mark(stack))),
    "TUPLE1": lambda stack: _pop_tuple(stack, 1),
    "TUPLE2": lambda stack: _pop_tuple(stack, 2),
    "TUPLE3": lambda stack: _pop_tuple(stack, 3),
    "LIST": lambda stack: stack.append(_pop_to_mark(stack)),
    "DICT": lambda stack: _make_pairs(stack, _pop_to_mark(stack)),
    "APPEND": lambda stack: _append(stack, [stack.pop()]),
    "APPENDS": lambda stack: _append(stack, _pop_to_mark(stack)),
    "SETITEM": lambda stack: _set(stack, [stack.pop(), stack.pop()][::-1]),
    "SETITEMS": lambda stack: _set(stack, _pop_to_mark(stack)),
    "POP": lambda stack: stack.pop() and None,
    "DUP": lambda stack: stack.append(stack[-1]),
}


def _checked_name(text: str) -> Name:
    """Raises InvalidInput("checkpoint_carries_code") unless weights need this name."""
    if text not in _MAKERS and text not in STORAGES and text not in _ONLY_NAMES:
        raise InvalidInput("checkpoint_carries_code", name=text.replace(" ", ".", 1)[:120])
    return Name(text)


def _make(callee: Any, arguments: Any) -> Any:
    if not isinstance(callee, Name) or callee.text not in _MAKERS or not isinstance(arguments, tuple):
        raise ValueError("a call of something that is no name")
    return _MAKERS[callee.text](arguments)


def _ordered(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    return dict(arguments[0]) if arguments else {}


def _tensor(arguments: tuple[Any, ...]) -> TensorRecord:
    storage, offset, shape, strides = arguments[:4]
    sizes = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or not all(type(size) is int and 0 <= size < 1 << 40 for size in sizes):
        raise ValueError("a tensor without a storage")
    return TensorRecord(storage, offset, tuple(shape), tuple(strides))


def _parameter(arguments: tuple[Any, ...]) -> TensorRecord:
    if not isinstance(arguments[0], TensorRecord):
        raise TypeError("a parameter that is no tensor")
    return arguments[0]


def _bag(arguments: tuple[Any, ...]) -> Bag:
    if arguments:
        raise ValueError("an attribute bag with arguments")
    return Bag()


def _reconstructed(arguments: tuple[Any, ...]) -> Bag:
    """How protocols 0 and 1 make an object."""
    if not isinstance(arguments[0], Name) or arguments[0].text not in BAGS:
        raise ValueError("an object of another kind")
    return Bag()


def _joined(arguments: tuple[Any, ...]) -> str:
    return "/".join(str(part) for part in arguments if isinstance(part, str))


def _storage(identity: Any) -> Storage:
    """`("storage", kind, key, device, length[, view])`."""
    word, kind, key, _, length = identity[:5]
    if word != "storage" or not isinstance(kind, Name) or kind.text not in STORAGES or type(length) is not int:
        raise ValueError("an unknown reference to outside")
    if len(identity) > 5 and identity[5] is not None:
        raise ValueError("a view of a storage")
    return Storage(kind.text.removeprefix("torch "), str(key), length)


_MAKERS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections OrderedDict": _ordered,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "torch Size": lambda arguments: tuple(arguments[0]),
    "copy_reg _reconstructor": _reconstructed,
    "copyreg _reconstructor": _reconstructed,
    **dict.fromkeys(BAGS, _bag),
    **dict.fromkeys(PATHS, _joined),
}
_ONLY_NAMES = frozenset({"__builtin__ object", "builtins object"})
