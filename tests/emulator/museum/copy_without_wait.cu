// initcheck: tile: before anything was written there
// An asynchronous copy has landed only after a wait; a barrier alone is not enough.
#include <cuda_pipeline.h>
#define BLOCK 64

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK) y=(BLOCK)
__global__ void broken(const float* x, float* y) {
    __shared__ float tile[BLOCK];
    __pipeline_memcpy_async(&tile[threadIdx.x], &x[threadIdx.x], sizeof(float));
    __pipeline_commit();
    __syncthreads();
    y[threadIdx.x] = tile[BLOCK - 1 - threadIdx.x];  // <- here
}

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK) y=(BLOCK)
__global__ void fixed(const float* x, float* y) {
    __shared__ float tile[BLOCK];
    __pipeline_memcpy_async(&tile[threadIdx.x], &x[threadIdx.x], sizeof(float));
    __pipeline_commit();
    __pipeline_wait_prior(0);
    __syncthreads();
    y[threadIdx.x] = tile[BLOCK - 1 - threadIdx.x];
}
