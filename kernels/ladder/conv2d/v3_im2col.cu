// sm_70
// Step 3: a matrix product needs a matrix. This kernel writes it: im2col, one thread an element.
//
// columns[(c, i, j)][p] = what kernel element (c, i, j) sees at output p = (n, row, col). The product
// w (O, 9 C) @ columns (9 C, N H W), by any rung of the matmul ladder, is y (with its axes O and N
// swapped). Two kernels, each simple; but the matrix is 9 times as large as the image, is written
// once and read at least once: on a GPU that traffic alone can take longer than v5 takes for all.
// A thread makes 1 load and 1 store, both coalesced. Expected bottleneck: memory bandwidth.
#include "../../common.cuh"

#define BLOCK 256

// launch: grid=(ceil_div(N * H * W, BLOCK), 9 * C) block=(BLOCK)  in: x  out: columns
extern "C" __global__ void im2col(const float* __restrict__ x, float* __restrict__ columns, int N,
                                  int C, int H, int W) {
    int p = blockIdx.x * BLOCK + threadIdx.x, positions = N * H * W;
    if (p >= positions) return;
    int j = blockIdx.y % 3, i = blockIdx.y / 3 % 3, c = blockIdx.y / 9;
    int col = p % W + j - 1, row = p / W % H + i - 1, n = p / (W * H);
    float value = inside(row, col, H, W) ? x[at(n, c, row, col, C, H, W)] : 0;
    columns[(long long)blockIdx.y * positions + p] = value;
}
