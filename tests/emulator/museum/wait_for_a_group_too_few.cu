// racecheck: tile: while an asynchronous copy to it is under way
// All but one group must have landed: in the last round there is one only, and nobody waits for it.
#include <cuda_pipeline.h>
#define BLOCK 64

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: tiles=5 x=(tiles, BLOCK) y=(tiles, BLOCK)
__global__ void broken(const float* x, float* y, int tiles) {
    __shared__ float tile[2][BLOCK];
    const int t = threadIdx.x;
    __pipeline_memcpy_async(&tile[0][t], &x[t], sizeof(float));
    __pipeline_commit();
    for (int k = 0; k < tiles; ++k) {
        if (k + 1 < tiles)
            __pipeline_memcpy_async(&tile[(k + 1) % 2][t], &x[(k + 1) * BLOCK + t], 4);  // <- here
        if (k + 1 < tiles) __pipeline_commit();
        __pipeline_wait_prior(1);
        __syncthreads();
        y[k * BLOCK + t] = tile[k % 2][BLOCK - 1 - t];  // <- here
        __syncthreads();
    }
}

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: tiles=5 x=(tiles, BLOCK) y=(tiles, BLOCK)
__global__ void fixed(const float* x, float* y, int tiles) {
    __shared__ float tile[2][BLOCK];
    const int t = threadIdx.x;
    __pipeline_memcpy_async(&tile[0][t], &x[t], sizeof(float));
    __pipeline_commit();
    for (int k = 0; k < tiles; ++k) {
        if (k + 1 < tiles)
            __pipeline_memcpy_async(&tile[(k + 1) % 2][t], &x[(k + 1) * BLOCK + t], 4);
        __pipeline_commit();
        __pipeline_wait_prior(1);
        __syncthreads();
        y[k * BLOCK + t] = tile[k % 2][BLOCK - 1 - t];
        __syncthreads();
    }
}
