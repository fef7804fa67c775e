// synccheck: : some threads of the block never reach
// Only the first half of the block meets the barrier; the other half passes by and ends.
#define BLOCK 64

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK) y=(BLOCK)
__global__ void broken(const float* x, float* y) {
    __shared__ float values[BLOCK];
    int t = threadIdx.x;
    values[t] = x[t];
    if (t < BLOCK / 2) {
        __syncthreads();  // <- here
        values[t] += x[t + BLOCK / 2];
    }
    y[t] = values[t];
}

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK) y=(BLOCK)
__global__ void fixed(const float* x, float* y) {
    __shared__ float values[BLOCK];
    int t = threadIdx.x;
    values[t] = x[t];
    __syncthreads();
    if (t < BLOCK / 2) values[t] += x[t + BLOCK / 2];
    y[t] = values[t];
}
