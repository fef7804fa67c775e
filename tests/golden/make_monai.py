"""Writes monai.npz, MONAI's AttentionUnet: python -m tests.golden.make_monai

What it holds: the names and shapes of all parameters; and, for weights made by a formula, outputs
and gradients in float64. It needs torch and, without its dependencies, monai 1.6.
"""

import json
from pathlib import Path

import numpy as np

from tests.golden.make_models import formula, shapes_of
from tests.golden.make_smp import directions

RNG = np.random.default_rng(0)
IMAGE = RNG.standard_normal((2, 3, 32, 48))
UPSTREAM = RNG.standard_normal((2, 5, 32, 48))
KEPT = np.s_[:, ::2, ::3, ::5]  # of the outputs, and of the gradient of the image
WIDTH, DEPTH = 8, 4

if __name__ == "__main__":
    import torch
    from monai.networks.nets import AttentionUnet

    channels = [WIDTH * 2**level for level in range(DEPTH + 1)]
    network = AttentionUnet(2, 3, 5, channels, [2] * DEPTH).eval().double()
    state = network.state_dict()
    for key, value in state.items():
        value.copy_(torch.from_numpy(formula(key, tuple(value.shape), value.numpy().dtype)))
    image = torch.from_numpy(IMAGE).requires_grad_()
    output = network(image)
    output.backward(torch.from_numpy(UPSTREAM))
    golden = {
        "out": output.detach().numpy()[KEPT],
        "grad": image.grad.numpy()[KEPT],
        "products": np.array(
            [
                (p.grad.numpy() * directions(key, tuple(p.shape))).sum()
                for key, p in network.named_parameters()
            ]
        ),
        "shapes": np.frombuffer(json.dumps(shapes_of(state)).encode(), np.uint8),
    }
    np.savez_compressed(Path(__file__).with_name("monai.npz"), **golden)
