// sm_70
// Step 2: neighbouring threads take neighbouring columns. Nothing else differs from v1.
//
// A warp is now 2 rows by 16 columns. The 16 elements of B that it loads lie side by side, in 2 sectors
// of which every byte is used, and so do those of C that it stores, in 2 sectors a row. All threads of a
// row read the *same* element of A, one sector handed to all: 4 sectors for a step along K, where v1
// asked for 17. A thread still makes 2 K loads for K multiply-adds, and every element of A is loaded L
// times, of B M times. Expected bottleneck: the number of loads.
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
