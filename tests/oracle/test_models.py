"""Whole networks and files of weights, against PyTorch."""

import numpy as np
import pytest
import torch

import minseg
from minseg.bench.on_torch import models_on_torch
from minseg.hub import load_weights
from minseg.models import build
from tests.golden.make_fcn import fcn_by_hand
from tests.models.test_models import QUICK, image, logits, options_of, small
from tests.witness import assert_agree


@pytest.fixture(scope="module")
def build_in_torch():
    """`build`, from the same files, which for this import find torch.nn where minseg.nn was."""
    return models_on_torch().build


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", QUICK)
def test_the_same_network_on_torch_nn(name, training, build_in_torch):
    """Logits and all gradients agree, float64; in training, batch norm's statistics too."""
    network = small(name).to(np.float64).train(training)
    rng = np.random.default_rng(0)
    for parameter in network.parameters():
        parameter.data += 0.05 * rng.standard_normal(parameter.shape)
    other = build_in_torch(name, num_classes=3, **options_of(name)).double().train(training)
    other.load_state_dict({k: torch.from_numpy(v) for k, v in network.state_dict().items()})
    for module in [*network.modules(), *other.modules()]:
        if type(module).__name__ in ("Dropout", "DropPath"):
            module.p = 0.0  # the two draw differently

    x = image(3, 3, 37, 70, dtype=np.float64).requires_grad_()  # at least two keys in SegFormer
    y = torch.from_numpy(x.data).requires_grad_()
    got, expected = logits(network(x)), logits(other(y))
    upstream = rng.standard_normal(got.shape)
    got.backward(upstream)
    expected.backward(torch.from_numpy(upstream))
    # A layer adds the rounding of its sums (at most 7 * 7 * 32 terms) to what it is given, which
    # batch norm does not let fade: errors add up over the layers, and not as the root of them.
    layers = sum(1 for layer in network.modules() if [*layer.named_parameters(recurse=False)])
    length = 7 * 7 * 32 * layers**2
    assert_agree(got.data, expected.detach(), np.float64, length)
    assert_agree(x.grad.data, y.grad, np.float64, length)
    theirs = dict(other.named_parameters())
    # A layer at a time: the gradient of a bias before batch norm is 0 and rounding.
    for path, layer in network.named_modules():
        own = [(n, p) for n, p in layer.named_parameters(path, recurse=False) if p.requires_grad]
        if own:
            got = np.concatenate([p.grad.data.ravel() for _, p in own])
            expected = np.concatenate([theirs[n].grad.numpy().ravel() for n, _ in own])
            assert_agree(got, expected, np.float64, length)
    for key, value in network.state_dict().items():
        if "running" in key:
            assert_agree(value, other.state_dict()[key], np.float64, length)


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_the_authors_fcn(stride):
    minseg.manual_seed(0)
    network = build(f"fcn{stride}s", num_classes=3, width=2).to(np.float64).eval()
    rng = np.random.default_rng(0)
    for parameter in network.parameters():
        parameter.data += 0.05 * rng.standard_normal(parameter.shape)
    weights = {key: torch.from_numpy(value) for key, value in network.state_dict().items()}
    x = image(1, 3, 45, 70, dtype=np.float64)
    expected = fcn_by_hand(weights, torch.from_numpy(x.data), stride)
    assert_agree(network(x).data, expected, np.float64, length=7 * 7 * 16 * 20)


# -- files -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_what_torch_saves_is_read(tmp_path, new_format, wrapped):
    whole = torch.arange(24.0).reshape(2, 3, 4)
    state = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).state_dict()
    state["parameter"] = torch.nn.Parameter(torch.ones(3))
    state["transposed"], state["view"] = whole.permute(2, 0, 1), whole[1, 1:]
    state["empty"], state["flags"] = torch.zeros(0, 3), torch.tensor([True, False])
    state["double"], state["byte"] = torch.rand(2).double(), torch.tensor([7], dtype=torch.uint8)
    state["half"], state["brain"] = torch.rand(3).half(), torch.rand(3).bfloat16()
    path = tmp_path / "weights.pth"
    torch.save(
        {"epoch": 2, "model": state} if wrapped else state,
        path,
        _use_new_zipfile_serialization=new_format,
    )
    with pytest.warns(UserWarning, match="2 arrays of 16-bit floats"):
        arrays = load_weights(path)
    assert list(arrays) == list(state)
    for name, expected in state.items():
        expected = expected.detach()
        expected = expected.float() if expected.dtype in (torch.half, torch.bfloat16) else expected
        np.testing.assert_array_equal(arrays[name], expected.numpy())
        assert arrays[name].dtype == expected.numpy().dtype


def test_a_whole_module_is_refused(tmp_path):
    torch.save(torch.nn.Conv2d(1, 1, 1), tmp_path / "module.pth")
    with pytest.raises(
        ValueError, match=r"module\.pth: refused: .*'torch\.nn\.modules\.conv\.Conv2d'"
    ):
        load_weights(tmp_path / "module.pth")
