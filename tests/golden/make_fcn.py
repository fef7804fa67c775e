"""Writes fcn.npz, the authors' FCNs on PyTorch: python -m tests.golden.make_fcn

There is no library to compare with: the published networks are Caffe's. So their layers stand here
once more, by hand (shelhamer/fcn.berkeleyvision.org, voc-fcn8s/net.py and its kin). What the file
holds: outputs and gradients, for weights made by a formula, of networks 4 channels wide.
"""

from pathlib import Path

import numpy as np

from tests.golden.make_models import formula
from tests.golden.make_smp import directions

STRIDES = (32, 16, 8)
IMAGE = np.random.default_rng(0).standard_normal((1, 3, 37, 52))
KEPT = np.s_[:, :, ::4, ::4]  # of outputs and of gradients to the image
UPSTREAM = np.random.default_rng(1).standard_normal((1, 5, 37, 52))


def small(stride):
    """Our network of that shape, in float64."""
    from minseg.models import build

    return build(f"fcn{stride}s", num_classes=5, width=4).to(np.float64).eval()


def weights_of(network) -> dict[str, np.ndarray]:
    state = network.state_dict()
    return {key: formula(key, value.shape, value.dtype) for key, value in state.items()}


def fcn_by_hand(w, x, stride):
    """The authors' layers and crop offsets (voc-fcn8s and its kin), on weights called as theirs."""
    import torch.nn.functional as F

    def conv(name, x, padding=0):
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=padding)

    def up(name, x, s):
        return F.conv_transpose2d(x, w[f"{name}.weight"], stride=s)

    def crop(x, o, like):
        return x[:, :, o : o + like.shape[2], o : o + like.shape[3]]

    pools, h = [], x
    for stage, count in enumerate((2, 2, 3, 3, 3), start=1):
        for i in range(1, count + 1):
            h = F.relu(conv(f"conv{stage}_{i}", h, 100 if stage == i == 1 else 1))
        h = F.max_pool2d(h, 2, ceil_mode=True)
        pools.append(h)
    score = conv("score_fr", F.relu(conv("fc7", F.relu(conv("fc6", h)))))
    if stride == 32:
        return crop(up("upscore", score, 32), 19, x)
    score = up("upscore2", score, 2)
    score = score + crop(conv("score_pool4", pools[3]), 5, score)
    if stride == 16:
        return crop(up("upscore16", score, 16), 27, x)
    score = up("upscore_pool4", score, 2)
    score = score + crop(conv("score_pool3", pools[2]), 9, score)
    return crop(up("upscore8", score, 8), 31, x)


if __name__ == "__main__":
    import torch

    golden = {}
    for stride in STRIDES:
        weights = {k: torch.from_numpy(v) for k, v in weights_of(small(stride)).items()}
        weights = {key: value.requires_grad_() for key, value in weights.items()}
        image = torch.from_numpy(IMAGE).requires_grad_()
        output = fcn_by_hand(weights, image, stride)
        output.backward(torch.from_numpy(UPSTREAM))
        golden[f"{stride}.out"] = output.detach().numpy()[KEPT]
        golden[f"{stride}.grad"] = image.grad.numpy()[KEPT]
        golden[f"{stride}.products"] = np.array(
            [
                (value.grad.numpy() * directions(key, tuple(value.shape))).sum()
                for key, value in weights.items()
            ]
        )
    np.savez_compressed(Path(__file__).with_name("fcn.npz"), **golden)
