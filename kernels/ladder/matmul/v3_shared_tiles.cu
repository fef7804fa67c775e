// sm_70
// Step 3: a block brings tiles of A and B to shared memory once, and all its threads read them there.
//
// A block of TILE x TILE threads computes TILE x TILE elements of C. Per step along K each thread loads
// one element of either tile: 2 K / TILE loads from global memory instead of 2 K. Two barriers a step:
// the tile must be complete before anybody reads it, and read by all before anybody overwrites it.
// Expected bottleneck: shared memory, 2 loads for each multiply-add.
#include "../../common.cuh"

#define TILE 16

// launch: grid=(ceil_div(L, TILE), ceil_div(M, TILE)) block=(TILE, TILE)  in: a b  out: c
extern "C" __global__ void matmul_shared(const float* __restrict__ a, const float* __restrict__ b,
                                         float* __restrict__ c, int M, int K, int L) {
    __shared__ float a_tile[TILE][TILE];
    __shared__ float b_tile[TILE][TILE];
    int x = threadIdx.x, y = threadIdx.y;
    int row = blockIdx.y * TILE + y, col = blockIdx.x * TILE + x;
    float sum = 0;
    for (int k0 = 0; k0 < K; k0 += TILE) {
        a_tile[y][x] = row < M && k0 + x < K ? a[row * K + k0 + x] : 0;
        b_tile[y][x] = k0 + y < K && col < L ? b[(k0 + y) * L + col] : 0;
        __syncthreads();  // both tiles are complete
        for (int k = 0; k < TILE; k++) sum += a_tile[y][k] * b_tile[k][x];
        __syncthreads();  // all have read them
    }
    if (row < M && col < L) c[row * L + col] = sum;
}
