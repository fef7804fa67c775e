"""The networks with `backbone=`, against what segmentation_models.pytorch gave."""

import json
from pathlib import Path

import numpy as np
import pytest

from minseg import Tensor, no_grad
from minseg.hub import adapt
from minseg.models import build
from tests.golden.make_models import formula
from tests.golden.make_smp import IMAGE, KEPT, NETWORKS, UPSTREAM, directions


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent.parent / "golden" / "smp.npz") as arrays:
        return dict(arrays)


def loaded(name, backbone, golden, dtype):
    """Our network with the reference's weights, and our parameters under the reference's names."""
    network = build(name, num_classes=5, backbone=backbone).to(dtype).eval()
    shapes = json.loads(golden["shapes"].tobytes())[f"{name}.{backbone}"]
    kinds = {key: np.int64 if "num_batches" in key else dtype for key in shapes}
    state = {key: formula(key, tuple(s), np.dtype(kinds[key])) for key, s in shapes.items()}
    network.load_state_dict(adapt(name, state), strict=True)
    ours = dict(network.named_parameters())
    names = adapt(name, {key: key for key in shapes})
    return network, {old: ours[new] for new, old in names.items() if new in ours}


def assert_close(got, expected, rtol):
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=rtol * abs(expected).max())


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("name", "backbone"), NETWORKS)
def test_the_same_output_and_gradients(name, backbone, golden):
    network, parameters = loaded(name, backbone, golden, np.float64)
    image = Tensor(IMAGE).requires_grad_()
    output = network(image)
    assert output.shape == UPSTREAM.shape
    output.backward(UPSTREAM)
    assert_close(output.data[KEPT], golden[f"{name}.{backbone}.out"], 1e-9)
    assert_close(image.grad.data[KEPT], golden[f"{name}.{backbone}.grad"], 1e-9)
    products = [(p.grad.data * directions(key, p.shape)).sum() for key, p in parameters.items()]
    assert_close(np.array(products), golden[f"{name}.{backbone}.products"], 1e-9)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("name", "backbone"), NETWORKS)
def test_float32(name, backbone, golden):
    network, _ = loaded(name, backbone, golden, np.float32)
    with no_grad():
        output = network(Tensor(IMAGE.astype(np.float32)))
    assert output.dtype == np.float32
    assert_close(output.data[KEPT], golden[f"{name}.{backbone}.out"], 1e-4)


@pytest.mark.parametrize(("name", "backbone"), NETWORKS)
def test_any_image_size(name, backbone):
    network = build(name, num_classes=2, in_channels=1, backbone=backbone, width=4).eval()
    with no_grad():
        for size in [(1, 1), (33, 17)]:
            image = Tensor(np.ones((1, 1, *size), np.float32))
            assert network(image).shape == (1, 2, *size)


@pytest.mark.parametrize("name", sorted({name for name, _ in NETWORKS}))
def test_wrong_options_are_named(name):
    with pytest.raises(ValueError, match=r"backbone is 'vgg16', needs one of resnet18, .*101"):
        build(name, num_classes=2, backbone="vgg16")
    with pytest.raises(TypeError, match=rf"{name} has no option norm; its options: backbone, w"):
        build(name, num_classes=2, backbone="resnet18", norm="batch")
    with pytest.raises(ValueError, match=rf"'decoder\.x\.weight' is no name of the {name}"):
        adapt(name, {"decoder.x.weight": 1})
