// memcheck: tile: no multiple of 16 bytes (declare tile with __align__(16))
// An array of floats may start at any multiple of 4 bytes: here, right behind a single float.
#define BLOCK 32

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(4 * BLOCK) y=(4 * BLOCK)
__global__ void broken(const float4* x, float* y) {
    __shared__ float factor;
    __shared__ float tile[4 * BLOCK];
    const int t = threadIdx.x;
    if (t == 0) factor = 2;
    *reinterpret_cast<float4*>(&tile[4 * t]) = x[t];  // <- here
    __syncthreads();
    for (int i = t; i < 4 * BLOCK; i += BLOCK) y[i] = factor * tile[4 * BLOCK - 1 - i];
}

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(4 * BLOCK) y=(4 * BLOCK)
__global__ void fixed(const float4* x, float* y) {
    __shared__ float factor;
    __shared__ __align__(16) float tile[4 * BLOCK];
    const int t = threadIdx.x;
    if (t == 0) factor = 2;
    *reinterpret_cast<float4*>(&tile[4 * t]) = x[t];
    __syncthreads();
    for (int i = t; i < 4 * BLOCK; i += BLOCK) y[i] = factor * tile[4 * BLOCK - 1 - i];
}
