// sm_70
// Step 1: one thread, one output: the definition. 3x3, stride 1, one ring of zeros around the image.
//
// x (N, C, H, W), w (O, C, 3, 3) -> y (N, O, H, W). A thread makes 9 C multiply-adds, each of which
// loads an element of x and one of w: 18 C loads, 1 store. Neighbouring threads take neighbouring
// outputs of a row, so the loads of x are coalesced, and those of w are one element for the whole
// warp. But every x is loaded 9 O times. Expected bottleneck: the number of loads.
#include "../../common.cuh"

#define BLOCK_W 32
#define BLOCK_H 8

// launch: grid=(ceil_div(W, BLOCK_W), ceil_div(H, BLOCK_H), N * O) block=(BLOCK_W, BLOCK_H)  in: x w  out: y
extern "C" __global__ void conv2d_direct(const float* __restrict__ x, const float* __restrict__ w,
                                         float* __restrict__ y, int N, int C, int O, int H, int W) {
    int col = blockIdx.x * BLOCK_W + threadIdx.x, row = blockIdx.y * BLOCK_H + threadIdx.y;
    int o = blockIdx.z % O, n = blockIdx.z / O;
    if (row >= H || col >= W) return;
    float sum = 0;
    for (int c = 0; c < C; c++)
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++)
                if (inside(row + i - 1, col + j - 1, H, W))
                    sum += w[((o * C + c) * 3 + i) * 3 + j] *
                           x[at(n, c, row + i - 1, col + j - 1, C, H, W)];
    y[at(n, o, row, col, O, H, W)] = sum;
}
