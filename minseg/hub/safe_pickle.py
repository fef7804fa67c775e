"""Reads the pickles that PyTorch writes for tensors, and can do nothing else.

A pickle is a program for a small stack machine, and two of its instructions make it dangerous:
GLOBAL names any function of any module, and REDUCE calls it. So Python's unpickler is not used.
This machine has only the instructions below, and GLOBAL may give only the names in `GLOBALS`, which
stand for plain values or harmless functions of this file. Anything else is refused, and the error
names it. The result consists of dicts, lists, tuples, numbers, strings and `Stored` tensors, and
its memory is bounded by a multiple of the file's size.

Source: Python's pickletools.py, which documents every instruction.
"""

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

BFLOAT16 = np.dtype([("bfloat16", "<u2")])  # NumPy lacks it: its 16 bits are read as an integer

# The dtypes of PyTorch's storages.
STORAGES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": BFLOAT16,
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}


class Storage(NamedTuple):
    """A flat array that is stored elsewhere in the file, under `key`."""

    key: str
    dtype: np.dtype
    length: int


class Stored(NamedTuple):
    """A tensor: which elements of a storage it shows."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """A function that GLOBAL may name and REDUCE may call."""

    function: Callable[..., Any]


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Stored:
    # What follows (requires_grad, hooks, metadata) says nothing about the values.
    plain = isinstance(shape, tuple) and isinstance(stride, tuple) and len(shape) == len(stride)
    plain = plain and len(shape) <= 32 and isinstance(storage, Storage)
    if not plain or not all(type(n) is int and n >= 0 for n in (offset, *shape, *stride)):
        raise ValueError("a broken pickle: a tensor without storage, offset, shape and strides")
    elements = math.prod(shape)
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    if elements > storage.length or (elements and last >= storage.length):
        raise ValueError(
            f"a tensor of shape {shape} does not fit its storage of {storage.length} elements"
        )
    return Stored(storage, offset if elements else 0, shape, stride)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _ordered_dict(*arguments: Any) -> dict:
    result: dict = {}
    for pairs in arguments:  # Python 2 wrote all of them as one list, which is consumed here: with
        for key, value in _checked(pairs, list):  # the list in the memo, a small file could
            _set(result, key, value)  # otherwise ask for it again and again
        pairs.clear()
    return result


def _size(numbers: Any) -> tuple:
    return _checked(numbers, tuple)


GLOBALS: dict[str, Any] = {
    "collections.OrderedDict": Call(_ordered_dict),
    "torch._utils._rebuild_tensor": Call(_tensor),
    "torch._utils._rebuild_tensor_v2": Call(_tensor),
    "torch._utils._rebuild_parameter": Call(_parameter),
    "torch.Size": Call(_size),
    **{f"torch.{name}": dtype for name, dtype in STORAGES.items()},
}

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
INTEGERS = ("BININT", "BININT1", "BININT2", "LONG1")
STRINGS = ("BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING")
LITERALS = (*INTEGERS, *STRINGS, "BINFLOAT", "BINBYTES", "SHORT_BINBYTES")
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


def load(file: Any, storages: dict[str, Storage]) -> Any:
    """Run the pickle at the file's place, and return what it makes.

    The storages that it refers to are added to `storages`, under their keys.

    Raises ValueError for a pickle that is broken, or that asks for more than tensors.
    """
    try:
        return _run(file, storages)
    except (IndexError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"a broken pickle: {error!r}"[:200]) from error


def _run(file: Any, storages: dict[str, Storage]) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for instruction, argument, _ in pickletools.genops(file):
        name = instruction.name
        if name in ("PROTO", "FRAME"):
            pass
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in LITERALS:
            stack.append(argument)
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "TUPLE":
            stack.append(tuple(_pop_to_mark(stack)))
        elif name in TUPLES:
            stack[-TUPLES[name] :] = [tuple(stack[-TUPLES[name] :])]
        elif name in ("SETITEM", "SETITEMS"):
            items = _pop_to_mark(stack) if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            for key, value in zip(items[::2], items[1::2], strict=True):
                _set(stack[-1], key, value)
        elif name in ("APPEND", "APPENDS"):
            items = _pop_to_mark(stack) if name == "APPENDS" else [stack.pop()]
            _checked(stack[-1], list).extend(items)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "STACK_GLOBAL":
                argument = f"{_checked(stack.pop(-2), str)} {_checked(stack.pop(), str)}"
            stack.append(_global(argument.replace(" ", ".")))
        elif name == "REDUCE":
            arguments = _checked(stack.pop(), tuple)
            stack.append(_checked(stack.pop(), Call).function(*arguments))
        elif name == "BUILD":  # attributes of an OrderedDict: not needed
            stack.pop()
            _checked(stack[-1], dict)
        elif name == "BINPERSID":
            storage = _storage(stack.pop())
            if storages.setdefault(storage.key, storage) != storage:
                raise ValueError(f"a broken pickle: storage {storage.key} is described twice")
            stack.append(storage)
        elif name == "STOP":
            return stack.pop()
        else:
            raise ValueError(f"refused: its pickle uses {name}, which tensors do not need")
    raise ValueError("a broken pickle: no end")


def _global(name: str) -> Any:
    if name not in GLOBALS:
        raise ValueError(
            f"refused: its pickle asks for {name[:80]!r}, which could run code; only tensors are "
            "read (save the state_dict alone, or as .safetensors)"
        )
    return GLOBALS[name]


def _storage(reference: Any) -> Storage:
    kind, dtype, key, _, length = _checked(reference, tuple)[:5]
    view = reference[5] if len(reference) > 5 else None  # written by PyTorch before version 0.4
    plain = kind == "storage" and isinstance(dtype, np.dtype) and isinstance(key, str)
    if not plain or type(length) is not int or length < 0 or view is not None:
        raise ValueError("a broken pickle: a storage is not described by type, key and length")
    return Storage(key, dtype, length)


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    start = len(stack) - 1
    while stack[start] is not _MARK:
        start -= 1
        if start < 0:
            raise ValueError("a broken pickle: no mark")
    items = stack[start + 1 :]
    del stack[start:]
    return items


def _set(target: Any, key: Any, value: Any) -> None:
    if not isinstance(key, str | int):  # a deeply nested tuple has no hash that ends
        raise ValueError(f"a broken pickle: a dict's key is a {type(key).__name__}")
    _checked(target, dict)[key] = value


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(
            f"a broken pickle: a {type(value).__name__} where a {kind.__name__} should be"
        )
    return value
