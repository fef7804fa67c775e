// sm_70
// Step 4: the same matrix product, but no matrix: its tiles are gathered from the image when needed.
//
// Rows of the product are output channels, columns are outputs p = (n, row, col), the sum runs over
// k = (c, i, j). A block of 16 x 16 threads computes 16 channels at 16 outputs. Per 16 steps along k a
// thread loads one weight and gathers one element of a patch, by dividing k and p into their parts.
// So each element of x that comes from global memory serves 16 channels, and nothing is written but y.
// Expected bottleneck: shared memory, 2 loads a multiply-add; and the integer divisions.
#include "../../common.cuh"

#define TILE 16

// launch: grid=(ceil_div(N * H * W, TILE), ceil_div(O, TILE)) block=(TILE, TILE)  in: x w  out: y
extern "C" __global__ void conv2d_implicit(const float* __restrict__ x, const float* __restrict__ w,
                                           float* __restrict__ y, int N, int C, int O, int H,
                                           int W) {
    __shared__ float weights[TILE][TILE];  // [channel][k]
    __shared__ float patches[TILE][TILE];  // [k][output]
    int tx = threadIdx.x, ty = threadIdx.y, length = 9 * C, positions = N * H * W;
    int o = blockIdx.y * TILE + ty, p = blockIdx.x * TILE + tx;
    int col = p % W, row = p / W % H, n = p / (W * H);
    float sum = 0;
    for (int k0 = 0; k0 < length; k0 += TILE) {
        weights[ty][tx] = o < O && k0 + tx < length ? w[o * length + k0 + tx] : 0;
        int k = k0 + ty, r = row + k / 3 % 3 - 1, q = col + k % 3 - 1;
        bool seen = k < length && p < positions && inside(r, q, H, W);
        patches[ty][tx] = seen ? x[at(n, k / 9, r, q, C, H, W)] : 0;
        __syncthreads();
        for (int s = 0; s < TILE; s++) sum += weights[ty][s] * patches[s][tx];
        __syncthreads();
    }
    if (o < O && p < positions) y[at(n, o, row, col, O, H, W)] = sum;
}
