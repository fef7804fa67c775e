"""Checkpoints: nested dicts of arrays and plain values in one safetensors file, written at once.

The arrays are the file's tensors, the rest is JSON in its header: weights and description are one
file and cannot disagree, and any program that reads safetensors finds the weights under "model.".

A file is written beside its place under another name, forced to the disk, and only then renamed,
which is one step for the file system. Whatever happens before that (a kill, a full disk, a power
cut) leaves the earlier file as it was.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from minseg.data.files import PathLike

_ARRAY, _ITEMS = "__array__", "__items__"  # how JSON refers to an array; a dict with keys not str


def save(path: PathLike, tree: dict[str, Any]) -> None:
    """Write nested dicts and lists of arrays, numbers, strings, booleans and None.

    Raises OSError that names the file if it cannot be written; an earlier file is intact then.
    """
    from safetensors.numpy import save as to_bytes

    arrays: dict[str, np.ndarray] = {}
    description = json.dumps(_pack(tree, "", arrays))
    write_atomically(path, to_bytes(arrays, {"minseg": description}))


def load(path: PathLike) -> dict[str, Any]:
    """Read what `save` wrote. Nothing in a file can run code.

    Raises FileNotFoundError, and ValueError that names the file if it is truncated, broken, or
    not written by `save`.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such checkpoint") from None
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, MemoryError) as error:
        raise ValueError(f"{path}: broken, or not a safetensors file: {error}") from error
    if "minseg" not in metadata:
        raise ValueError(f"{path}: has weights, but not the description that minseg writes to them")
    try:
        tree = _unpack(json.loads(metadata["minseg"]), arrays)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: its description is broken: {error!r}") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: its description is a {type(tree).__name__}, needs a dict")
    return tree


def write_atomically(path: PathLike, data: bytes) -> None:
    """Put `data` into the file: all of it, or, with an OSError that names the file, nothing."""
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):  # where the folder itself is none, for example
            temporary.unlink()
        kept = "; the earlier file is intact" if os.path.exists(path) else ""
        raise OSError(f"{path}: not saved: {error.strerror or error}{kept}") from error
    if os.name == "posix":  # the new name itself lies in the folder, which is on the disk as well
        with suppress(OSError):  # some network drives know no such thing of a folder
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


@contextmanager
def alone_in(folder: PathLike) -> Iterator[None]:
    """Inside, no other process gets in: two trainings of one run would overwrite each other.

    The system lets go of it however the process ends. Not on Windows, which cannot lock a folder.
    Raises RuntimeError if another process is in.
    """
    if os.name != "posix":
        yield
        return
    import fcntl

    held = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError(f"{folder}: another process is training this run") from None
        yield
    finally:
        os.close(held)


def _pack(node: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """`node` as JSON can hold it, its arrays moved to `arrays` under their paths in the tree."""
    if isinstance(node, np.ndarray):
        arrays[path] = np.ascontiguousarray(node).reshape(node.shape)
        return {_ARRAY: path}
    if isinstance(node, np.generic):
        return node.item()
    if isinstance(node, dict):
        items = [(key, _pack(value, f"{path}.{key}".lstrip("."), arrays))
                 for key, value in node.items()]  # fmt: skip
        if all(isinstance(key, str) for key in node):
            return dict(items)
        return {_ITEMS: items}  # JSON would turn the keys into strings
    if isinstance(node, list | tuple):
        return [_pack(value, f"{path}.{index}", arrays) for index, value in enumerate(node)]
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise TypeError(f"checkpoint: {path} is a {type(node).__name__}, which has no place in one")


def _unpack(node: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(node, list):
        return [_unpack(value, arrays) for value in node]
    if not isinstance(node, dict):
        return node
    if _ARRAY in node:
        return arrays[node[_ARRAY]]
    if _ITEMS in node:
        return {key: _unpack(value, arrays) for key, value in node[_ITEMS]}
    return {key: _unpack(value, arrays) for key, value in node.items()}
