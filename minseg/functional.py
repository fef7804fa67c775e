"""The public ops, with torch.nn.functional's names, argument order, defaults and results.

PyTorch's losses have two deprecated arguments (size_average, reduce) in the middle of the others.
They are left out here, and those behind them are keyword-only. `inplace` may only be False.
bias_activation, WeightedSum and the losses made for segmentation (focal, Dice, Lovasz, ...) are
minseg's own.

import minseg.functional as F
"""

from minseg.ops.activation import elu as elu
from minseg.ops.activation import hardsigmoid as hardsigmoid
from minseg.ops.activation import hardswish as hardswish
from minseg.ops.activation import leaky_relu as leaky_relu
from minseg.ops.activation import relu as relu
from minseg.ops.activation import relu6 as relu6
from minseg.ops.activation import sigmoid as sigmoid
from minseg.ops.activation import silu as silu
from minseg.ops.activation import softplus as softplus
from minseg.ops.activation import tanh as tanh
from minseg.ops.adaptive_pool import adaptive_avg_pool2d as adaptive_avg_pool2d
from minseg.ops.adaptive_pool import adaptive_max_pool2d as adaptive_max_pool2d
from minseg.ops.affine_grid import affine_grid as affine_grid
from minseg.ops.attention import scaled_dot_product_attention as scaled_dot_product_attention
from minseg.ops.avg_pool import avg_pool2d as avg_pool2d
from minseg.ops.bias_activation import bias_activation as bias_activation
from minseg.ops.binary_cross_entropy import binary_cross_entropy as binary_cross_entropy
from minseg.ops.binary_cross_entropy import (
    binary_cross_entropy_with_logits as binary_cross_entropy_with_logits,
)
from minseg.ops.boundary_loss import boundary_loss as boundary_loss
from minseg.ops.conv2d import conv2d as conv2d
from minseg.ops.conv_transpose2d import conv_transpose2d as conv_transpose2d
from minseg.ops.cross_entropy import cross_entropy as cross_entropy
from minseg.ops.dropout import dropout as dropout
from minseg.ops.dropout import dropout2d as dropout2d
from minseg.ops.focal_loss import focal_loss as focal_loss
from minseg.ops.focal_loss import sigmoid_focal_loss as sigmoid_focal_loss
from minseg.ops.fold import fold as fold
from minseg.ops.fold import unfold as unfold
from minseg.ops.gelu import gelu as gelu
from minseg.ops.grid_sample import grid_sample as grid_sample
from minseg.ops.interpolate import interpolate as interpolate
from minseg.ops.linear import linear as linear
from minseg.ops.loss import huber_loss as huber_loss
from minseg.ops.loss import l1_loss as l1_loss
from minseg.ops.loss import mse_loss as mse_loss
from minseg.ops.loss import smooth_l1_loss as smooth_l1_loss
from minseg.ops.lovasz_loss import lovasz_hinge as lovasz_hinge
from minseg.ops.lovasz_loss import lovasz_softmax as lovasz_softmax
from minseg.ops.max_pool import max_pool2d as max_pool2d
from minseg.ops.nll_loss import nll_loss as nll_loss
from minseg.ops.norm import batch_norm as batch_norm
from minseg.ops.norm import group_norm as group_norm
from minseg.ops.norm import instance_norm as instance_norm
from minseg.ops.norm import layer_norm as layer_norm
from minseg.ops.overlap_loss import dice_loss as dice_loss
from minseg.ops.overlap_loss import generalized_dice_loss as generalized_dice_loss
from minseg.ops.overlap_loss import tversky_loss as tversky_loss
from minseg.ops.pad import pad as pad
from minseg.ops.pixel_shuffle import pixel_shuffle as pixel_shuffle
from minseg.ops.pixel_shuffle import pixel_unshuffle as pixel_unshuffle
from minseg.ops.prelu import prelu as prelu
from minseg.ops.softmax import log_softmax as log_softmax
from minseg.ops.softmax import softmax as softmax
from minseg.ops.unpool import max_unpool2d as max_unpool2d
from minseg.ops.weighted_sum import WeightedSum as WeightedSum
