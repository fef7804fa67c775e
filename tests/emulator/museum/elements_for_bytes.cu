// memcheck: values: past the end of 16 elements
// The launch gives shared memory in bytes; 64 bytes hold 16 floats, not 64.
#define BLOCK 64

// launch: grid=(1) block=(BLOCK) shared=BLOCK  in: x  out: y
// sample: x=(BLOCK) y=(BLOCK)
__global__ void broken(const float* x, float* y) {
    extern __shared__ float values[];
    values[threadIdx.x] = x[threadIdx.x];  // <- here
    __syncthreads();
    y[threadIdx.x] = values[BLOCK - 1 - threadIdx.x];
}

// launch: grid=(1) block=(BLOCK) shared=(BLOCK * sizeof(float))  in: x  out: y
// sample: x=(BLOCK) y=(BLOCK)
__global__ void fixed(const float* x, float* y) {
    extern __shared__ float values[];
    values[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = values[BLOCK - 1 - threadIdx.x];
}
