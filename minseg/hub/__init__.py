"""Weights from elsewhere: files of other libraries, read safely, under the names used here.

    state = minseg.hub.load_weights("fcn_resnet50_coco-1167a1af.pth")
    model = minseg.models.build("fcn_resnet50", num_classes=21, aux_loss=True)
    model.load_state_dict(minseg.hub.adapt("fcn_resnet50", state))

`minseg.hub.load("segformer_b0_ade20k")` does all of it for weights that are published
(`published.py`).

Nothing in a file can run code: `.safetensors` has no code, and a `.pth` is read by
`minseg.hub.safe_pickle`, which knows tensors only.
"""

import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minseg.backbones.vgg import STAGES
from minseg.data.files import PathLike
from minseg.hub import safe_pickle
from minseg.hub.huggingface import mit_rules, segformer_rules
from minseg.hub.monai import attention_unet_rules
from minseg.hub.published import CLASSES as CLASSES
from minseg.hub.published import PUBLISHED as PUBLISHED
from minseg.hub.published import load as load
from minseg.hub.safe_pickle import BFLOAT16, Storage, Stored
from minseg.hub.smp import PSPNET_UNUSED, SMP

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # how files that PyTorch wrote before version 1.6 begin


def load_weights(path: PathLike) -> dict[str, np.ndarray]:
    """Name -> array, from a `.safetensors` file or from what `torch.save` wrote of a state_dict.

    A `.pth` may hold the state_dict itself, or a dict that has it under "state_dict" or "model".
    float16 and bfloat16, which no op here computes with, become float32, exactly, and a warning
    says so. The arrays are read-only; tensors that shared memory still do.

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

    For a `.pth` these are its storages, each of which any number of tensors may show: converting
    the tensors instead would let a small file ask for any amount of memory.
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


# -- names -----------------------------------------------------------------------------------------
def adapt(name: str, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """A reference's state_dict under the names that minseg's model `name` uses.

    fcn_resnet50 ..., deeplabv3_resnet50 ...  torchvision's models of the same name
    resnet18, 34, 50, 101                     torchvision's classifiers, for `backbones.ResNet`
    vgg11, 13, 16, 19 (also vgg16_bn ...)     torchvision's classifiers, for `backbones.VGG`
    mobilenet_v2                              torchvision's, for `backbones.MobileNetV2`
    xception65                                timm's, for `backbones.Xception`
    fcn32s, fcn16s, fcn8s                     wkentaro/pytorch-fcn
    unetplusplus, pspnet, fpn, deeplabv3plus  segmentation_models.pytorch, for backbone=
    attention_unet                            MONAI's AttentionUnet, for backbone="monai"
    mit_b0 ... mit_b5                         Hugging Face's SegformerForImageClassification, for
                                              `backbones.MiT`
    segformer_b0 ... segformer_b5             Hugging Face's SegformerForSemanticSegmentation: the
                                              names of transformers 5, and the published files'
    unet                                      milesial/Pytorch-UNet, for UNet(norm="batch")

    A "module." in front of every name, which DataParallel leaves, goes. Values stay as they are.
    Raises ValueError for another `name`, or for a name of a layer that the reference does not have.
    """
    state = dict(state_dict)
    if state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    if re.fullmatch("fcn(32|16|8)s|(fcn|deeplabv3)_resnet(50|101)", name):
        return state
    if re.fullmatch("resnet(18|34|50|101)|xception65|mobilenet_v2", name):
        head = ("fc.", "head.fc.", "classifier.")
        return {key: value for key, value in state.items() if not key.startswith(head)}
    if name == "pspnet":
        state = {key: value for key, value in state.items() if not key.startswith(PSPNET_UNUSED)}
    if name.startswith("mit_"):
        state = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    if name == "unet":
        rules = UNET
    elif name in SMP:
        rules = SMP[name]
    elif match := re.fullmatch("vgg(11|13|16|19)(_bn)?", name):
        rules = _vgg_rules(int(match[1]), bool(match[2]))
    elif name == "attention_unet":
        rules = attention_unet_rules(state)
    elif match := re.fullmatch("mit_b([0-5])", name):
        rules = mit_rules(int(match[1]))
    elif match := re.fullmatch("segformer_b([0-5])", name):
        rules = segformer_rules(int(match[1]))
    else:
        raise ValueError(f"adapt: no names are known for {name!r}; see help(minseg.hub.adapt)")
    return {_rename(name, key, rules): value for key, value in state.items()}


def _rename(model: str, key: str, rules: Mapping[str, str]) -> str:
    layer, _, parameter = key.rpartition(".")
    for old, new in rules.items():
        if layer == old or layer.startswith(old + "."):
            return f"{new}{layer.removeprefix(old)}.{parameter}"
    raise ValueError(f"adapt: {key!r} is no name of the {model} that minseg knows")


UNET = {
    "inc.double_conv": "contract.0",
    **{f"down{i}.maxpool_conv.1.double_conv": f"contract.{i}" for i in range(1, 5)},
    **{f"up{i}.up": f"up.{i - 1}" for i in range(1, 5)},
    **{f"up{i}.conv.double_conv": f"expand.{i - 1}" for i in range(1, 5)},
    "outc.conv": "head",
}


def _vgg_rules(depth: int, norm: bool) -> dict[str, str]:
    """torchvision counts the layers, ReLU and pooling included; Caffe counts within the stages."""
    rules, place = {}, 0
    for stage, count in enumerate(STAGES[depth], start=1):
        for i in range(1, count + 1):
            rules[f"features.{place}"] = f"conv{stage}_{i}"
            if norm:
                rules[f"features.{place + 1}"] = f"bn{stage}_{i}"
            place += 3 if norm else 2  # convolution, (batch norm,) ReLU
        place += 1  # pooling
    return {**rules, "classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "fc8"}
