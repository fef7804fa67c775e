"""Writes smp.npz, the networks of segmentation_models.pytorch: python -m tests.golden.make_smp

What it holds: the names and shapes of all parameters; and, for weights made by a formula, outputs
and gradients in float64. It needs torch, and without their dependencies torchvision, timm and
segmentation-models-pytorch 0.6.
"""

import json
from pathlib import Path

import numpy as np

from tests.golden.make_models import formula, shapes_of

# Our name and backbone -> theirs.
NETWORKS = {
    ("unetplusplus", "resnet18"): ("UnetPlusPlus", "resnet18"),
    ("pspnet", "resnet18"): ("PSPNet", "resnet18"),
    ("fpn", "resnet18"): ("FPN", "resnet18"),
    ("deeplabv3plus", "resnet18"): ("DeepLabV3Plus", "resnet18"),
    ("deeplabv3plus", "resnet50"): ("DeepLabV3Plus", "resnet50"),
    ("deeplabv3plus", "xception65"): ("DeepLabV3Plus", "tu-xception65"),
    ("deeplabv3plus", "mobilenet_v2"): ("DeepLabV3Plus", "mobilenet_v2"),
}
RNG = np.random.default_rng(0)
IMAGE = RNG.standard_normal((2, 3, 64, 96))
UPSTREAM = RNG.standard_normal((2, 5, 64, 96))
KEPT = np.s_[:, ::2, ::7, ::9]  # of the outputs, and of the gradient of the image


def directions(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Gradients of parameters are kept as their products with this: one number each."""
    return formula(f"{name}.direction", (1, *shape), np.dtype(np.float64))[0]


if __name__ == "__main__":
    import segmentation_models_pytorch as smp
    import torch

    golden, shapes = {}, {}
    for (model, backbone), (theirs, encoder) in NETWORKS.items():
        name = f"{model}.{backbone}"
        network = getattr(smp, theirs)(encoder, encoder_weights=None, classes=5).eval().double()
        state = network.state_dict()
        shapes[name] = shapes_of(state)
        for key, value in state.items():
            array = formula(key, tuple(value.shape), value.numpy().dtype)
            value.copy_(torch.from_numpy(array))
        image = torch.from_numpy(IMAGE).requires_grad_()
        output = network(image)
        output.backward(torch.from_numpy(UPSTREAM))
        golden[f"{name}.out"] = output.detach().numpy()[KEPT]
        golden[f"{name}.grad"] = image.grad.numpy()[KEPT]
        golden[f"{name}.products"] = np.array(
            [
                (p.grad.numpy() * directions(key, tuple(p.shape))).sum()
                for key, p in network.named_parameters()
                if p.grad is not None
            ]
        )
    golden["shapes"] = np.frombuffer(json.dumps(shapes).encode(), np.uint8)
    np.savez_compressed(Path(__file__).with_name("smp.npz"), **golden)
