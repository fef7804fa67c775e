// sm_70
// Step 2: neighbouring threads take neighbouring columns. Nothing else differs from v1.
//
// Now the 32 elements of B that a warp loads, and those of C that it stores, lie side by side: 4
// sectors instead of 32, every byte used. All threads of a warp in one row read the *same* element of
// A, which is one sector, handed to all. A thread still makes 2 K loads for K multiply-adds, and every
// element of A is loaded L times, of B M times. Expected bottleneck: the number of loads.
#include "../../common.cuh"

#define BLOCK 16

// launch: grid=(ceil_div(L, BLOCK), ceil_div(M, BLOCK)) block=(BLOCK, BLOCK)  in: a b  out: c
extern "C" __global__ void matmul_coalesced(const float* __restrict__ a,
                                            const float* __restrict__ b, float* __restrict__ c,
                                            int M, int K, int L) {
    int row = blockIdx.y * BLOCK + threadIdx.y;
    int col = blockIdx.x * BLOCK + threadIdx.x;
    if (row >= M || col >= L) return;
    float sum = 0;
    for (int k = 0; k < K; k++) sum += a[row * K + k] * b[k * L + col];
    c[row * L + col] = sum;
}
