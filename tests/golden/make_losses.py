"""Writes losses.npz, PyTorch's activations and losses: python -m tests.golden.make_losses"""

from pathlib import Path

import numpy as np

RNG = np.random.default_rng(0)
SCORES = RNG.standard_normal((2, 4, 3, 5)) * 3
SHARES = RNG.random((2, 4, 3, 5))  # between 0 and 1
CLASSES = np.where(RNG.random((2, 3, 5)) < 0.2, 255, RNG.integers(0, 4, (2, 3, 5)))
WEIGHT = RNG.random(4)
POSITIVE = RNG.random((4, 1, 1)) * 3
PROBABILITIES = SHARES / SHARES.sum(axis=1, keepdims=True)

# function -> its calls: arguments, the first of which gets a gradient
CASES = {
    "relu": [(SCORES,)],
    "leaky_relu": [(SCORES, 0.2)],
    "elu": [(SCORES, 0.7)],
    "relu6": [(SCORES,)],
    "sigmoid": [(SCORES,)],
    "silu": [(SCORES,)],
    "hardswish": [(SCORES,)],
    "tanh": [(SCORES,)],
    "softplus": [(SCORES,), (SCORES, 2.0, 3.0)],
    "gelu": [(SCORES,), (SCORES, {"approximate": "tanh"})],
    "softmax": [(SCORES, 1)],
    "log_softmax": [(SCORES, -1)],
    "cross_entropy": [
        (SCORES, CLASSES, WEIGHT, {"ignore_index": 255, "label_smoothing": 0.1}),
        (SCORES, CLASSES, {"ignore_index": 255, "reduction": "none"}),
        (SCORES, PROBABILITIES, WEIGHT, {"label_smoothing": 0.1}),
    ],
    "nll_loss": [(SCORES, CLASSES, WEIGHT, {"ignore_index": 255})],
    "binary_cross_entropy": [(SHARES, PROBABILITIES)],
    "binary_cross_entropy_with_logits": [(SCORES, SHARES, {"pos_weight": POSITIVE})],
    "mse_loss": [(SCORES, SHARES)],
    "l1_loss": [(SCORES, SHARES)],
    "smooth_l1_loss": [(SCORES, SHARES, {"beta": 0.5})],
    "huber_loss": [(SCORES, SHARES, {"delta": 0.5})],
    "scaled_dot_product_attention": [(SCORES, SHARES, PROBABILITIES, {"is_causal": True})],
}


def call(function, arguments, as_tensor):
    """The tensor that gets a gradient, and the result of function(*arguments)."""

    def converted(a):
        return as_tensor(a) if isinstance(a, np.ndarray) else a

    x, *others = arguments
    named = others.pop() if others and isinstance(others[-1], dict) else {}
    x = as_tensor(x).requires_grad_()
    named = {name: converted(a) for name, a in named.items()}
    return x, function(x, *map(converted, others), **named)


def upstream(shape):
    return np.random.default_rng(1).standard_normal(shape)


def make_losses() -> None:
    import torch

    golden = {}
    for name, calls in CASES.items():
        for i, arguments in enumerate(calls):
            x, y = call(getattr(torch.nn.functional, name), arguments, torch.tensor)
            y.backward(torch.tensor(upstream(y.shape)))
            golden[f"{name}.{i}.y"] = y.detach().numpy()
            golden[f"{name}.{i}.grad"] = x.grad.numpy()
    np.savez_compressed(Path(__file__).with_name("losses.npz"), **golden)


if __name__ == "__main__":
    make_losses()
