// memcheck: x: past the end of 128 elements
// Two tiles ahead: the last ones do not exist, and that nobody waits for them helps nothing.
#include <cuda_pipeline.h>
#define TILE 32

// launch: grid=(1) block=(TILE)  in: x  out: y
// sample: tiles=4 x=(4 * TILE) y=(TILE)
__global__ void broken(const float* x, float* y, int tiles) {
    __shared__ float ring[2][TILE];
    const int t = threadIdx.x;
    float sum = 0;
    __pipeline_memcpy_async(&ring[0][t], x + t, 4);
    __pipeline_commit();
    for (int i = 0; i < tiles; ++i) {
        const float* next = x + (i + 1) * TILE + t;
        __pipeline_memcpy_async(&ring[(i + 1) % 2][t], next, 4);  // <- here
        __pipeline_commit();
        __pipeline_wait_prior(1);
        sum += ring[i % 2][t];
    }
    y[t] = sum;
}

// launch: grid=(1) block=(TILE)  in: x  out: y
// sample: tiles=4 x=(4 * TILE) y=(TILE)
__global__ void fixed(const float* x, float* y, int tiles) {
    __shared__ float ring[2][TILE];
    const int t = threadIdx.x;
    float sum = 0;
    __pipeline_memcpy_async(&ring[0][t], x + t, 4);
    __pipeline_commit();
    for (int i = 0; i < tiles; ++i) {
        const float* next = x + (i + 1) * TILE + t;
        if (i + 1 < tiles) __pipeline_memcpy_async(&ring[(i + 1) % 2][t], next, 4);
        __pipeline_commit();
        __pipeline_wait_prior(1);
        sum += ring[i % 2][t];
    }
    y[t] = sum;
}
