import math

import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor, cat, nn, no_grad
from minseg.summary import summary


def fields(*layers, shape=(1, 3, 64, 48)):
    """The (field, stride) behind each layer."""
    rows = summary(nn.Sequential(*layers), shape).layers
    return [(row.receptive_field, row.stride) for row in rows]


def square(field, stride=1.0):
    return (field, field), (stride, stride)


class UNet(nn.Module):
    """One level: a skip past a pooling, joined by cat, and a dict of outputs."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.down = nn.MaxPool2d(2)
        self.deep = nn.Conv2d(8, 16, 3, padding=1)
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x):
        skip = F.relu(self.norm(self.encode(x)))
        deep = F.relu(self.deep(self.down(skip)))
        out = self.head(cat([skip, self.up(deep)], 1))
        return {"out": F.interpolate(out, scale_factor=2, mode="bilinear"), "deep": [deep]}


def test_rows_have_what_was_counted_by_hand():
    result = summary(UNet(), (2, 3, 32, 24))
    rows = {row.name: row for row in result.layers}
    assert list(rows) == ["encode", "norm", "down", "deep", "up", "head"]
    assert [row.type for row in result.layers[:3]] == ["Conv2d", "BatchNorm2d", "MaxPool2d"]
    assert rows["deep"].output_shape == (2, 16, 16, 12)
    assert rows["head"].output_shape == (2, 4, 32, 24)
    assert {name: row.parameters for name, row in rows.items()} == {
        "encode": 3 * 8 * 9,
        "norm": 2 * 8,
        "down": 0,
        "deep": 8 * 16 * 9 + 16,
        "up": 16 * 8 * 4 + 8,
        "head": 16 * 4 + 4,
    }
    assert {name: row.multiply_adds for name, row in rows.items()} == {
        "encode": 2 * 32 * 24 * 8 * 3 * 9,
        "norm": 0,
        "down": 0,
        "deep": 2 * 16 * 12 * 16 * 8 * 9,
        "up": 2 * 16 * 12 * 16 * 8 * 4,  # each input goes to 2 x 2 outputs in 8 channels
        "head": 2 * 32 * 24 * 4 * 16,
    }
    assert result.total_parameters == 216 + 16 + 1168 + 520 + 68
    assert result.total_multiply_adds == sum(row.multiply_adds for row in rows.values())
    # 3; pooled 3 + 1; 3 + 1 + 2 * 2 = 8; the branch through the bottom is the larger one
    assert [row.receptive_field[0] for row in result.layers] == [3, 3, 4, 8, 8, 8]
    assert [row.stride[0] for row in result.layers] == [1, 1, 2, 2, 1, 1]


def test_groups_and_linear_layers():
    result = summary(
        nn.Sequential(nn.Conv2d(4, 8, (3, 2), groups=2), nn.Flatten(), nn.Linear(8 * 3 * 4, 7)),
        (4, 5, 5),
    )
    assert [row.multiply_adds for row in result.layers] == [
        3 * 4 * 8 * 2 * 6,
        0,
        8 * 3 * 4 * 7,
    ]
    assert result.layers[0].receptive_field == (3, 2)
    assert result.layers[1].receptive_field == (math.inf, math.inf)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        # VGG16's first stages, as known from the literature: 5, 6, 14, 16
        (
            [
                nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)),
                nn.MaxPool2d(2),
                nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)),
                nn.MaxPool2d(2, 2),
            ],
            [
                square(3),
                square(5),
                square(6, 2),
                square(10, 2),
                square(14, 2),
                square(16, 4),
            ],
        ),
        # dilations 1, 2, 4 give 3, 7, 15: exponential growth (Yu & Koltun, 2016)
        (
            [nn.Conv2d(c, 1, 3, padding=d, dilation=d) for c, d in ((3, 1), (1, 2), (1, 4))],
            [square(3), square(7), square(15)],
        ),
        ([nn.AvgPool2d(3, 2, 1), nn.ReLU(), nn.Identity()], [square(3, 2)] * 3),
        # k=4, s=2: each output adds up 2 neighbouring inputs, which lie 2 apart
        (
            [nn.Conv2d(3, 2, 2, 2), nn.ConvTranspose2d(2, 1, 4, 2, 1)],
            [square(2, 2), square(4, 1)],
        ),
        # k=2, s=2, d=3: taps 0 and 3 are never in one output
        (
            [nn.Conv2d(3, 2, 2, 2), nn.ConvTranspose2d(2, 1, 2, 2, dilation=3)],
            [square(2, 2), square(2, 1)],
        ),
        (
            [nn.MaxPool2d(2), nn.Upsample(scale_factor=2)],
            [square(2, 2), square(2, 1)],
        ),
        (
            [nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear")],
            [square(2, 2), square(4, 1)],
        ),
        (
            [nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bicubic")],
            [square(2, 2), square(8, 1)],
        ),
        ([nn.MaxPool2d((2, 1)), nn.Conv2d(3, 1, (1, 3))], [((2, 1), (2, 1)), ((2, 3), (2, 1))]),
        ([nn.AdaptiveAvgPool2d((16, 12))], [square(4, 4)]),
        ([nn.AdaptiveAvgPool2d(1)], [square(math.inf)]),
        ([nn.Conv2d(3, 4, 3, padding=1), nn.PixelShuffle(2)], [square(3), square(3, 0.5)]),
        ([nn.ZeroPad2d(3), nn.Conv2d(3, 4, 3)], [square(1), square(3)]),
        ([nn.Conv2d(3, 4, 3, padding="same", padding_mode="reflect")], [square(3)]),
    ],
)
def test_receptive_fields(layers, expected):
    assert fields(*layers) == expected


class Hourglass(nn.Module):
    """Three levels with skips, added where a U-Net concatenates."""

    def __init__(self):
        self.convs = nn.ModuleList([nn.Conv2d(1, 1, 3, padding=1) for _ in range(5)])
        self.down = nn.AvgPool2d(2)
        self.ups = nn.ModuleList([nn.ConvTranspose2d(1, 1, 2, 2) for _ in range(2)])

    def forward(self, x):
        one = self.convs[0](x)
        two = self.convs[1](self.down(one))
        deep = self.convs[2](self.down(two))
        two = self.convs[3](two + self.ups[0](deep))
        return self.convs[4](one + self.ups[1](two))


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [nn.Conv2d(1, 1, 3, 2, 1), nn.Conv2d(1, 1, 3, padding=2, dilation=2)],
        lambda: [nn.Conv2d(1, 1, (2, 3), 2), nn.AvgPool2d(2), nn.ConvTranspose2d(1, 1, 5, 2, 2)],
        lambda: [nn.AvgPool2d(3, 2), nn.Upsample(scale_factor=2, mode="bilinear"), nn.Sigmoid()],
        lambda: [nn.AvgPool2d(4), nn.ConvTranspose2d(1, 1, 7, 3), nn.Conv2d(1, 1, 2, 2)],
        lambda: [nn.AvgPool2d(2), nn.Upsample(scale_factor=3, mode="bicubic")],
        lambda: [nn.AvgPool2d(4), nn.Upsample(scale_factor=4), nn.Conv2d(1, 1, 3)],
        lambda: [nn.AvgPool2d(2), nn.ConvTranspose2d(1, 1, 2, 4, dilation=3), nn.AvgPool2d(2, 1)],
        lambda: [nn.AdaptiveAvgPool2d((15, 16)), nn.Conv2d(1, 1, 2)],
        lambda: [Hourglass()],
    ],
)
def test_fields_are_where_gradients_flow(layers):
    """The largest extent of inputs with a gradient, over the outputs in the middle."""
    net = nn.Sequential(*layers()).to(np.float64)
    for p in net.parameters():
        p.data[...] = np.abs(p.data) + 0.1  # no two paths may cancel
    height, width = 40, 36
    x = Tensor(np.random.default_rng(0).random((1, 1, height, width)), requires_grad=True)
    out = net(x)
    largest = np.zeros(2)
    for r in range(out.shape[2] // 3, out.shape[2] // 3 + 7):
        for c in range(out.shape[3] // 3, out.shape[3] // 3 + 7):
            x.grad, upstream = None, np.zeros(out.shape)
            if r < out.shape[2] and c < out.shape[3]:
                upstream[0, 0, r, c] = 1
                net(x).backward(upstream)
                rows, cols = np.nonzero(x.grad.data[0, 0])
                if rows.size:  # dilated transposed convolutions leave holes
                    largest = np.maximum(largest, (np.ptp(rows) + 1, np.ptp(cols) + 1))
    assert summary(net, (1, height, width)).layers[-1].receptive_field == tuple(largest)


def test_functional_parts_between_layers():
    class Net(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.last = nn.Conv2d(4, 2, 1)

        def forward(self, x):
            return self.last(self.between(self.conv(x)))

    def behind(between):
        Net.between = staticmethod(between)
        return summary(Net(), (3, 8, 8)).layers

    assert behind(lambda x: F.relu(x) + x)[-1].receptive_field == (3, 3)
    assert behind(lambda x: F.interpolate(x, size=16, mode="bilinear"))[-1].stride == (0.5, 0.5)
    assert behind(lambda x: x * x.mean((2, 3), keepdim=True))[-1].receptive_field[0] == math.inf
    hidden = behind(lambda x: F.max_pool2d(x, 2))[-1]
    assert math.isnan(hidden.receptive_field[0])
    assert hidden.cells()[-2:] == ["?", "?"]

    def attention(x):
        tokens = x.flatten(2).transpose(1, 2)  # (1, 64, 4)
        mixed = F.softmax(tokens @ tokens.transpose(1, 2), -1) @ tokens
        return mixed.transpose(1, 2).reshape(x.shape)

    rows = behind(attention)
    assert [(row.name, row.type, row.multiply_adds) for row in rows[1:3]] == [
        ("", "matmul", 64 * 64 * 4),
        ("", "matmul", 64 * 64 * 4),
    ]
    assert rows[-1].receptive_field == (math.inf, math.inf)
    with no_grad():  # makes no difference
        assert behind(attention) == rows

    def to_fewer_keys(x):
        tokens = x.flatten(2).transpose(1, 2)  # (1, 64, 4), and 16 keys of them
        fewer = F.avg_pool2d(x, 2).flatten(2).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(tokens, fewer, fewer)
        return mixed.transpose(1, 2).reshape(x.shape)

    rows = behind(to_fewer_keys)
    assert [row.multiply_adds for row in rows if not row.name] == [64 * 16 * (4 + 4)]
    assert rows[-1].receptive_field == (math.inf, math.inf)
    assert rows[-1].stride == behind(attention)[-1].stride

    constant = behind(lambda x: Tensor(np.ones(x.shape, np.float32)))[-1]
    assert constant.receptive_field is None
    assert constant.cells()[-2:] == ["-", "-"]


def test_shared_and_unused_and_frozen_parameters():
    class Net(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.unused = nn.Linear(5, 5)
            self.scale = nn.Parameter(np.ones(3, np.float32))

        def forward(self, x):
            return self.conv(self.conv(x))

    net = Net()
    net.unused.requires_grad_(False)
    result = summary(net, (3, 8, 8))
    assert [(row.name, row.parameters) for row in result.layers] == [
        ("conv", 84),
        ("conv", 0),
        ("", 3),  # the network itself, which has a parameter of its own
    ]
    assert result.total_parameters == 84 + 30 + 3
    assert result.trainable_parameters == 84 + 3
    assert "(30 frozen)" in str(result)


def test_the_model_is_left_as_it_was():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).to(np.float64)
    net[1].eval()
    before = net.state_dict()
    summary(net, (3, 8, 8))
    assert [module.training for module in net.modules()] == [True, True, False, True]
    assert not any(module._forward_hooks for module in net.modules())
    assert all(p.grad is None and not p._parents for p in net.parameters())
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    with pytest.raises(ValueError, match="conv2d"):
        summary(net, (5, 8, 8))
    assert not any(module._forward_hooks for module in net.modules())
    assert net.training
    with pytest.raises(TypeError, match="model is a int, needs a Module"):
        summary(3, (3, 8, 8))


def test_the_table():
    net = nn.Sequential(nn.Conv2d(3, 1000, (3, 1), padding=(1, 0)), nn.ReLU())
    assert str(summary(net, (3, 8, 10))).splitlines() == [
        "Sequential, input 1 x 3 x 8 x 10",
        "-" * 74,
        "layer  type    output             parameters  multiply-adds  field  stride",
        "-" * 74,
        "0      Conv2d  1 x 1000 x 8 x 10      10,000        720,000    3x1       1",
        "1      ReLU    1 x 1000 x 8 x 10           -              -    3x1       1",
        "-" * 74,
        "parameters: 10,000",
        "multiply-adds: 720,000",
    ]
