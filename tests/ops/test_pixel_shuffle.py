import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor, gradcheck
from minseg.ops.pixel_shuffle import pixel_shuffle_op, pixel_unshuffle_op


@pytest.mark.parametrize(("shape", "r"), [((2, 8, 3, 4), 2), ((18, 2, 1), 3), ((0, 4, 2, 3), 2)])
def test_both_equal_their_definitions_and_undo_each_other(shape, r):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    y = F.pixel_shuffle(Tensor(x), r).data
    np.testing.assert_array_equal(y, pixel_shuffle_op.definition(x, r))
    np.testing.assert_array_equal(pixel_unshuffle_op.definition(y, r), x)
    np.testing.assert_array_equal(F.pixel_unshuffle(Tensor(y), r).data, x)


def test_gradients():
    x = Tensor(np.random.default_rng(0).standard_normal((2, 8, 2, 4)), requires_grad=True)
    assert gradcheck(lambda x: F.pixel_shuffle(x, 2), [x])
    assert gradcheck(lambda x: F.pixel_unshuffle(x, 2), [x])


def test_errors_name_the_culprit():
    x = Tensor(np.ones((1, 6, 3, 4)))
    with pytest.raises(ValueError, match=r"pixel_shuffle: .* 6 channels, needs a multiple .* 4"):
        F.pixel_shuffle(x, 2)
    with pytest.raises(ValueError, match=r"pixel_unshuffle: .* 3x4, needs multiples"):
        F.pixel_unshuffle(x, 2)
    with pytest.raises(ValueError, match="upscale_factor is 0"):
        F.pixel_shuffle(x, 0)
    with pytest.raises(TypeError, match=r"upscale_factor is 1\.5"):
        F.pixel_shuffle(x, 1.5)
