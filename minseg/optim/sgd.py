"""Stochastic gradient descent, with momentum.

    d = grad + weight_decay p
    v = momentum v + (1 - dampening) d        (v = d in the first step)
    p = p - lr v                              (Nesterov: p - lr (d + momentum v))

Source: Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013,
        in PyTorch's form, where lr multiplies the velocity when it is used
"""

from typing import Any

from minseg.array import Array, array_module
from minseg.ops.op import Op, launch
from minseg.optim.optimizer import Optimizer, Params, Update, check_at_least_zero
from minseg.tensor import Tensor


def _update_numpy(
    p: Array,
    grad: Array,
    velocity: Array | None,
    lr: float,
    momentum: float,
    grad_weight: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    """The formulas above, in place; `grad_weight` is 1 - dampening, `velocity` None if not used."""
    d = grad + weight_decay * p if weight_decay else grad
    if velocity is not None:
        velocity *= momentum
        velocity += d if grad_weight == 1 else grad_weight * d
        d = d + momentum * velocity if nesterov else velocity
    p -= lr * d


def _update_cuda(p: Array, grad: Array, velocity: Array | None, *options: float) -> None:
    """kernels/optim.cu: the same, in one pass through memory."""
    grad = array_module(grad).ascontiguousarray(grad)
    launch("sgd_update", p, grad, velocity, *options, p.size)


op = Op("sgd", numpy={"update": _update_numpy}, cuda={"update": _update_cuda})


class SGD(Optimizer):
    """Gradient descent; formulas at the top of this file."""

    op = op

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, options: dict[str, Any]) -> None:
        check_at_least_zero("SGD", options, "lr", "momentum", "weight_decay")
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ValueError("SGD: nesterov needs a momentum above 0, and dampening 0")

    def update(
        self, p: Tensor, grad: Array, state: dict[str, Any], group: dict[str, Any]
    ) -> Update:
        momentum = group["momentum"]
        first = "momentum_buffer" not in state
        grad_weight = 1.0 if first else 1.0 - group["dampening"]
        if momentum and first:
            state["momentum_buffer"] = array_module(grad).zeros_like(p.data)
        velocity = state["momentum_buffer"] if momentum else None
        how = (group["lr"], momentum, grad_weight, group["weight_decay"], group["nesterov"])
        return Update((p.data, grad, velocity), how)
