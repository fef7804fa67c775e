import copy
import pickle

import numpy as np
import pytest

from minseg import Tensor, nn


class Net(nn.Module):
    """A parameter, buffers of both kinds, nested children, and a module under two names."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(np.full(2, 3.0, np.float32))
        self.register_buffer("count", Tensor(np.array(4)))
        self.register_buffer("cache", Tensor(np.zeros(1, np.float32)), persistent=False)
        self.body = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2, bias=False))
        self.again = self.body[2]
        self.rest = nn.ModuleDict({"drop": nn.Dropout(0.5)})
        self.nothing = None

    def forward(self, x):
        return self.again(self.body(x)) * self.scale


def test_names_are_paths_and_each_part_comes_once():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == [
        "scale",
        "body.0.weight",
        "body.0.bias",
        "body.2.weight",
    ]
    assert [name for name, _ in net.named_buffers()] == ["count", "cache"]
    assert [name for name, _ in net.named_children()] == ["body", "again", "rest"]
    names = ["", "body", "body.0", "body.1", "body.2", "rest", "rest.drop"]
    assert [name for name, _ in net.named_modules()] == names
    assert [p.shape for p in net.parameters(recurse=False)] == [(2,)]
    assert next(name for name, _ in net.body.named_parameters("x")) == "x.0.weight"
    assert [name for name, _ in net.named_buffers("x")] == ["x.count", "x.cache"]
    assert [name for name, _ in nn.Sequential(net).named_buffers()] == ["0.count", "0.cache"]
    assert list(nn.Sequential(net).buffers(recurse=False)) == []
    assert [name for name, _ in net.body.named_modules("x")] == ["x", "x.0", "x.1", "x.2"]


def test_state_dict_has_every_name_and_copies():
    net = Net()
    state = net.state_dict()
    assert list(state) == [
        "scale",
        "count",
        "body.0.weight",
        "body.0.bias",
        "body.2.weight",
        "again.weight",
    ]
    assert all(type(value) is np.ndarray for value in state.values())
    net.scale.data += 1
    np.testing.assert_array_equal(state["scale"], [3, 3])


def test_load_state_dict_copies_into_the_same_tensors():
    one, other = Net(), Net()
    scale, array = other.scale, other.scale.data
    one.scale.data[...] = 7
    state = one.state_dict()
    state["scale"] = Tensor(state["scale"].astype(np.float64))
    assert other.load_state_dict(state) == ([], [])
    assert other.scale is scale
    assert other.scale.data is array
    for name, value in one.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], value)
        assert other.state_dict()[name].dtype == value.dtype


def test_load_state_dict_lists_every_problem_and_loads_nothing():
    net = Net()
    before = net.state_dict()
    state = {name: value + 1 for name, value in before.items() if name != "body.0.bias"}
    state |= {"body.0.weight": np.ones((2, 4)), "extra.weight": np.ones(1), "count": np.array(1.5)}
    with pytest.raises(ValueError, match="loaded nothing") as error:
        net.load_state_dict(state)
    for line in [
        "missing: body.0.bias",
        "unexpected: extra.weight",
        "wrong shape or dtype: body.0.weight: got shape (2, 4) float64, needs (2, 3) float32",
        "wrong shape or dtype: count: got shape () float64, needs () int64",
    ]:
        assert line in str(error.value)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    with pytest.raises(ValueError, match=r"body.0.weight") as error:
        net.load_state_dict(state, strict=False)
    assert "missing" not in str(error.value)
    with pytest.raises(TypeError, match="state_dict is a list"):
        net.load_state_dict([1])


def test_load_state_dict_not_strict_says_what_it_passed_over():
    net = Net()
    result = net.load_state_dict({"scale": np.zeros(2), "more": np.zeros(1)}, strict=False)
    np.testing.assert_array_equal(net.scale.data, [0, 0])
    assert result.unexpected_keys == ["more"]
    assert result.missing_keys[0] == "count"


def test_old_files_may_lack_the_count_of_batches():
    norm = nn.BatchNorm2d(3)
    state = norm.state_dict()
    assert list(state) == [
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    ]
    assert state["num_batches_tracked"].dtype == np.int64
    assert state["num_batches_tracked"].shape == ()
    del state["num_batches_tracked"]
    norm.load_state_dict(state)


def test_train_and_eval_reach_every_module():
    net = Net()
    assert all(module.training for module in net.modules())
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    net.rest.train()
    assert net.rest["drop"].training
    assert not net.training


def test_forward_hooks_see_and_may_replace_the_output():
    layer, seen = nn.ReLU(), []
    look = layer.register_forward_hook(lambda m, args, out: seen.append((m, args, out)))
    x = Tensor([-1.0, 2.0])
    out = layer(x)
    assert seen == [(layer, (x,), out)]
    double = layer.register_forward_hook(lambda m, args, out: out * 2)
    np.testing.assert_array_equal(layer(x).data, [0, 4])
    look.remove()
    look.remove()  # taking it away twice is no fault
    layer(x)
    assert len(seen) == 2
    double.remove()
    np.testing.assert_array_equal(layer(x).data, [0, 2])


def test_gradients_and_freezing():
    net = Net()
    net(Tensor(np.ones((4, 3), np.float32))).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.body.requires_grad_(False)
    assert [p.requires_grad for p in net.parameters()] == [True, False, False, False]


def test_to_changes_floats_in_place():
    net = Net()
    scale = net.scale
    assert net.to(np.float64) is net
    assert net.scale is scale
    assert {p.dtype for p in net.parameters()} == {np.dtype(np.float64)}
    assert net.cache.dtype == np.float64
    assert net.count.dtype == np.int64
    assert net.to("cpu").scale is scale
    for target in ("int32", "bad", np.float16, None):
        with pytest.raises(TypeError, match=r"Module\.to: target is"):
            net.to(target)


def test_apply_visits_children_first():
    names = []
    Net().apply(lambda module: names.append(type(module).__name__))
    body = ["Linear", "ReLU", "Linear", "Sequential"]
    assert names == [*body, "Linear", "Dropout", "ModuleDict", "Net"]


def test_copies_and_pickles_are_independent():
    net = Net()
    net.register_forward_hook(print)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(Net()))):
        assert list(other.state_dict()) == list(net.state_dict())
        assert other.again is other.body[2]
        other.scale.data += 1
    np.testing.assert_array_equal(net.scale.data, [3, 3])


def test_a_class_that_forgets_the_base_init_works():
    class Forgetful(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(2, 2)
            self.register_buffer("b", Tensor([1.0]))

    one, other = Forgetful(), Forgetful()
    one.register_forward_hook(print)
    assert list(one.state_dict()) == ["b", "layer.weight", "layer.bias"]
    assert not other._forward_hooks


def test_repr_shows_what_was_chosen_and_counts_parameters():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU(0.2)
    )
    assert repr(net) == (
        "Sequential(  # 232 parameters\n"
        "  (0): Conv2d(3, 8, (3, 3), padding=(1, 1), bias=False)  # 216 parameters\n"
        "  (1): BatchNorm2d(8)  # 16 parameters\n"
        "  (2): LeakyReLU(negative_slope=0.2)\n"
        ")"
    )
    assert repr(nn.BatchNorm2d(4, momentum=None)) == "BatchNorm2d(4, momentum=None)  # 8 parameters"
    assert "(rest): ModuleDict(\n    (drop): Dropout()\n  )" in repr(Net())


def test_a_part_is_not_lost_by_an_assignment():
    net = Net()
    for name, value, message in [
        ("scale", Tensor([1.0, 2.0]), "Net: scale is a Tensor, needs a Parameter or None"),
        ("scale", 3.0, "scale is a float, needs a Parameter or None"),
        ("count", 5, "count is a int, needs a Tensor or None"),
        ("again", lambda x: x, "again is a function, needs a Module or None"),
    ]:
        before = list(net.state_dict())
        with pytest.raises(TypeError, match=message):
            setattr(net, name, value)
        assert list(net.state_dict()) == before
    net.scale, net.count, net.again = nn.Parameter(np.zeros(1)), Tensor(np.array(7)), nn.ReLU()
    assert net.state_dict()["count"] == 7
    assert net.state_dict()["scale"].shape == (1,)
    net.scale = net.count = net.body = None
    assert list(net.state_dict()) == []
    with pytest.raises(TypeError, match="count is a int, needs a Tensor or None"):
        net.count = 5
    net.count = Tensor(np.array(8))  # still a buffer
    assert list(net.state_dict()) == ["count"]


def test_a_parameter_is_registered_by_name():
    net, shift = nn.ReLU(), nn.Parameter([1.0])
    net.register_parameter("shift", shift)
    net.register_parameter("scale", None)
    assert [*net.parameters()] == [shift]
    assert net.shift is shift
    assert net.scale is None


def test_errors_name_the_culprit():
    net = Net()
    with pytest.raises(ValueError, match=r"name is 'a\.b', needs a string without dots"):
        net.register_buffer("a.b", Tensor([1.0]))
    with pytest.raises(ValueError, match="name 'forward' is taken"):
        net.add_module("forward", nn.ReLU())
    with pytest.raises(TypeError, match="w is a ndarray, needs a Tensor"):
        net.register_buffer("w", np.ones(3))
    with pytest.raises(TypeError, match="w is a Tensor, needs a Parameter"):
        net.register_parameter("w", Tensor([1.0]))
    with pytest.raises(TypeError, match="x is a int, needs a Module"):
        net.add_module("x", 3)
    with pytest.raises(NotImplementedError, match="ModuleDict has no forward"):
        net.rest(1)
