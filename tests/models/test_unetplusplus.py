import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import Tensor, no_grad, optim
from minseg.models import UNetPlusPlus

IMAGE = Tensor(np.random.default_rng(0).standard_normal((2, 3, 21, 34)).astype(np.float32))


def small(**options):
    minseg.manual_seed(0)
    return UNetPlusPlus(4, width=2, deep_supervision=True, **options)


def test_the_paper_s_nodes():
    """Figure 1: ten nodes beside the contracting path; filters of 32 to 512 (section 4)."""
    network = UNetPlusPlus(2)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == 9.04  # table 3
    assert len(network.nodes) == 10
    assert [convs[0].out_channels for convs in network.contract] == [32, 64, 128, 256, 512]
    for i, j in [(0, 4), (1, 3), (2, 1)]:  # j maps of its own level, and the one from below
        first = network.nodes[f"x_{i}_{j}"].convs[0]
        assert (first.in_channels, first.out_channels) == ((j + 1) * 32 * 2**i, 32 * 2**i)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_pruning_gives_what_that_head_gives(depth):
    network = small(norm="batch").eval()
    pruned = network.pruned(depth)
    with no_grad():
        whole, part = network(IMAGE), pruned(IMAGE)
    assert list(whole) == ["out", "head_1", "head_2", "head_3", "head_4"]
    np.testing.assert_array_equal(part.data, whole[f"head_{depth}"].data)
    heads = [whole[f"head_{j}"].data for j in (1, 2, 3, 4)]
    np.testing.assert_allclose(whole["out"].data, np.mean(heads, axis=0), rtol=0, atol=1e-6)
    assert len(pruned.nodes) == depth * (depth + 1) // 2
    assert not pruned.training


def test_a_pruned_network_shares_nothing():
    network = small()
    network.pruned(2).heads["head_2"].weight.data[:] = 7
    assert not (network.heads["head_2"].weight.data == 7).any()


def test_there_is_no_such_head():
    with pytest.raises(ValueError, match=r"pruned: no head at depth 5, there are head_1, .*head_4"):
        small().pruned(5)
    with pytest.raises(ValueError, match=r"no head at depth 2, there are head_4; deep_supervision"):
        UNetPlusPlus(4, width=1).pruned(2)
    with pytest.raises(ValueError, match="UNetPlusPlus: width 0, depth 4"):
        UNetPlusPlus(4, width=0)
    with pytest.raises(ValueError, match="UNetPlusPlus: norm is 'layer'"):
        UNetPlusPlus(4, norm="layer")


def test_every_head_learns():
    network = small(norm="batch", depth=2)
    labels = Tensor((IMAGE.data[:, 0] > 0).astype(np.int64))
    optimizer = optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        heads = [logits for name, logits in network(IMAGE).items() if name != "out"]
        parts = [F.cross_entropy(logits, labels) for logits in heads]
        optimizer.zero_grad()
        (sum(parts) / len(parts)).backward()
        optimizer.step()
        losses.append([part.item() for part in parts])
    assert len(losses[0]) == 2
    assert (np.array(losses[-1]) < 0.8 * np.array(losses[0])).all(), losses
