// sm_80
// Step 8: tensor cores, by their instruction. Which lane holds which element is now in our hands.
//
// mma.m16n8k8 multiplies 16 x 8 by 8 x 8 (common.cuh says which lane holds what). A block of 4 warps
// computes a 64 x 64 tile of C; a warp 32 x 32 of it, as 2 x 4 instructions: per 8 along K it loads
// 2 * 4 + 4 * 2 registers a lane for 8 instructions, where v7 loads a whole fragment for each. C goes
// from registers straight to global memory. Operands are TF32, as in v7.
// Expected bottleneck: shared memory; swizzled tiles and asynchronous copies would be next.
#include "../../common.cuh"

#define TILE 64
#define DEPTH 8
#define THREADS 128

// launch: grid=(ceil_div(L, TILE), ceil_div(M, TILE)) block=(THREADS)  in: a b  out: c
extern "C" __global__ void __launch_bounds__(THREADS)
matmul_mma(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int M,
           int K, int L) {
    __shared__ unsigned a_tile[DEPTH][TILE + 8];  // + 8: the 32 elements a warp loads, in 32 banks
    __shared__ unsigned b_tile[DEPTH][TILE + 8];
    int thread = threadIdx.x, lane = thread % WARP, warp = thread / WARP;
    int g = lane / 4, t = lane % 4;
    int row0 = blockIdx.y * TILE, col0 = blockIdx.x * TILE;
    int row = warp / 2 * 32, col = warp % 2 * 32;  // of the warp's part, within the tile
    float sum[2][4][4] = {};
    for (int k0 = 0; k0 < K; k0 += DEPTH) {
        for (int e = thread; e < TILE * DEPTH; e += THREADS) {
            int ra = e / DEPTH, ka = e % DEPTH, kb = e / TILE, cb = e % TILE;
            a_tile[ka][ra] =
                to_tf32(row0 + ra < M && k0 + ka < K ? a[(row0 + ra) * K + k0 + ka] : 0);
            b_tile[kb][cb] =
                to_tf32(k0 + kb < K && col0 + cb < L ? b[(k0 + kb) * L + col0 + cb] : 0);
        }
        __syncthreads();
        unsigned from_a[2][4], from_b[4][2];
        for (int i = 0; i < 2; i++)
            for (int part = 0; part < 4; part++)
                from_a[i][part] = a_tile[t + part / 2 * 4][row + 16 * i + g + part % 2 * 8];
        for (int j = 0; j < 4; j++)
            for (int part = 0; part < 2; part++)
                from_b[j][part] = b_tile[t + 4 * part][col + 8 * j + g];
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < 4; j++) mma_m16n8k8_tf32(sum[i][j], from_a[i], from_b[j]);
        __syncthreads();
    }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++)
            for (int part = 0; part < 4; part++) {
                int r = row0 + row + 16 * i + g + part / 2 * 8;
                int l = col0 + col + 8 * j + 2 * t + part % 2;
                if (r < M && l < L) c[r * L + l] = sum[i][j][part];
            }
}
