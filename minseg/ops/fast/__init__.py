"""What is quicker for large arrays, and harder to read, than the pages of minseg/ops.

Each module is tested against the plain version there. Where a way is not the quicker one for all
shapes, or cannot do them all, its `fits` says for which it is to be taken.

    convolution          conv2d chooses among winograd, shifted, patch_rows, im2col and depthwise
        im2col           blocks, columns, windows
        depthwise        channels_last, kernel_columns
        any              epilogue (bias and ReLU), conv_norm_relu, turned (the input's gradient)
    conv_transpose2d     phases
    pooling              max_pool, max_pool_2x2, window_maxima, window_means; all by planes
    interpolate          interpolate chooses among repeat, small_maps and its own
    norms                norm, layer_norm
    element by element   activation, loss, exponential (e^x)
    as the op is called  attention, cross_entropy, grid_sample, linear, matmul, pad, softmax
    NumPy's own, faster  concatenate, dots, outer
"""
