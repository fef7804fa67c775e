// sm_70
// Step 1: one thread, one element of C. c = a @ b, with a (M, K), b (K, L), c (M, L).
//
// A thread walks along a row of A and a column of B: 2 K loads from global memory, 1 store, K
// multiply-adds. Neighbouring threads (threadIdx.x) take neighbouring *rows*: when a warp, 16 rows by 2
// columns, loads its elements of A, these lie K elements apart, in 16 different sectors of memory; of
// each 32-byte sector 4 bytes are used. The stores to C are as far apart. Expected bottleneck: memory
// requests.
#include "../../common.cuh"

#define BLOCK 16

// launch: grid=(ceil_div(M, BLOCK), ceil_div(L, BLOCK)) block=(BLOCK, BLOCK)  in: a b  out: c
extern "C" __global__ void matmul_naive(const float* __restrict__ a, const float* __restrict__ b,
                                        float* __restrict__ c, int M, int K, int L) {
    int row = blockIdx.x * BLOCK + threadIdx.x;
    int col = blockIdx.y * BLOCK + threadIdx.y;
    if (row >= M || col >= L) return;
    float sum = 0;
    for (int k = 0; k < K; k++) sum += a[row * K + k] * b[k * L + col];
    c[row * L + col] = sum;
}
