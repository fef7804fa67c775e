"""DeepLab 1 and 2, layer by layer in PyTorch, on the same weights: logits and gradients."""

import numpy as np
import pytest
import torch

import minseg
from minseg import Tensor
from minseg.models import DeepLabV1, DeepLabV2
from tests.witness import assert_agree

F = torch.nn.functional


def upsample(x, like):
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


def large_fov(w, x):
    """The authors' layers: kernel 3 in all poolings, the last two of stride 1; fc6 with rate 12."""

    def conv(name, x, rate=1, padding=None):
        padding = rate if padding is None else padding
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=padding, dilation=rate)

    h = x
    for stage, count in enumerate((2, 2, 3, 3, 3), start=1):
        for i in range(1, count + 1):
            h = F.relu(conv(f"conv{stage}_{i}", h, rate=2 if stage == 5 else 1))
        h = F.max_pool2d(h, 3, stride=2 if stage < 4 else 1, padding=1)
    h = F.avg_pool2d(h, 3, stride=1, padding=1)
    h = F.relu(conv("fc6", h, rate=12))
    h = F.relu(conv("fc7", h, padding=0))
    return upsample(conv("fc8", h, padding=0), like=x)


def v2(w, x, counts, scales):
    """ResNet's bottlenecks, in stages of rates 1, 1, 2, 4; four classifiers, summed."""

    def conv(name, x, stride=1, rate=1):
        weight, bias = w[f"{name}.weight"], w.get(f"{name}.bias")
        padding = rate * (weight.shape[-1] // 2)
        return F.conv2d(x, weight, bias, stride, padding, rate)

    def norm(name, x):
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(w[f"{name}.{key}"] for key in keys))

    def coarse(x):
        h = F.relu(norm("backbone.bn1", conv("backbone.conv1", x, stride=2)))
        h = F.max_pool2d(h, 3, stride=2, padding=1)
        for stage, (count, rate) in enumerate(zip(counts, (1, 1, 2, 4), strict=True), start=1):
            for i in range(count):
                at = f"backbone.layer{stage}.{i}"
                stride = 2 if stage == 2 and i == 0 else 1
                y = F.relu(norm(f"{at}.bn1", conv(f"{at}.conv1", h)))
                y = F.relu(norm(f"{at}.bn2", conv(f"{at}.conv2", y, stride, rate)))
                y = norm(f"{at}.bn3", conv(f"{at}.conv3", y))
                if i == 0:
                    h = norm(f"{at}.downsample.1", conv(f"{at}.downsample.0", h, stride))
                h = F.relu(y + h)
        return sum(conv(f"aspp.{i}", h, rate=r) for i, r in enumerate((6, 12, 18, 24)))

    score = coarse(x)
    every = [score]
    for s in scales:
        size = [int(side * s) for side in x.shape[2:]]
        small = F.interpolate(x, size, mode="bilinear", align_corners=False)
        every.append(upsample(coarse(small), like=score))
    return upsample(torch.stack(every).amax(0), like=x)


CASES = {
    "large_fov": (DeepLabV1, {"width": 2}, large_fov, {}),
    "v2": (DeepLabV2, {"width": 2, "depth": 50}, v2, {"counts": (3, 4, 6, 3), "scales": ()}),
    "v2_multi_scale": (
        DeepLabV2,
        {"width": 2, "depth": 50, "scales": (0.5, 0.75)},
        v2,
        {"counts": (3, 4, 6, 3), "scales": (0.5, 0.75)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_by_hand(name):
    model, options, by_hand, how = CASES[name]
    minseg.manual_seed(0)
    network = model(3, **options).to(np.float64).eval()
    rng = np.random.default_rng(0)
    for parameter in network.parameters():
        parameter.data += 0.05 * rng.standard_normal(parameter.shape)
    weights = {k: torch.from_numpy(v.copy()) for k, v in network.state_dict().items()}
    for key in dict(network.named_parameters()):
        weights[key].requires_grad_()

    x = Tensor(rng.standard_normal((2, 3, 37, 50))).requires_grad_()
    y = torch.from_numpy(x.data.copy()).requires_grad_()
    got, expected = network(x), by_hand(weights, y, **how)
    upstream = rng.standard_normal(got.shape)
    got.backward(upstream)
    expected.backward(torch.from_numpy(upstream))
    length = 3 * 3 * 32 * 60  # the longest sum, by the depth
    assert_agree(got.data, expected.detach(), np.float64, length)
    assert_agree(x.grad.data, y.grad, np.float64, length)
    for key, parameter in network.named_parameters():
        assert_agree(parameter.grad.data, weights[key].grad, np.float64, length)
