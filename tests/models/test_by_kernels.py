"""Networks forward and backward by the CUDA kernels, in the emulator, beside NumPy's."""

import numpy as np
import pytest

import minseg
from minseg import Tensor, nn
from minseg.models import build

NETWORKS = [
    ("patch_classifier", {"depth": 1, "stride": 3}),
    ("plain_cnn", {"depth": 3, "norm": "batch"}),
    ("fcn8s", {"depth": 11, "padding": "same"}),
    ("segnet", {"depth": 11}),
    ("attention_unet", {"depth": 2}),
    ("attention_unet", {"backbone": "monai", "depth": 2}),
    ("deeplabv1", {"depth": 11}),
    ("deeplabv2", {"depth": 18}),
    ("pspnet", {"depth": 18}),
    ("pspnet", {"backbone": "resnet18"}),
    ("fpn", {"depth": 18}),
    ("fpn", {"backbone": "resnet18"}),
    ("deeplabv3plus", {"depth": 18}),
    ("deeplabv3plus", {"backbone": "resnet18"}),
    ("deeplabv3plus_xception65", {"depth": 20}),
    ("deeplabv3plus_mobilenet_v2", {}),
]


@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_by_kernels_as_by_numpy(name, options):
    minseg.manual_seed(0)
    network = build(name, num_classes=2, width=2, **options).to(np.float64)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif getattr(module, "bias", None) is not None:
            module.bias.data += 1  # keeps most ReLUs on, though channels are few
    rng = np.random.default_rng(0)
    for parameter in network.parameters():
        if not parameter.data.any():  # scores that start at zero would hide what is below
            parameter.data += rng.standard_normal(parameter.shape)
    image = Tensor(rng.standard_normal((3, 3, 9, 14))).requires_grad_()
    upstream = rng.standard_normal((3, 2, 9, 14))
    learnt = {name: p for name, p in network.named_parameters() if p.requires_grad}
    leaves = {"image": image, **learnt}

    def logits_and_gradients():
        for leaf in leaves.values():
            leaf.grad = None
        output = network(image)
        heads = output if isinstance(output, dict) else {"out": output}
        sum(heads.values()).backward(upstream)
        logits = {f"logits {head}": y.data for head, y in heads.items()}
        return {**logits, **{key: leaf.grad.data for key, leaf in leaves.items()}}

    expected = logits_and_gradients()
    with minseg.use_kernels("emulator"):
        got = logits_and_gradients()
    largest = max(abs(value).max() for value in expected.values())
    for key, value in expected.items():
        # What a later norm takes away has no gradient but the rounding of others.
        error = abs(got[key] - value).max()
        assert error <= 1e-9 * abs(value).max() + 1e-12 * largest, key
