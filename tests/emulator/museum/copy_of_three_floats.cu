// memcheck: tile: an asynchronous copy of 12 bytes to tile[0]: it takes 4, 8 or 16
// A pixel of three floats is no size of an asynchronous copy: CUDA's header copies nothing, silently.
#include <cuda_pipeline.h>
#define BLOCK 32

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(3 * BLOCK) y=(BLOCK)
__global__ void broken(const float* x, float* y) {
    __shared__ float tile[3 * BLOCK];
    const int t = threadIdx.x;
    __pipeline_memcpy_async(&tile[3 * t], &x[3 * t], 3 * sizeof(float));  // <- here
    __pipeline_commit();
    __pipeline_wait_prior(0);
    __syncthreads();
    y[t] = tile[t] + tile[BLOCK + t] + tile[2 * BLOCK + t];
}

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(3 * BLOCK) y=(BLOCK)
__global__ void fixed(const float* x, float* y) {
    __shared__ float tile[3 * BLOCK];
    const int t = threadIdx.x;
    for (int c = 0; c < 3; c++)
        __pipeline_memcpy_async(&tile[c * BLOCK + t], &x[c * BLOCK + t], sizeof(float));
    __pipeline_commit();
    __pipeline_wait_prior(0);
    __syncthreads();
    y[t] = tile[t] + tile[BLOCK + t] + tile[2 * BLOCK + t];
}
