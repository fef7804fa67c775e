"""Runs an op of minseg on all of PyTorch's own samples for it: its OpInfo database."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from minseg import Tensor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

Sample = tuple[tuple, dict]  # positional arguments (the input first), keyword arguments


def samples(name: str, variant: str = "", dtype: torch.dtype = torch.float64) -> Iterator[Sample]:
    """All distinct samples of an op. Raises LookupError where the database has none."""
    entries = [o for o in op_db if (o.name, o.variant_test_name) == (name, variant)]
    if not entries:
        raise LookupError(f"OpInfo has no {name} {variant}")
    entry = entries[0]
    makes_samples = [entry.sample_inputs]
    if entry.reference_inputs_func is not None:  # else they are the same ones again
        makes_samples.append(entry.reference_inputs)
    for makes in makes_samples:
        for sample in makes("cpu", dtype, requires_grad=True):
            yield (sample.input, *sample.args), sample.kwargs


def check(
    name: str,
    ours: Callable[..., Any],
    dtype: torch.dtype,
    variant: str = "",
    reference: Callable[..., Any] | None = None,
    refused: Callable[..., bool] = lambda *args, **kwargs: False,
) -> int:
    """Compare forward and gradients on every sample; return how many were compared.

    `refused(*args, **kwargs)` tells the samples that minseg declines (an unbatched image, say):
    these must raise ValueError or TypeError.
    """
    entry = next(o for o in op_db if (o.name, o.variant_test_name) == (name, variant))
    reference = reference or entry.op
    compared = 0
    for args, kwargs in samples(name, variant, dtype):
        if refused(*args, **kwargs):
            try:
                ours(*_to_minseg(args, []), **_to_minseg(kwargs, []))
            except (ValueError, TypeError):
                continue
            raise AssertionError(f"{name} was to refuse {_describe(args, kwargs)}")
        try:
            _check_sample(ours, reference, args, kwargs, dtype)
        except Exception as error:
            raise AssertionError(f"{name} {variant}: {_describe(args, kwargs)}: {error}") from error
        compared += 1
    return compared


def _check_sample(ours, reference, args, kwargs, dtype):
    # The truth is PyTorch's float64 answer to the same inputs, whatever dtype minseg computes in.
    exact_leaves: list[torch.Tensor] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's remarks on its own samples
        exact = reference(*_to_double(args, exact_leaves), **_to_double(kwargs, exact_leaves))
    exact = _outputs(exact)
    leaves: list[Tensor] = []
    got = _outputs(ours(*_to_minseg(args, leaves), **_to_minseg(kwargs, leaves)))
    assert len(got) == len(exact), f"{len(got)} outputs, needs {len(exact)}"
    numpy_dtype = np.dtype(str(dtype).removeprefix("torch."))
    length = max([t.numel() for t in exact_leaves], default=1)
    for g, e in zip(got, exact, strict=True):
        _compare("output", g.data, e.detach().numpy(), numpy_dtype, length)

    rng = np.random.default_rng(0)
    loss = torch.zeros((), dtype=torch.float64)
    for g, e in zip(got, exact, strict=True):
        if not e.requires_grad:
            continue
        upstream = rng.standard_normal(e.shape).astype(numpy_dtype)
        loss = loss + (e * torch.from_numpy(upstream).double()).sum()
        assert g.requires_grad, "the output does not require a gradient"
        g.backward(upstream, retain_graph=True)
    if not loss.requires_grad:
        return
    loss.backward()
    for i, (t, e) in enumerate(zip(leaves, exact_leaves, strict=True)):
        if e.grad is None:
            assert t.grad is None or not t.grad.data.any(), f"input {i} should get no gradient"
            continue
        grad = np.zeros(t.shape, t.dtype) if t.grad is None else t.grad.data
        _compare(
            f"gradient {i}", grad, e.grad.numpy(), numpy_dtype, max(length, *upstream.shape, 1)
        )


def _compare(what, got, exact, dtype, length):
    assert got.shape == exact.shape, f"{what}: shape {got.shape}, needs {exact.shape}"
    if exact.dtype.kind in "iub":
        np.testing.assert_array_equal(got, exact, err_msg=what)
        return
    assert got.dtype == dtype, f"{what}: dtype {got.dtype}, needs {dtype}"
    finite = np.isfinite(exact)
    np.testing.assert_array_equal(got[~finite], exact[~finite], err_msg=what)
    if finite.any():
        scale = max(np.abs(exact[finite]).max(), 1.0)
        tolerance = 16 * np.finfo(dtype).eps * np.sqrt(length) * scale
        np.testing.assert_allclose(got[finite], exact[finite], rtol=0, atol=tolerance, err_msg=what)


def _outputs(result):
    return list(result) if isinstance(result, tuple | list) else [result]


def _map(value, leaf):
    if isinstance(value, torch.Tensor):
        return leaf(value)
    if isinstance(value, dict):
        return {k: _map(v, leaf) for k, v in value.items()}
    if isinstance(value, list | tuple) and any(isinstance(v, torch.Tensor) for v in value):
        return type(value)(_map(v, leaf) for v in value)
    return value


def _to_double(value, leaves):
    def leaf(t):
        if not t.is_floating_point():
            return t.detach().clone()
        double = t.detach().double().clone().requires_grad_(t.requires_grad)
        if t.requires_grad:
            leaves.append(double)
        return double

    return _map(value, leaf)


def _to_minseg(value, leaves):
    def leaf(t):
        tensor = Tensor(t.detach().numpy().copy(), requires_grad=t.requires_grad)
        if t.requires_grad:
            leaves.append(tensor)
        return tensor

    return _map(value, leaf)


def _describe(args, kwargs):
    text = [f"{tuple(a.shape)}" if isinstance(a, torch.Tensor) else repr(a) for a in args]
    return ", ".join(text + [f"{k}={v!r}" for k, v in kwargs.items()])[:400]
