import numpy as np

from minseg import Tensor, no_grad
from minseg.models import FPN
from minseg.models.fpn import FeaturePyramid, SemanticBranch

RNG = np.random.default_rng(0)


def test_the_papers_sizes():
    """256 channels a level, 128 in the head: at a fourth of the width, 64 and 32."""
    network = FPN(5, width=16)
    assert [conv.weight.shape for conv in network.fpn.lateral] == [
        (64, c, 1, 1) for c in (64, 128, 256, 512)
    ]
    assert [conv.weight.shape for conv in network.fpn.smooth] == [(64, 64, 3, 3)] * 4
    assert [len(convs) for convs in network.branch.levels] == [1, 1, 2, 3]
    for convs in network.branch.levels:
        assert [conv[0].weight.shape[:2] for conv in convs] == [
            (32, 64 if i == 0 else 32) for i in range(len(convs))
        ]
    assert FPN(2, width=64, depth=18).branch.levels[0][0][1].num_groups == 32
    assert network.head.weight.shape == (5, 32, 1, 1)


def test_what_coarse_maps_know_comes_down():
    """Equal to sums of np.repeat-ed maps, where the laterals copy and nothing is smoothed."""
    pyramid = FeaturePyramid([2, 2, 2], 2, smooth=False).to(np.float64)
    for conv in pyramid.lateral:
        conv.weight.data = np.eye(2)[:, :, None, None]
    maps = [RNG.standard_normal((1, 2, *size)) for size in [(7, 10), (4, 5), (2, 3)]]
    with no_grad():
        fine, middle, coarse = (p.data for p in pyramid([Tensor(m) for m in maps]))

    def twice(x, like):
        return x.repeat(2, axis=2).repeat(2, axis=3)[:, :, : like.shape[2], : like.shape[3]]

    np.testing.assert_array_equal(coarse, maps[2])
    np.testing.assert_allclose(middle, maps[1] + twice(coarse, maps[1]), rtol=1e-15)
    np.testing.assert_allclose(fine, maps[0] + twice(middle, maps[0]), rtol=1e-15)


def test_the_branch_adds_up_its_levels():
    branch = SemanticBranch(3, 8, levels=3, align_corners=False).to(np.float64)
    pyramid = [Tensor(RNG.standard_normal((2, 3, *size))) for size in [(9, 7), (5, 4), (3, 2)]]
    with no_grad():
        whole = branch(pyramid).data
        for level, convs in enumerate(branch.levels):
            for conv in convs:  # a norm that gives 0
                conv[1].weight.data *= 0
            without = branch(pyramid).data
            assert whole.shape == without.shape == (2, 8, 9, 7)
            if level < 2:
                assert abs(whole - without).max() > 0.1
            whole = without
        np.testing.assert_array_equal(whole, 0)
