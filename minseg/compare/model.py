"""`--model`: every layer of a small network, its output and gradient by NumPy and by the kernels.

The reference is the same network in float64 on NumPy. A layer's error is carried on by all layers
that follow. So the `length` of a layer's tolerance is the sum of the reductions' lengths up to it;
for a gradient, of the whole forward pass and of the backward pass down to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minseg import nn
from minseg.compare.row import Row
from minseg.compare.run import Comparison, machine
from minseg.compare.witnesses import Emulated, Gpu, NumPy, Witness, choose
from minseg.cuda import faults
from minseg.models import build
from minseg.random import manual_seed
from minseg.tensor import Tensor, record

CLASSES, SIZE = 3, (20, 24)
# With fewer images, batch norm of pooled features is ill-conditioned: of two, only a sign is left.
IMAGES = 4
RUNS = 4  # by NumPy and by the kernels, in float32 and in float64
SMALL: dict[str, dict[str, Any]] = {
    "unet": {"width": 4, "depth": 2, "norm": "batch"},
    "fcn8s": {"width": 2, "depth": 11, "norm": "batch", "padding": "same"},
    "deeplabv3plus": {"width": 4, "depth": 18},
}


@dataclass
class Trace:
    """The layers' values, in order; how many terms each layer sums, and at how many places."""

    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    gradients: dict[str, np.ndarray] = field(default_factory=dict)
    parameters: dict[str, np.ndarray] = field(default_factory=dict)
    terms: dict[str, int] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    kernels: tuple[str, ...] = ()


def compare_model(
    name: str, device: str = "auto", sanitize: bool = False,
    advance: Callable[[str], None] = lambda what: None,
) -> Comparison:  # fmt: skip
    """Compare the layers of a small network of this name.

    ValueError for a name other than those in SMALL; errors of `device` as in `choose`.
    """
    if name not in SMALL:
        raise ValueError(
            f"compare: --model {name}: there are small networks of: {', '.join(SMALL)}"
        )
    chosen, notes = choose(device, sanitize)
    witnesses = [w for w in chosen if isinstance(w, NumPy | Emulated | Gpu)]
    result = Comparison(notes=notes, machine=machine(witnesses))
    advance("numpy, float64")
    reference = _run(name, np.dtype(np.float64), NumPy())
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        for witness in witnesses:
            if isinstance(witness, NumPy) and dtype == np.float64:
                continue  # the reference itself
            advance(f"{witness.name}, {dtype}")
            result.rows += _rows(name, reference, witness, dtype)
    result.findings += [f for w in witnesses if isinstance(w, Emulated) for f in w.findings]
    return result


def _rows(name: str, reference: Trace, witness: Witness, dtype: np.dtype) -> list[Row]:
    forward, backward = _lengths(reference)
    label = f"{SMALL[name]} on {IMAGES}x3x{SIZE[0]}x{SIZE[1]}"
    try:
        trace = _run(name, dtype, witness)
    except Exception as error:  # whatever a broken kernel leads to is that row's failure
        row = Row(name, "forward", label, dtype.name, witness.name, witness.device, False, 1)
        row.fail(faults.words(error))
        return [row]
    kinds: Sequence[tuple[str, dict[str, np.ndarray], dict[str, np.ndarray], dict[str, int]]] = (
        ("", trace.outputs, reference.outputs, forward),
        ("grad of ", trace.gradients, reference.gradients, backward),
        ("grad of ", trace.parameters, reference.parameters, backward),
    )
    rows = []
    for prefix, got, expected, lengths in kinds:
        for layer in expected:
            if layer in lengths:
                length = lengths[layer]
            else:  # a parameter, whose gradient is a sum over all places
                owner = layer.rpartition(".")[0]
                length = lengths[owner] + reference.places[owner]
            row = Row(name, prefix + layer, label, dtype.name, witness.name, witness.device,
                      False, length, kernels=trace.kernels)  # fmt: skip
            row.judge(got[layer], expected[layer], dtype)
            rows.append(row)
    return rows


def _lengths(trace: Trace) -> tuple[dict[str, int], dict[str, int]]:
    """The terms summed up to each layer: by the forward pass, and by the backward pass after it."""
    forward, backward, total = {}, {}, 0
    for layer, terms in trace.terms.items():
        total += terms
        forward[layer] = total
    for layer, terms in reversed(trace.terms.items()):
        total += terms
        backward[layer] = total
    return forward, backward


def _run(name: str, dtype: np.dtype, witness: Witness) -> Trace:
    """One forward and backward pass in `dtype`; weights and images are float32 numbers."""
    manual_seed(0)
    rng = np.random.default_rng(0)
    model = build(name, CLASSES, **SMALL[name]).to(dtype)
    images, upstream = (
        rng.standard_normal((IMAGES, channels, *SIZE)).astype(np.float32).astype(dtype)
        for channels in (3, CLASSES)
    )
    trace = Trace()
    for layer, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            module.eval()  # dropping elements has nothing to do with rounding
        if layer and not list(module.children()):
            module.register_forward_hook(_watch(layer, trace))
    x, gradient = Tensor(images), Tensor(upstream)
    if isinstance(witness, Gpu):
        model, x, gradient = model.to("cuda"), x.to("cuda"), gradient.to("cuda")
    launched: list[str] = []
    with witness.emulating() if isinstance(witness, Emulated) else nullcontext(launched) as names:
        model(x).backward(gradient)
        launched += names
    trace.kernels = tuple(sorted(set(launched)))
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:  # FCN's last upsampling is fixed
            assert parameter.grad is not None, parameter_name
            trace.parameters[parameter_name] = parameter.grad.numpy()
    return trace


def _watch(layer: str, trace: Trace) -> Callable[..., Tensor]:
    """A hook that keeps a layer's output, and, in the backward pass, its gradient."""

    calls = 0

    def hook(module: nn.Module, arguments: tuple[Any, ...], y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        name = layer if calls == 1 else f"{layer}, call {calls}"
        trace.outputs[name] = y.numpy().copy()
        weight = getattr(module, "weight", None)
        trace.places[name] = places = y.numel() // y.shape[1]
        terms = places if isinstance(module, nn.BatchNorm2d) else 1
        if weight is not None and weight.ndim > 1:
            terms = math.prod(weight.shape[1:]) + 1
        trace.terms[name] = terms

        def backward(grad: Any) -> tuple[Any]:
            trace.gradients[name] = Tensor(grad).numpy().copy()
            return (grad,)

        return record("watch", y.data, (y,), backward)

    return hook
