"""Writes pool.npz, PyTorch's answers for pooling and its kin: python -m tests.golden.make_pool"""

from pathlib import Path

import numpy as np

# name, function, arguments behind the input (arrays are drawn for shapes given as lists)
CASES = [
    ("max_pool2d", (3, 2, 1, 1, True)),
    ("avg_pool2d", (3, 2, 1, True, False)),
    ("adaptive_avg_pool2d", ((3, 4),)),
    ("adaptive_max_pool2d", ((3, 4),)),
    ("conv_transpose2d", ([4, 2, 3, 2], None, 2, 1, 1, 2, 2)),
    ("unfold", ((2, 3), 1, 1, 2)),
    ("pixel_shuffle", (2,)),
    ("linear", ([5, 10],)),
]


def arrays(arguments):
    """The input, the arguments, and the generator that then draws the upstream gradient."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 4, 7, 10))
    drawn = [rng.standard_normal(a) if isinstance(a, list) else a for a in arguments]
    return x, drawn, rng


def make_pool() -> None:
    import torch

    golden = {}
    for name, arguments in CASES:
        x, drawn, rng = arrays(arguments)
        x = torch.from_numpy(x).requires_grad_()
        drawn = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in drawn]
        y = getattr(torch.nn.functional, name)(x, *drawn)
        y.backward(torch.from_numpy(rng.standard_normal(y.shape)))
        golden[f"{name}.y"], golden[f"{name}.grad"] = y.detach().numpy(), x.grad.numpy()
    np.savez_compressed(Path(__file__).with_name("pool.npz"), **golden)


if __name__ == "__main__":
    make_pool()
