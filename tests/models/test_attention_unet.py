"""Attention U-Net: what its gates do, and MONAI's form against what MONAI gave."""

import json
from pathlib import Path

import numpy as np
import pytest

import minseg
from minseg import Tensor, no_grad
from minseg.hub import adapt
from minseg.models import AttentionUNet, build
from minseg.models.attention_unet import Gate
from tests.golden.make_models import formula
from tests.golden.make_monai import DEPTH, IMAGE, KEPT, UPSTREAM, WIDTH
from tests.golden.make_smp import directions
from tests.models.test_smp import assert_close


# -- the paper's -----------------------------------------------------------------------------------
def image(*shape, dtype=np.float32):
    return Tensor(np.random.default_rng(0).standard_normal(shape).astype(dtype))


def test_the_gate_s_formula():
    """Equations 1 and 2, pixel by pixel on the grid of g; then resampled and multiplied."""
    minseg.manual_seed(0)
    gate = Gate(3, 5).to(np.float64).eval()
    assert gate.theta.bias is None  # as in the authors' code; that of phi starts at zero
    gate.phi.bias.data[...] = image(3).data
    x, g = image(1, 3, 4, 6, dtype=np.float64), image(1, 5, 2, 3, dtype=np.float64)
    theta, phi, psi = (layer.weight.data for layer in (gate.theta, gate.phi, gate.psi))
    alpha = np.zeros((2, 3))
    for i, j in np.ndindex(2, 3):
        patch = x.data[0, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        query = phi[:, :, 0, 0] @ g.data[0, :, i, j] + gate.phi.bias.data
        inner = np.maximum(np.einsum("ockl,ckl->o", theta, patch) + query, 0)
        alpha[i, j] = 1 / (1 + np.exp(-(psi[0, :, 0, 0] @ inner + gate.psi.bias.data[0])))
    out = gate(x, g)
    # bilinear, by 2: a pixel is 3/4 its own cell and 1/4 the nearer neighbour, along each axis
    up = [np.kron(np.eye(n), np.full((2, 1), 0.75)) for n in (2, 3)]
    for matrix in up:
        n = matrix.shape[1]
        for row in range(2 * n):
            neighbour = min(max(row // 2 + (1 if row % 2 else -1), 0), n - 1)
            matrix[row, neighbour] += 0.25
    resampled = up[0] @ alpha @ up[1].T
    np.testing.assert_allclose(gate.coefficients.data[0, 0], resampled, rtol=0, atol=1e-12)
    conv, norm = gate.out
    passed = np.einsum("oc,chw->ohw", conv.weight.data[:, :, 0, 0], resampled * x.data[0])
    passed = (passed + conv.bias.data[:, None, None]) / np.sqrt(1 + norm.eps)
    np.testing.assert_allclose(out.data[0], passed, rtol=0, atol=1e-12)


def test_the_paper_s_gates():
    """Figure 1: three, none on the first level; the coefficients can be drawn."""
    network = AttentionUNet(2, width=4).eval()
    assert [gate.theta.in_channels for gate in network.gates] == [32, 16, 8]
    seen = []
    network.gates[2].alpha.register_forward_hook(lambda *call: seen.append(call[2]))
    with no_grad():
        network(image(1, 3, 33, 50))
    assert seen[0].shape == (1, 1, 9, 13)  # the grid of g; the skip's is 17x25
    sizes = [gate.coefficients.shape for gate in network.gates]
    assert sizes == [(1, 1, 5, 7), (1, 1, 9, 13), (1, 1, 17, 25)]
    assert all(((c > 0) & (c < 1)).all() for c in (g.coefficients.data for g in network.gates))


def test_a_closed_gate_lets_nothing_through():
    """With psi's bias far below zero, what the skips bring does not matter."""
    minseg.manual_seed(0)
    gate = Gate(3, 5).eval()
    gate.psi.bias.data[:] = -100
    g = image(1, 5, 4, 4)
    with no_grad():
        one, other = gate(image(1, 3, 8, 8), g), gate(Tensor(np.ones((1, 3, 8, 8), "f4")), g)
    np.testing.assert_array_equal(one.data, other.data)


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="AttentionUNet: norm is 'layer'"):
        build("attention_unet", 2, norm="layer")
    with pytest.raises(ValueError, match="AttentionUNet: backbone is 'resnet18', needs \"monai\""):
        build("attention_unet", 2, backbone="resnet18")
    for options in ({}, {"backbone": "monai"}):
        with pytest.raises(ValueError, match="AttentionUNet: width 4, depth 0"):
            build("attention_unet", 2, width=4, depth=0, **options)


# -- MONAI's ---------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent.parent / "golden" / "monai.npz") as arrays:
        return dict(arrays)


def loaded(golden, dtype):
    """Our network with MONAI's weights, and our parameters under MONAI's names."""
    options = {"backbone": "monai", "width": WIDTH, "depth": DEPTH}
    network = build("attention_unet", num_classes=5, **options).to(dtype).eval()
    shapes = json.loads(golden["shapes"].tobytes())
    kinds = {key: np.int64 if "num_batches" in key else dtype for key in shapes}
    state = {key: formula(key, tuple(s), np.dtype(kinds[key])) for key, s in shapes.items()}
    network.load_state_dict(adapt("attention_unet", state), strict=True)
    ours = dict(network.named_parameters())
    names = adapt("attention_unet", {key: key for key in shapes})
    return network, {old: ours[new] for new, old in names.items() if new in ours}


def test_the_same_output_and_gradients(golden):
    network, parameters = loaded(golden, np.float64)
    x = Tensor(IMAGE).requires_grad_()
    output = network(x)
    output.backward(UPSTREAM)
    assert_close(output.data[KEPT], golden["out"], 1e-9)
    assert_close(x.grad.data[KEPT], golden["grad"], 1e-9)
    products = [(p.grad.data * directions(key, p.shape)).sum() for key, p in parameters.items()]
    assert_close(np.array(products), golden["products"], 1e-9)


def test_float32(golden):
    network, _ = loaded(golden, np.float32)
    with no_grad():
        output = network(Tensor(IMAGE.astype(np.float32)))
    assert output.dtype == np.float32
    assert_close(output.data[KEPT], golden["out"], 1e-4)


@pytest.mark.parametrize("size", [(1, 1), (33, 17)])
def test_monai_s_form_takes_any_size(size):
    network = build("attention_unet", 2, in_channels=1, backbone="monai", width=2).eval()
    with no_grad():
        assert network(image(1, 1, *size)).shape == (1, 2, *size)


def test_unknown_names():
    with pytest.raises(ValueError, match=r"'model\.3\.conv\.bias' is no name of the attention_u"):
        adapt("attention_unet", {"model.3.conv.bias": 1})
