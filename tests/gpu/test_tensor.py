"""The operations on Tensors on a GPU: NumPy's results and errors, where CuPy has its own."""

import numpy as np
import pytest

import minseg
from minseg import Tensor
from tests.gpu import needs_gpu
from tests.test_tensor import UNARY

pytestmark = needs_gpu

VALUES = np.random.default_rng(3).uniform(0.5, 2, (2, 3))
# These take arrays of NumPy's beside the tensor, which lie on another device here.
ON_ANY_DEVICE = [name for name in UNARY if name != "array on the left"]


def there(values=VALUES, dtype=np.float32, requires_grad=False):
    return Tensor(np.asarray(values, dtype)).to("cuda").requires_grad_(requires_grad)


@pytest.mark.parametrize("name", ON_ANY_DEVICE)
def test_gradient(name):
    assert minseg.gradcheck(UNARY[name], [there(dtype=np.float64, requires_grad=True)])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_gradients_go_from_device_to_device(device):
    x = Tensor(VALUES).to(device).requires_grad_()
    (x.to("cpu").to("cuda") * 2).sum().backward()
    (x.to("cuda").to("cpu") * 3).sum().backward()
    assert x.grad.device == device
    np.testing.assert_array_equal(x.grad.numpy(), np.full(VALUES.shape, 5.0))


@pytest.mark.parametrize("end", [70000, np.int64(70000), 70000.0, np.array(70000)])
def test_large_numbers_leave_the_dtype(end):
    """CuPy 13 takes integers above 65535 for more than float32 can hold."""
    for compute in (lambda x: (x * 1e5).clamp(-end, end), lambda x: x**end, lambda x: x - end):
        x = there(requires_grad=True)
        compute(x).sum().backward()
        assert compute(x).dtype == x.grad.dtype == np.float32
    assert (there() * 1e5).clamp(-end, end).max().item() == 70000


def test_a_number_is_on_no_device():
    x = there(requires_grad=True)
    for number in (0.5, np.float64(0.5), np.array(0.5, np.float32)):
        assert (x > number).numpy().all()
        assert x.where(number, 0.0).numpy().all()
    x.sum().backward(2.0)
    np.testing.assert_array_equal(x.grad.numpy(), np.full(VALUES.shape, 2, np.float32))


HERE = Tensor(VALUES.astype(np.float32))
MIXED = {
    "equal": lambda x: x == VALUES,
    "less": lambda x: x < HERE,
    "bitwise_and": lambda x: (x > 1) & (VALUES > 1),
    "where": lambda x: x.where(VALUES > 1, 0.0),
    "backward": lambda x: (x * 2).backward(VALUES),
}


@pytest.mark.parametrize("name", MIXED)
def test_devices_are_not_mixed(name):
    with pytest.raises(ValueError, match=f"{name}: one operand is on cuda, the other on cpu"):
        MIXED[name](there(requires_grad=True))


@pytest.mark.parametrize("join", [minseg.cat, minseg.stack])
def test_tensors_of_two_devices_are_not_joined(join):
    for tensors in ([there(), HERE], [HERE, there()]):
        with pytest.raises(ValueError, match="the tensors are on cpu and cuda, needs one device"):
            join(tensors)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([0, 2], "2 is out of bounds for dim 0 with size 2"),
        ((slice(None), np.array([1, -4])), "-4 is out of bounds for dim 1 with size 3"),
        ((..., None, np.array([[3]])), "3 is out of bounds for dim 1 with size 3"),
        ((1, [0, 5]), "5 is out of bounds for dim 0 with size 3"),
        (0.5, "0.5 is no integer"),
    ],
)
def test_an_index_is_in_range(index, message):
    """CuPy would begin again from the start."""
    with pytest.raises(IndexError, match=message):
        there()[index]


def test_an_index_there_is_checked_when_something_is_read():
    found = there()[Tensor(np.array([1, 2])).to("cuda")]
    with pytest.raises(IndexError, match="2 is out of bounds for dim 0 with size 2"):
        found.numpy()
    mask = there() > 1
    np.testing.assert_array_equal(there()[mask].numpy(), HERE.data[VALUES > 1])
    last = there()[Tensor(np.array([-1, 1])).to("cuda")]
    np.testing.assert_array_equal(last.numpy(), HERE.data[[-1, 1]])
