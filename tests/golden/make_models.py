"""Writes models.npz, torchvision's networks: python -m tests.golden.make_models

What it holds: the names and shapes of all parameters, and outputs for weights made by a formula.
It needs torch and torchvision, whose compiled part is not used (`pip install --no-deps`).
"""

import json
import zlib
from pathlib import Path

import numpy as np

NETWORKS = ("fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101")
CLASSIFIERS = ("vgg11", "vgg13", "vgg16", "vgg16_bn", "vgg19", "resnet18", "resnet34", "resnet50")
IMAGE = np.random.default_rng(0).standard_normal((1, 3, 65, 49)).astype(np.float32)
KEPT = np.s_[:, ::3, ::3, ::3]  # of the outputs, (1, 21, 65, 49)


def formula(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The array called `name`: the same everywhere, and of a scale that signals survive.

    Uniform numbers, for NumPy's normal ones are not the same everywhere: those far out, one in some
    thousands, take the C library's logarithm, whose last bit differs from system to system.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if dtype.kind == "i":
        return np.zeros(shape, dtype)
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(dtype)
    if name.endswith("weight") and len(shape) == 1:  # of batch norm: above 1, 33 blocks would grow
        return rng.uniform(0.5, 0.9, shape).astype(dtype)
    scale = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.1
    return (scale * 3**0.5 * (2 * rng.random(shape, np.float32) - 1)).astype(dtype)


def shapes_of(state: dict) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in state.items()}


if __name__ == "__main__":
    import torch

    try:  # without the compiled part, the names of its operators are missing
        torch.ops.torchvision.nms  # noqa: B018
    except AttributeError:
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    from torchvision import models

    golden, shapes = {}, {}
    with torch.device("meta"):
        for name in CLASSIFIERS:
            shapes[name] = shapes_of(getattr(models, name)().state_dict())
    for name in NETWORKS:
        make = getattr(models.segmentation, name)
        network = make(weights=None, weights_backbone=None, num_classes=21, aux_loss=True).eval()
        state = network.state_dict()
        shapes[name] = shapes_of(state)
        for key, value in state.items():
            array = formula(key, tuple(value.shape), value.numpy().dtype)
            value.copy_(torch.from_numpy(array))
        with torch.no_grad():
            for key, output in network(torch.from_numpy(IMAGE)).items():
                golden[f"{name}.{key}"] = output.numpy()[KEPT]
    golden["shapes"] = np.frombuffer(json.dumps(shapes).encode(), np.uint8)
    np.savez_compressed(Path(__file__).with_name("models.npz"), **golden)
