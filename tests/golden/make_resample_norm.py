"""Writes resample_norm.npz, PyTorch's answers: python -m tests.golden.make_resample_norm"""

from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_name("resample_norm.npz")

# case -> function, keyword arguments (arrays are drawn for shapes given as lists)
CASES = {
    f"interpolate {mode} {scale}": ("interpolate", {"scale_factor": scale, "mode": mode})
    for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area")
    for scale in (1.7, 0.5)
}
CASES |= {
    f"interpolate {mode} corners": (
        "interpolate",
        {"size": (9, 4), "mode": mode, "align_corners": True},
    )
    for mode in ("bilinear", "bicubic")
}
CASES |= {
    f"grid_sample {mode} {padding}": (
        "grid_sample",
        {"grid": [2, 4, 3, 2], "mode": mode, "padding_mode": padding, "align_corners": False},
    )
    for mode in ("bilinear", "nearest", "bicubic")
    for padding in ("zeros", "border", "reflection")
}
CASES |= {
    "batch_norm": (
        "batch_norm",
        {"running_mean": None, "running_var": None, "weight": [4], "bias": [4], "training": True},
    ),
    "instance_norm": ("instance_norm", {"weight": [4], "bias": [4]}),
    "group_norm": ("group_norm", {"num_groups": 2, "weight": [4], "bias": [4]}),
    "layer_norm": ("layer_norm", {"normalized_shape": (5, 6), "weight": [5, 6], "bias": [5, 6]}),
}


def arrays(arguments):
    """The input, the arguments, and the generator that then draws the upstream gradient."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 4, 5, 6))
    drawn = {k: rng.standard_normal(v) if isinstance(v, list) else v for k, v in arguments.items()}
    return x, drawn, rng


def make_resample_norm() -> None:
    import torch

    golden = {}
    for case, (name, arguments) in CASES.items():
        x, drawn, rng = arrays(arguments)
        leaves = {"input": torch.from_numpy(x).requires_grad_()}
        for k, v in drawn.items():
            if isinstance(v, np.ndarray):
                leaves[k] = torch.from_numpy(v).requires_grad_()
        y = getattr(torch.nn.functional, name)(**{**drawn, **leaves})
        y.backward(torch.from_numpy(rng.standard_normal(y.shape)))
        golden[f"{case}.y"] = y.detach().numpy()
        golden |= {f"{case}.{k}": leaf.grad.numpy() for k, leaf in leaves.items()}
    np.savez_compressed(GOLDEN, **golden)


if __name__ == "__main__":
    make_resample_norm()
