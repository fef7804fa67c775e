"""Checkpoints: nested dicts of arrays and plain values in one safetensors file, written at once.

The arrays are the file's tensors, the rest is JSON in its header: weights and description are one
file and cannot disagree, and any program that reads safetensors finds the weights under "model.".
"""

import json
from typing import Any

import numpy as np

from minseg.files import PathLike, write_atomically

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
