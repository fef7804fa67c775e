// sm_80
// Step 7: tensor cores, by the WMMA library: a warp multiplies whole 16 x 16 matrices.
//
// Operands are TF32, floats of which 10 bits of fraction are left: an element of C errs by about
// 2^-11 sqrt(K) of its terms' size. The sum itself is kept in float32. A block of 4 warps computes a
// 32 x 32 tile of C, a warp 16 x 16 of it. Per step of 8 along K, the block brings 32 x 8 elements of
// A and 8 x 32 of B to shared memory, 4 elements a thread, and each warp makes one matrix instruction
// of them. Expected bottleneck: shared and global memory; the tensor cores mostly wait. Published
// ladders report 8 % of cuBLAS for such a kernel on an H100.
#include "../../common.cuh"
#include <mma.h>

using namespace nvcuda;

#define TILE 32
#define DEPTH 8
#define THREADS 128

// launch: grid=(ceil_div(L, TILE), ceil_div(M, TILE)) block=(THREADS)  in: a b  out: c
extern "C" __global__ void __launch_bounds__(THREADS)
matmul_wmma(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int M,
            int K, int L) {
    __shared__ __align__(32) float a_tile[TILE][DEPTH];
    __shared__ __align__(32) float b_tile[DEPTH][TILE];
    __shared__ __align__(32) float c_tile[TILE][TILE];
    int thread = threadIdx.x, warp = thread / WARP;
    int row0 = blockIdx.y * TILE, col0 = blockIdx.x * TILE;
    int row = warp / 2 * 16, col = warp % 2 * 16;  // of the warp's part, within the tile

    wmma::fragment<wmma::accumulator, 16, 16, 8, float> sum;
    wmma::fill_fragment(sum, 0.0f);
    for (int k0 = 0; k0 < K; k0 += DEPTH) {
        for (int e = thread; e < TILE * DEPTH; e += THREADS) {
            int ra = e / DEPTH, ka = e % DEPTH, kb = e / TILE, cb = e % TILE;
            float from_a = row0 + ra < M && k0 + ka < K ? a[(row0 + ra) * K + k0 + ka] : 0;
            float from_b = k0 + kb < K && col0 + cb < L ? b[(k0 + kb) * L + col0 + cb] : 0;
            a_tile[ra][ka] = wmma::__float_to_tf32(from_a);
            b_tile[kb][cb] = wmma::__float_to_tf32(from_b);
        }
        __syncthreads();
        wmma::fragment<wmma::matrix_a, 16, 16, 8, wmma::precision::tf32, wmma::row_major> from_a;
        wmma::fragment<wmma::matrix_b, 16, 16, 8, wmma::precision::tf32, wmma::row_major> from_b;
        wmma::load_matrix_sync(from_a, &a_tile[row][0], DEPTH);
        wmma::load_matrix_sync(from_b, &b_tile[0][col], TILE);
        wmma::mma_sync(sum, from_a, from_b, sum);
        __syncthreads();
    }
    wmma::store_matrix_sync(&c_tile[row][col], sum, TILE, wmma::mem_row_major);
    __syncthreads();  // through shared memory, because a warp's part may reach beyond C
    for (int e = thread; e < TILE * TILE; e += THREADS) {
        int r = row0 + e / TILE, l = col0 + e % TILE;
        if (r < M && l < L) c[r * L + l] = c_tile[e / TILE][e % TILE];
    }
}
