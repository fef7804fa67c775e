// sm_70
// Matrix product, batched: c[n] = a[n] @ b[n], with a (N, M, K), b (N, K, L), c (N, M, L).
//
// A block computes a 64 x 64 tile of one product with 16 x 16 threads, a thread 4 x 4 elements of it
// (tile_product, in common.cuh). Per 16 steps along K a thread reads 4 + 4 elements from global and
// 16 * 8 from shared memory for 16 * 16 multiply-adds; it writes 16. Expected bottleneck: shared
// memory and arithmetic for square matrices, global memory for thin ones. kernels/ladder/matmul shows
// how one gets here, and beyond.
#include "common.cuh"

// launch: grid=(N * ceil_div(M, GEMM_TILE) * ceil_div(L, GEMM_TILE)) block=(GEMM_SIDE, GEMM_SIDE)  in: a b  out: c
// sample: a=(2, 70, 37) b=(2, 37, 66) c=(2, 70, 66) N=2 M=70 K=37 L=66
extern "C" __global__ void __launch_bounds__(GEMM_SIDE * GEMM_SIDE)
matmul(const scalar* __restrict__ a, const scalar* __restrict__ b, scalar* __restrict__ c, int N,
       int M, int K, int L) {
    // One line of blocks: y and z count to 65535 only, which large batches and long matrices pass.
    const int across = ceil_div(L, GEMM_TILE), tiles = ceil_div(M, GEMM_TILE) * across;
    const int n = blockIdx.x / tiles, tile = blockIdx.x % tiles;
    const int row0 = tile / across * GEMM_TILE, col0 = tile % across * GEMM_TILE;
    const scalar* left = a + (long long)n * M * K;
    const scalar* right = b + (long long)n * K * L;
    scalar* result = c + (long long)n * M * L;

    auto from_left = [=](int m, int k) { return m < M ? left[(long long)m * K + k] : scalar(0); };
    auto from_right = [=](int k, int l) { return l < L ? right[(long long)k * L + l] : scalar(0); };
    scalar sum[GEMM_EACH][GEMM_EACH];
    tile_product(from_left, from_right, row0, col0, 0, K, sum);

    for (int i = 0; i < GEMM_EACH; i++)
        for (int j = 0; j < GEMM_EACH; j++) {
            int m = row0 + threadIdx.y + GEMM_SIDE * i, l = col0 + threadIdx.x + GEMM_SIDE * j;
            if (m < M && l < L) result[(long long)m * L + l] = sum[i][j];
        }
}
