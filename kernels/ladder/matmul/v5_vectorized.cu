// sm_70
// Step 5: four elements in one instruction, and 8 x 8 elements of C a thread.
//
// A float4 moves 16 bytes with one load, from global memory as from shared memory, so there are a
// quarter as many instructions for the same bytes. It needs addresses that are multiples of 16 bytes:
// K and L must be multiples of 4, or the rows are loaded element by element. A thread's 8 columns are
// two groups of 4 that lie side by side: a quarter-warp's float4 loads then fill all 32 banks.
// Reads a thread and step along K: 2 float4 of either tile for 64 multiply-adds.
// Expected bottleneck: arithmetic, while it does not wait for the loads (v6).
#include "../../common.cuh"

#define TILE 128  // of C, rows and columns a block
#define DEPTH 8   // of the tiles, along K
#define SIDE 16   // threads along either side of the block
#define HALF 64   // from a thread's first group of 4 rows or columns to its second

__device__ __forceinline__ float4 four(const float* p, int row, int col, int rows, int cols) {
    const float* from = p + (long long)row * cols + col;
    if (row < rows && col + 3 < cols && cols % 4 == 0) return *(const float4*)from;
    float4 v = make_float4(0, 0, 0, 0);
    if (row < rows && col < cols) v.x = from[0];
    if (row < rows && col + 1 < cols) v.y = from[1];
    if (row < rows && col + 2 < cols) v.z = from[2];
    if (row < rows && col + 3 < cols) v.w = from[3];
    return v;
}

__device__ __forceinline__ void put_four(float* p, int row, int col, int rows, int cols,
                                         const float v[4]) {
    float* to = p + (long long)row * cols + col;
    if (row < rows && col + 3 < cols && cols % 4 == 0)
        *(float4*)to = make_float4(v[0], v[1], v[2], v[3]);
    else
        for (int i = 0; i < 4; i++)
            if (row < rows && col + i < cols) to[i] = v[i];
}

// launch: grid=(ceil_div(L, TILE), ceil_div(M, TILE)) block=(SIDE, SIDE)  in: a b  out: c
extern "C" __global__ void __launch_bounds__(SIDE * SIDE)
matmul_vectorized(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c,
                  int M, int K, int L) {
    __shared__ __align__(16) float a_tile[DEPTH][TILE];  // turned
    __shared__ __align__(16) float b_tile[DEPTH][TILE];
    int x = threadIdx.x, y = threadIdx.y, thread = y * SIDE + x;
    int row0 = blockIdx.y * TILE, col0 = blockIdx.x * TILE;
    int a_row = thread / 2, a_k = thread % 2 * 4;     // 128 rows of 2 float4
    int b_k = thread / 32, b_col = thread % 32 * 4;   // 8 rows of 32 float4
    float sum[8][8] = {};
    for (int k0 = 0; k0 < K; k0 += DEPTH) {
        float4 v = four(a, row0 + a_row, k0 + a_k, M, K);
        a_tile[a_k][a_row] = v.x;
        a_tile[a_k + 1][a_row] = v.y;
        a_tile[a_k + 2][a_row] = v.z;
        a_tile[a_k + 3][a_row] = v.w;
        *(float4*)&b_tile[b_k][b_col] = four(b, k0 + b_k, col0 + b_col, K, L);
        __syncthreads();
        for (int k = 0; k < DEPTH; k++) {
            float4 a0 = *(const float4*)&a_tile[k][4 * y], a1 = *(const float4*)&a_tile[k][HALF + 4 * y];
            float4 b0 = *(const float4*)&b_tile[k][4 * x], b1 = *(const float4*)&b_tile[k][HALF + 4 * x];
            float from_a[8] = {a0.x, a0.y, a0.z, a0.w, a1.x, a1.y, a1.z, a1.w};
            float from_b[8] = {b0.x, b0.y, b0.z, b0.w, b1.x, b1.y, b1.z, b1.w};
            for (int i = 0; i < 8; i++)
                for (int j = 0; j < 8; j++) sum[i][j] += from_a[i] * from_b[j];
        }
        __syncthreads();
    }
    for (int i = 0; i < 8; i++) {
        int row = row0 + i / 4 * HALF + 4 * y + i % 4;
        put_four(c, row, col0 + 4 * x, M, L, &sum[i][0]);
        put_four(c, row, col0 + HALF + 4 * x, M, L, &sum[i][4]);
    }
}
