from collections import OrderedDict

import pytest

from minseg import Tensor, nn


class Add(nn.Module):
    def __init__(self, amount):
        super().__init__()
        self.amount = amount

    def forward(self, x):
        return x * 2 + self.amount


def test_sequential_runs_in_order():
    net = nn.Sequential(Add(1), Add(10))
    assert net(Tensor([1.0])).item() == (1 * 2 + 1) * 2 + 10
    assert nn.Sequential()(Tensor([3.0])).item() == 3


def test_sequential_by_name_and_slices_keep_names():
    net = nn.Sequential(OrderedDict(a=Add(1), b=Add(2), c=Add(3)))
    assert net.b is net[1] is net[-2]
    assert [name for name, _ in net[1:].named_children()] == ["b", "c"]
    assert net[1:][0] is net.b
    assert isinstance(net[:2], nn.Sequential)
    assert [module.amount for module in net] == [1, 2, 3]
    net[1] = Add(7)
    assert net.b.amount == 7
    assert len(net) == 3


def test_a_module_may_stand_in_a_row_twice():
    add = Add(1)
    net = nn.Sequential(add, add)
    assert len(net) == 2
    assert net(Tensor([0.0])).item() == 3
    assert len(list(net.children())) == 1


def test_module_list():
    assert len(nn.ModuleList()) == len(nn.ModuleList(None)) == len(nn.ModuleDict(None)) == 0
    layers = nn.ModuleList([nn.Linear(2, 2)])
    layers.append(nn.ReLU()).extend([nn.Linear(2, 3, bias=False)])
    assert list(layers.state_dict()) == ["0.weight", "0.bias", "2.weight"]
    assert isinstance(layers[-1], nn.Linear)
    assert isinstance(layers[1:], nn.ModuleList)
    assert [name for name, _ in layers[1:].named_children()] == ["0", "1"]
    with pytest.raises(IndexError):
        layers[3]
    with pytest.raises(TypeError, match="1 is a function, needs a Module"):
        nn.Sequential(nn.ReLU(), lambda x: x)


def test_module_dict():
    heads = nn.ModuleDict({"out": nn.Linear(2, 1)})
    heads["aux"] = nn.Linear(2, 3)
    assert list(heads) == list(heads.keys()) == ["out", "aux"]
    assert "aux" in heads
    assert len(heads) == 2
    assert [name for name, _ in heads.items()] == ["out", "aux"]
    assert next(iter(heads.values())) is heads["out"]
    assert list(heads.state_dict()) == ["out.weight", "out.bias", "aux.weight", "aux.bias"]
    with pytest.raises(ValueError, match="name 'keys' is taken"):
        heads["keys"] = nn.ReLU()
