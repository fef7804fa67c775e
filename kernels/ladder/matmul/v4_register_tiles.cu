// sm_70
// Step 4: a thread computes 4 x 4 elements of C, and keeps them, and what they need, in registers.
//
// In v3 every multiply-add took two loads from shared memory. A thread that has 4 elements of a column
// of A and 4 of a row of B makes 16 multiply-adds of these 8 loads: half a load each. The block stays
// at 256 threads, its tile of C grows to 64 x 64, and with it the reuse of what comes from global
// memory: for an element of C, K / 64 loads of either matrix, where v3 made K / 16.
// Expected bottleneck: shared memory still, but four times less so.
#include "../../common.cuh"

#define TILE 64  // of C, rows and columns a block
#define DEPTH 8  // of the tiles, along K
#define SIDE 16  // threads along either side of the block; TILE / SIDE = 4 elements each

// launch: grid=(ceil_div(L, TILE), ceil_div(M, TILE)) block=(SIDE, SIDE)  in: a b  out: c
extern "C" __global__ void matmul_registers(const float* __restrict__ a,
                                            const float* __restrict__ b, float* __restrict__ c,
                                            int M, int K, int L) {
    __shared__ float a_tile[DEPTH][TILE + 1];  // turned, so that a column of A lies in a row
    __shared__ float b_tile[DEPTH][TILE];
    int x = threadIdx.x, y = threadIdx.y, thread = y * SIDE + x;
    int row0 = blockIdx.y * TILE, col0 = blockIdx.x * TILE;
    float sum[4][4] = {};
    for (int k0 = 0; k0 < K; k0 += DEPTH) {
        for (int e = thread; e < DEPTH * TILE; e += SIDE * SIDE) {
            int row = e / DEPTH, ka = e % DEPTH;  // neighbours along K, as A lies
            a_tile[ka][row] = row0 + row < M && k0 + ka < K ? a[(row0 + row) * K + k0 + ka] : 0;
            int kb = e / TILE, col = e % TILE;
            b_tile[kb][col] = k0 + kb < K && col0 + col < L ? b[(k0 + kb) * L + col0 + col] : 0;
        }
        __syncthreads();
        for (int k = 0; k < DEPTH; k++) {
            float from_a[4], from_b[4];
            for (int i = 0; i < 4; i++) from_a[i] = a_tile[k][y + SIDE * i];
            for (int j = 0; j < 4; j++) from_b[j] = b_tile[k][x + SIDE * j];
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) sum[i][j] += from_a[i] * from_b[j];
        }
        __syncthreads();
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            int row = row0 + y + SIDE * i, col = col0 + x + SIDE * j;
            if (row < M && col < L) c[row * L + col] = sum[i][j];
        }
}
