"""Every op on a GPU, forward and gradient, in both dtypes: `minseg compare`'s cases and bounds."""

from functools import cache

import numpy as np
import pytest

import minseg.functional as F
from minseg import kernels
from minseg.compare.cases import cases_of, list_cases
from minseg.compare.row import Row
from minseg.compare.run import _reference
from minseg.compare.witnesses import Gpu
from minseg.tensor import Tensor
from tests.gpu import needs_gpu
from tests.witness import assert_agree

pytestmark = needs_gpu


@cache
def rows(op: str, dtype: type) -> tuple[list[Row], set[str]]:
    """How far each part of the op's small cases is off, and the kernels that were launched."""
    judged, launched, gpu = [], set(), Gpu()
    observe = lambda launch: launched.add(launch.kernel.name)  # noqa: E731
    kernels.observers.append(observe)
    try:
        for case in cases_of(op):
            if case.large:
                continue
            arrays = case.in_dtype(dtype)
            reference = _reference(case, arrays)
            for part in case.parts:
                row = Row(op, part, case.shape, np.dtype(dtype).name, "gpu", "cuda", False,
                          case.length(part))  # fmt: skip
                row.judge(gpu.compute(case, part, arrays).array, reference[part], np.dtype(dtype))
                judged.append(row)
    finally:
        kernels.observers.remove(observe)
    return judged, launched


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", list_cases())
def test_op_agrees_with_float64_within_rounding(op, dtype):
    judged, _ = rows(op, dtype)
    assert judged
    failed = [f"{r.part} of {r.shape}: {r.ratio:.1f} x {r.tolerance:.2g}, {r.problem}"
              for r in judged if r.failed]  # fmt: skip
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_kernel_took_part(dtype):
    launched = set().union(*(rows(op, dtype)[1] for op in list_cases()))
    assert launched == set(kernels.list_kernels())


def image(device="cuda", dtype=np.float32):
    return Tensor(np.ones((1, 2, 5, 5), dtype)).to(device)


def test_devices_and_dtypes_are_not_mixed():
    weight = Tensor(np.ones((3, 2, 3, 3), np.float32))
    with pytest.raises(ValueError, match="conv2d: weight is on cpu but the input is on cuda"):
        F.conv2d(image(), weight)
    with pytest.raises(TypeError, match="conv2d: weight is float64 but the input is float32"):
        F.conv2d(image(), weight.to("cuda").to(np.float64))
    running = np.zeros(2, np.float32), np.ones(2, np.float32)
    with pytest.raises(ValueError, match="batch_norm: running_mean is on cpu but the input is on"):
        F.batch_norm(image(), *running)
    with pytest.raises(ValueError, match="add: one operand is on cuda, the other on cpu"):
        image() + image("cpu")
    with pytest.raises(ValueError, match="all arrays must be on one device"):
        kernels.check("matmul", image().data, image("cpu").data, image().data, 1, 5, 5, 5)


def test_what_comes_back_is_where_and_what_it_was():
    for dtype in (np.float32, np.float64):
        x = image(dtype=dtype).requires_grad_()
        y = F.softmax(F.relu(x), 1)
        y.sum().backward()
        assert y.device == x.grad.device == "cuda"
        assert y.dtype == x.grad.dtype == dtype
        assert isinstance(y.numpy(), np.ndarray)
        assert y.to("cpu").device == "cpu"


def test_a_wrong_label_is_named_when_the_loss_is_read():
    labels = np.zeros((1, 5, 5), np.int64)
    labels[0, 3, 4] = 7
    loss = F.cross_entropy(image(), Tensor(labels).to("cuda"))
    with pytest.raises(ValueError, match=r"target has label 7 at \(0, 3, 4\), needs 0 to 1"):
        loss.item()
    assert np.isfinite(F.cross_entropy(image(), Tensor(labels * 0).to("cuda")).item())


def test_the_gradient_of_a_norm_over_65536_numbers_stays_float32():
    """CuPy 13 divides float32 by an int that needs more than 16 bits in float64."""
    x = np.random.default_rng(0).standard_normal((1, 1, 256, 256)).astype(np.float32)
    upstream = x[..., ::-1].copy()
    gradients = []
    for device in ("cpu", "cuda"):
        leaf = Tensor(x).to(device).requires_grad_()
        F.instance_norm(leaf).backward(Tensor(upstream).to(device))
        assert leaf.grad.dtype == np.float32
        gradients.append(leaf.grad.numpy())
    assert_agree(gradients[1], gradients[0], np.float32, length=x.size)
