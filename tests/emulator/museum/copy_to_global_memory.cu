// memcheck: y: an asynchronous copy to y[0] in global memory
// An asynchronous copy goes from global to shared memory, and nowhere else.
#include <cuda_pipeline.h>

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(32)
__global__ void broken(const float* x, float* y) {
    __pipeline_memcpy_async(&y[threadIdx.x], &x[threadIdx.x], sizeof(float));  // <- here
    __pipeline_commit();
    __pipeline_wait_prior(0);
}

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(32)
__global__ void fixed(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x]; }
