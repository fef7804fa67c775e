// sm_80
// Step 6: implicit GEMM on tensor cores, in TF32: the matmul ladder's v8 with gathered tiles.
//
// A block of 4 warps computes 64 output channels at 64 outputs, a warp 32 x 32 of them with 2 x 4
// instructions mma.m16n8k8 per 8 steps along k. Operands are rounded to TF32 when they enter shared
// memory: an output errs by about 2^-11 sqrt(9 C) of its terms' size; the sum itself is float32.
// Per 8 steps along k a thread loads 4 weights and gathers 4 elements.
// Expected bottleneck: the gather and shared memory; the tensor cores mostly wait.
#include "../../common.cuh"

#define TILE 64
#define DEPTH 8
#define THREADS 128

// launch: grid=(ceil_div(N * H * W, TILE), ceil_div(O, TILE)) block=(THREADS)  in: x w  out: y
extern "C" __global__ void __launch_bounds__(THREADS)
conv2d_tensor_cores(const float* __restrict__ x, const float* __restrict__ w,
                    float* __restrict__ y, int N, int C, int O, int H, int W) {
    __shared__ unsigned weights[DEPTH][TILE + 8];  // + 8: what a warp loads lies in 32 banks
    __shared__ unsigned patches[DEPTH][TILE + 8];
    int thread = threadIdx.x, lane = thread % WARP, warp = thread / WARP, g = lane / 4, t = lane % 4;
    int row0 = blockIdx.y * TILE, col0 = blockIdx.x * TILE, length = 9 * C, positions = N * H * W;
    int row = warp / 2 * 32, col = warp % 2 * 32;  // of the warp's part, within the tile
    float sum[2][4][4] = {};
    for (int k0 = 0; k0 < length; k0 += DEPTH) {
        for (int e = thread; e < TILE * DEPTH; e += THREADS) {
            int o = row0 + e / DEPTH, ka = e % DEPTH;
            weights[ka][e / DEPTH] = to_tf32(o < O && k0 + ka < length ? w[o * length + k0 + ka] : 0);
            int k = k0 + e / TILE, p = col0 + e % TILE;
            int r = p / W % H + k / 3 % 3 - 1, q = p % W + k % 3 - 1;
            bool seen = k < length && p < positions && inside(r, q, H, W);
            patches[e / TILE][e % TILE] = to_tf32(seen ? x[at(p / (W * H), k / 9, r, q, C, H, W)] : 0);
        }
        __syncthreads();
        unsigned from_w[2][4], from_x[4][2];
        for (int i = 0; i < 2; i++)
            for (int part = 0; part < 4; part++)
                from_w[i][part] = weights[t + part / 2 * 4][row + 16 * i + g + part % 2 * 8];
        for (int j = 0; j < 4; j++)
            for (int part = 0; part < 2; part++)
                from_x[j][part] = patches[t + 4 * part][col + 8 * j + g];
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < 4; j++) mma_m16n8k8_tf32(sum[i][j], from_w[i], from_x[j]);
        __syncthreads();
    }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++)
            for (int part = 0; part < 4; part++) {
                int o = row0 + row + 16 * i + g + part / 2 * 8;
                int p = col0 + col + 8 * j + 2 * t + part % 2;
                if (o < O && p < positions)
                    y[at(p / (W * H), o, p / W % H, p % W, O, H, W)] = sum[i][j][part];
            }
}
