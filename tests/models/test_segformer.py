"""SegFormer against what Hugging Face's gave."""

import json
from pathlib import Path

import numpy as np
import pytest

import minseg
from minseg import Tensor, no_grad
from minseg.backbones import MiT
from minseg.backbones.mit import DropPath
from minseg.hub import adapt
from minseg.models import build
from tests.golden.make_models import formula
from tests.golden.make_segformer import IMAGE, KEPT, UPSTREAM
from tests.golden.make_smp import directions
from tests.models.test_smp import assert_close


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent.parent / "golden" / "segformer.npz") as arrays:
        return dict(arrays)


def read(golden, what):
    return json.loads(golden[what].tobytes())


def reference_state(golden, dtype):
    """B0's weights under the names of transformers 5."""
    shapes = read(golden, "shapes")["segformer_b0"]
    kinds = {key: np.int64 if "num_batches" in key else dtype for key in shapes}
    return {key: formula(key, tuple(s), np.dtype(kinds[key])) for key, s in shapes.items()}


def loaded(golden, dtype):
    network = build("segformer_b0", num_classes=5).to(dtype).eval()
    network.load_state_dict(adapt("segformer_b0", reference_state(golden, dtype)), strict=True)
    return network


def test_the_same_logits_and_gradients(golden):
    network = loaded(golden, np.float64)
    image = Tensor(IMAGE).requires_grad_()
    logits = network.quarter(image)
    logits.backward(UPSTREAM)
    assert_close(logits.data, golden["logits"], 1e-9)
    assert_close(image.grad.data[KEPT], golden["grad"], 1e-9)
    names = adapt("segformer_b0", {key: key for key in read(golden, "shapes")["segformer_b0"]})
    parameters = dict(network.named_parameters())
    ours = {old: parameters[new] for new, old in names.items() if new in parameters}
    products = [(p.grad.data * directions(key, p.shape)).sum() for key, p in ours.items()]
    assert_close(np.array(products), golden["products"], 1e-9)


def test_float32(golden):
    network = loaded(golden, np.float32)
    with no_grad():
        image = Tensor(IMAGE.astype(np.float32))
        quarter, full = network.quarter(image), network(image)
    assert_close(quarter.data, golden["logits"], 1e-4)
    assert full.shape == (2, 5, 65, 77)
    assert full.dtype == np.float32


@pytest.mark.parametrize("name", [f"segformer_b{variant}" for variant in range(6)])
def test_the_names_and_shapes_of_hugging_face(name, golden, monkeypatch):
    for init in ("trunc_normal_", "normal_", "uniform_", "kaiming_uniform_"):  # up to 170 M draws
        monkeypatch.setattr(minseg.nn.init, init, lambda tensor, *args, **options: tensor)
    shapes = adapt(name, read(golden, "shapes")[name])
    ours = {key: list(value.shape) for key, value in build(name, 5).state_dict().items()}
    assert shapes == ours


def test_the_names_of_published_files(golden):
    published = read(golden, "published")  # published name -> that of transformers 5
    assert any(key.startswith("segformer.encoder.block") for key in published)
    state = reference_state(golden, np.float32)
    adapted = adapt("segformer_b0", {key: state[new] for key, new in published.items()})
    expected = adapt("segformer_b0", state)
    assert adapted.keys() == expected.keys()
    assert all(adapted[key] is expected[key] for key in expected)


def test_the_encoder_alone(golden):
    """nvidia/mit-b0 and its kin: trained on ImageNet, with a classifier that is left out."""
    state = {k: v for k, v in reference_state(golden, np.float32).items() if "decode_head" not in k}
    state["classifier.weight"] = np.zeros((1000, 256), np.float32)
    encoder = MiT(0)
    encoder.load_state_dict(adapt("mit_b0", state), strict=True)
    weight = state["segformer.stages.3.blocks.1.mlp.fc2.weight"]
    np.testing.assert_array_equal(encoder.stages[3].blocks[1].mlp.fc2.weight.data, weight)


def test_names_of_another_size_are_refused():
    layer = "segformer.encoder.block.0.2.layer_norm_1"  # the first stage of B0 has two blocks
    assert adapt("segformer_b2", {f"{layer}.bias": 1})
    with pytest.raises(ValueError, match=rf"{layer}.bias' is no name of the segformer_b0"):
        adapt("segformer_b0", {f"{layer}.bias": 1})


def test_maps_and_widths():
    """Table 6: strides 4, 8, 16, 32; channels of B0; blocks of B5."""
    network = MiT(0).eval()
    with no_grad():
        maps = network(Tensor(np.zeros((1, 3, 64, 96), np.float32)))
    assert [x.shape[1:] for x in maps] == [(32, 16, 24), (64, 8, 12), (160, 4, 6), (256, 2, 3)]
    deep = MiT(5, width=4)
    assert deep.channels == [4, 8, 20, 32]
    assert [len(stage.blocks) for stage in deep.stages] == [3, 6, 40, 3]
    rates = [block.drop_path.p for stage in deep.stages for block in stage.blocks]
    np.testing.assert_allclose(rates, np.linspace(0, 0.1, 52), rtol=0, atol=1e-15)
    with pytest.raises(ValueError, match="MiT: variant is 6, needs one of 0 to 5"):
        MiT(6)
    with pytest.raises(ValueError, match="MiT: width is 0"):
        MiT(0, width=0)


def test_drop_path_drops_images_whole():
    layer, x = DropPath(0.25), Tensor(np.ones((400, 2, 3), np.float32))
    minseg.manual_seed(0)
    kept = layer(x).data
    np.testing.assert_array_equal(kept, np.broadcast_to(kept[:, :1, :1], kept.shape))
    values, counts = np.unique(kept[:, 0, 0], return_counts=True)
    np.testing.assert_allclose(values, [0, 4 / 3], rtol=1e-6)
    assert abs(counts[0] - 100) < 4 * np.sqrt(400 * 0.25 * 0.75)  # four standard deviations
    np.testing.assert_array_equal(layer.eval()(x).data, x.data)


def test_through_the_cuda_kernels():
    """Forward and backward, in the emulator and by NumPy; every stage has two keys."""
    minseg.manual_seed(0)
    network = build("segformer_b0", num_classes=2, width=3).to(np.float64).eval()
    rng = np.random.default_rng(0)
    for parameter in network.parameters():  # larger, so that all gradients are far above rounding
        parameter.data += 0.3 * rng.standard_normal(parameter.shape)
    upstream = rng.standard_normal((1, 2, 9, 62))
    image = Tensor(rng.standard_normal((1, 3, 9, 62))).requires_grad_()

    def logits_and_gradients():
        for leaf in (image, *network.parameters()):
            leaf.grad = None
        logits = network(image)
        logits.backward(upstream)
        # A layer at a time: softmax does not feel a bias of all keys, whose gradient is rounding.
        layers = [list(layer.parameters(recurse=False)) for layer in network.modules()]
        gradients = [np.concatenate([p.grad.data.ravel() for p in own]) for own in layers if own]
        return [logits.data, image.grad.data, *gradients]

    expected = logits_and_gradients()
    with minseg.use_kernels("emulator"):
        got = logits_and_gradients()
    for emulated, numpy in zip(got, expected, strict=True):
        assert_close(emulated, numpy, 1e-9)
