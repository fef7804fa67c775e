"""Adam: each weight's step is its mean gradient, divided by the gradient's typical size.

    m = beta1 m + (1 - beta1) g               mean of the gradients
    v = beta2 v + (1 - beta2) g^2             mean of their squares
    p = p - lr m' / (sqrt(v') + eps),         m' = m / (1 - beta1^t), v' = v / (1 - beta2^t)

Both means start at 0; the divisions by 1 - beta^t in step t correct for that. Weight decay: Adam
adds weight_decay p to g; AdamW leaves g alone and shrinks p by lr weight_decay p. With `amsgrad`,
v' is computed from the largest v so far, so that a rare large gradient is never forgotten.

Source: Kingma & Ba, "Adam", 2015, algorithm 1; Loshchilov & Hutter, "Decoupled weight decay
        regularization", 2019, algorithm 2; Reddi et al., "On the convergence of Adam and beyond",
        2018, algorithm 2, with the corrections as in PyTorch
"""

import math
from collections.abc import Sequence
from typing import Any

from minseg.array import Array, array_module
from minseg.ops.op import Op, launch
from minseg.optim.optimizer import Optimizer, Params, Update, check_at_least_zero
from minseg.tensor import Tensor


def _update_numpy(
    p: Array,
    grad: Array,
    m: Array,
    v: Array,
    largest_v: Array | None,
    beta1: float,
    beta2: float,
    step_size: float,
    root_correction: float,
    eps: float,
    shrink: float,
    l2: float,
) -> None:
    """One step in place: p shrinks, then moves by step_size m / (sqrt(v) root_correction + eps)."""
    xp = array_module(p)
    scratch = xp.empty_like(p)
    if shrink != 1:
        p *= shrink
    if l2:
        grad = grad + l2 * p
    xp.subtract(grad, m, out=scratch)
    scratch *= 1 - beta1
    m += scratch
    xp.multiply(grad, grad, out=scratch)
    scratch *= 1 - beta2
    v *= beta2
    v += scratch
    if largest_v is not None:
        v = xp.maximum(largest_v, v, out=largest_v)
    xp.sqrt(v, out=scratch)
    scratch *= root_correction
    scratch += eps
    xp.divide(m, scratch, out=scratch)
    scratch *= step_size
    p -= scratch


def _update_cuda(
    p: Array,
    grad: Array,
    m: Array,
    v: Array,
    largest_v: Array | None,
    beta1: float,
    beta2: float,
    *how: float,
) -> None:
    """kernels/optim.cu: the same, in one pass through memory."""
    grad = array_module(grad).ascontiguousarray(grad)
    weights = (1 - beta1, beta2, 1 - beta2)
    launch("adam_update", p, grad, m, v, largest_v, *weights, *how, p.size)


op = Op("adam", numpy={"update": _update_numpy}, cuda={"update": _update_cuda})


class Adam(Optimizer):
    """Adam; formulas at the top of this file. `weight_decay` is L2 regularisation."""

    op = op
    decoupled = False

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, options: dict[str, Any]) -> None:
        check_at_least_zero(type(self).__name__, options, "lr", "eps", "weight_decay")
        betas = options["betas"]
        pair = isinstance(betas, Sequence) and len(betas) == 2
        if not pair or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(
                f"{type(self).__name__}: betas is {betas!r}, needs two numbers in [0, 1)"
            )

    def update(
        self, p: Tensor, grad: Array, state: dict[str, Any], group: dict[str, Any]
    ) -> Update:
        xp = array_module(grad)
        if not state:
            state["step"] = 0
            state["exp_avg"] = xp.zeros_like(p.data)
            state["exp_avg_sq"] = xp.zeros_like(p.data)
            if group["amsgrad"]:
                state["max_exp_avg_sq"] = xp.zeros_like(p.data)
        state["step"] += 1
        lr, (beta1, beta2) = group["lr"], group["betas"]
        step_size = lr / (1 - beta1 ** state["step"])
        root_correction = 1 / math.sqrt(1 - beta2 ** state["step"])
        shrink = 1 - lr * group["weight_decay"] if self.decoupled else 1.0
        l2 = 0.0 if self.decoupled else group["weight_decay"]
        how = (beta1, beta2, step_size, root_correction, group["eps"], shrink, l2)
        largest_v = state["max_exp_avg_sq"] if group["amsgrad"] else None
        return Update((p.data, grad, state["exp_avg"], state["exp_avg_sq"], largest_v), how)


class AdamW(Adam):
    """Adam with decoupled weight decay; formulas at the top of this file."""

    decoupled = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
