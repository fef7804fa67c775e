// sm_70
// Step 5: implicit GEMM with 4 x 4 elements of the product a thread, in registers.
//
// What the matmul ladder's v4 did to its v3, done to v4 here: half a load from shared memory for a
// multiply-add instead of two, and each gathered element serves 64 output channels. tile_product in
// common.cuh is that loop; this is kernels/conv2d.cu without strides, dilation, groups and gradients.
// Per 16 steps along k a thread loads 4 weights and gathers 4 elements, for 256 multiply-adds.
// Expected bottleneck: shared memory and arithmetic, from about 64 output channels on; below, the gather.
#include "../../common.cuh"

// launch: grid=(ceil_div(N * H * W, GEMM_TILE), ceil_div(O, GEMM_TILE)) block=(GEMM_SIDE, GEMM_SIDE)  in: x w  out: y
extern "C" __global__ void __launch_bounds__(GEMM_SIDE * GEMM_SIDE)
conv2d_registers(const scalar* __restrict__ x, const scalar* __restrict__ w,
                 scalar* __restrict__ y, int N, int C, int O, int H, int W) {
    int row0 = blockIdx.y * GEMM_TILE, col0 = blockIdx.x * GEMM_TILE;
    int length = 9 * C, positions = N * H * W;
    auto weights = [=](int o, int k) { return o < O ? w[o * length + k] : scalar(0); };
    auto patches = [=](int k, int p) {
        int r = p / W % H + k / 3 % 3 - 1, q = p % W + k % 3 - 1;
        if (p >= positions || !inside(r, q, H, W)) return scalar(0);
        return x[at(p / (W * H), k / 9, r, q, C, H, W)];
    };
    scalar sum[GEMM_EACH][GEMM_EACH];
    tile_product(weights, patches, row0, col0, 0, length, sum);
    for (int i = 0; i < GEMM_EACH; i++)
        for (int j = 0; j < GEMM_EACH; j++) {
            int o = row0 + threadIdx.y + GEMM_SIDE * i, p = col0 + threadIdx.x + GEMM_SIDE * j;
            if (o < O && p < positions)
                y[at(p / (W * H), o, p / W % H, p % W, O, H, W)] = sum[i][j];
        }
}
