"""Files of weights, `.safetensors` and what `torch.save` writes, read without PyTorch.

Nothing in a file can run code: `.safetensors` has no code, and a `.pth` is read by
`safe_pickle.py`, which knows tensors only.
"""

import io
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minseg.files import PathLike
from minseg.hub import safe_pickle
from minseg.hub.safe_pickle import BFLOAT16, Storage, Stored

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # how files that PyTorch wrote before version 1.6 begin


def load_weights(path: PathLike) -> dict[str, np.ndarray]:
    """Name -> array, from a `.safetensors` file or from what `torch.save` wrote of a state_dict.

    A `.pth` may hold the state_dict itself, or a dict that has it under "state_dict" or "model".
    float16 and bfloat16, with which no op here computes, are converted to float32, exactly and with
    a warning. The arrays are read-only; tensors that shared memory still do.

    Raises FileNotFoundError, and ValueError that names the file if it is truncated or broken, has
    another format, or asks for anything but tensors.
    """
    path = Path(path)
    readers = {".safetensors": _read_safetensors, ".pth": _read_torch, ".pt": _read_torch}
    if path.suffix not in readers:
        raise ValueError(f"{path}: weights are read from {', '.join(readers)}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of weights")
    try:
        return readers[path.suffix](path)
    except (ValueError, EOFError, zipfile.BadZipFile, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path}: {error or 'truncated'}") from error


def _without_16_bits(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """float16 and bfloat16 as float32, with a warning.

    For a `.pth`, `arrays` are its storages. Any number of tensors may be views of one storage:
    converting the tensors instead would let a small file ask for any amount of memory.
    """
    wide = dict(arrays)
    for name, array in arrays.items():
        if array.dtype == BFLOAT16:  # the upper half of a float32
            wide[name] = (array["bfloat16"].astype(np.uint32) << 16).view(np.float32)
        elif array.dtype == np.float16:
            wide[name] = array.astype(np.float32)
        wide[name].flags.writeable = False
    changed = sum(wide[name] is not array for name, array in arrays.items())
    if changed:
        warnings.warn(f"{path}: {changed} arrays of 16-bit floats became float32", stacklevel=4)
    return wide


# -- safetensors -----------------------------------------------------------------------------------
SAFETENSORS: dict[str, np.dtype] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": BFLOAT16,
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(f"broken, or not a safetensors file: {error}") from error
    arrays = {}
    for name, entry in entries:
        kind = str(entry["dtype"])
        if kind not in SAFETENSORS:
            raise ValueError(f"{name} is {kind}; known are {', '.join(SAFETENSORS)}")
        arrays[name] = np.frombuffer(entry["data"], SAFETENSORS[kind]).reshape(entry["shape"])
    return _without_16_bits(path, arrays)


# -- torch.save ------------------------------------------------------------------------------------
def _read_torch(path: Path) -> dict[str, np.ndarray]:
    data = path.read_bytes()
    stored, arrays = _read_zip(data) if data[:2] == b"PK" else _read_legacy(data)
    arrays = _without_16_bits(path, arrays)
    return {name: _view(tensor, arrays) for name, tensor in stored.items()}


def _state_dict(tree: Any) -> dict[str, Stored]:
    """The dict of tensors in what was saved."""
    inner = [tree.get(key) for key in ("state_dict", "model")] if isinstance(tree, dict) else []
    for found in (tree, *inner):
        if isinstance(found, dict) and found and all(type(v) is Stored for v in found.values()):
            return {str(name): stored for name, stored in found.items()}
    holds = f"a dict of {', '.join(map(str, tree))}" if inner else f"a {type(tree).__name__}"
    raise ValueError(f"holds no state_dict (names and tensors), but {holds[:200]}")


def _view(stored: Stored, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The tensor's elements, as a view of the storage: no file can ask for more than it holds."""
    flat = arrays[stored.storage.key]
    strides = tuple(
        s * flat.itemsize if n > 1 else 0 for n, s in zip(stored.shape, stored.stride, strict=True)
    )
    return np.lib.stride_tricks.as_strided(flat[stored.offset :], stored.shape, strides)


def _read_zip(data: bytes) -> tuple[dict[str, Stored], dict[str, np.ndarray]]:
    """A zip archive: data.pkl says what is where, data/<key> are the storages, not compressed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = archive.infolist()
        if any(i.compress_type != zipfile.ZIP_STORED or i.flag_bits & 1 for i in infos):
            raise ValueError("it is compressed or encrypted, which torch.save never does")
        if sum(info.file_size for info in infos) > len(data):
            raise ValueError("broken: its parts are larger than the whole")
        entries = {info.filename.partition("/")[2]: info for info in infos}
        if "data.pkl" not in entries:
            raise ValueError("a zip archive, but not one that torch.save wrote: it has no data.pkl")
        if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
            raise ValueError("its numbers are not little-endian")
        tree = safe_pickle.load(io.BytesIO(archive.read(entries["data.pkl"])), {})
        stored = _state_dict(tree)
        arrays = {}
        for key, dtype, length in {tensor.storage for tensor in stored.values()}:
            if f"data/{key}" not in entries:
                raise ValueError(f"truncated: storage {key} is missing")
            content = archive.read(entries[f"data/{key}"])
            if len(content) != length * dtype.itemsize:
                raise ValueError(
                    f"storage {key} has {len(content)} bytes, needs {length} {dtype} numbers"
                )
            arrays[key] = np.frombuffer(content, dtype)
    return stored, arrays


def _read_legacy(data: bytes) -> tuple[dict[str, Stored], dict[str, np.ndarray]]:
    """Before version 1.6: pickles (magic, version, system, tree, keys), then the storages."""
    file = io.BytesIO(data)
    storages: dict[str, Storage] = {}
    magic, _, system, tree, keys = (safe_pickle.load(file, storages) for _ in range(5))
    if magic != LEGACY_MAGIC or not isinstance(system, dict) or not isinstance(keys, list):
        raise ValueError("not a file that torch.save wrote")
    if system.get("little_endian") is not True:
        raise ValueError("its numbers are not little-endian")
    arrays: dict[str, np.ndarray] = {}
    place = file.tell()
    for key in keys:
        if not isinstance(key, str) or key not in storages or key in arrays:
            raise ValueError("broken: its list of storages is not that of its tensors")
        _, dtype, length = storages[key]
        start = place + 8  # after the length
        place = start + length * dtype.itemsize
        if place > len(data) or int.from_bytes(data[start - 8 : start], "little") != length:
            raise ValueError(f"truncated or broken: storage {key} is not complete")
        arrays[key] = np.frombuffer(data, dtype, length, start)
    if len(arrays) < len(storages):
        raise ValueError("truncated: storages are missing")
    return _state_dict(tree), arrays
