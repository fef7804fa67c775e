// synccheck: : threads wait at different barriers
// Both branches have a barrier, but a barrier must be the same one for the whole block.
#define BLOCK 64

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK) y=(BLOCK)
__global__ void broken(const float* x, float* y) {
    __shared__ float values[BLOCK];
    int t = threadIdx.x;
    if (t % 2) {
        values[t] = x[t];
        __syncthreads();  // <- here
    } else {
        values[t] = -x[t];
        __syncthreads();  // <- here
    }
    y[t] = values[BLOCK - 1 - t];
}

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK) y=(BLOCK)
__global__ void fixed(const float* x, float* y) {
    __shared__ float values[BLOCK];
    int t = threadIdx.x;
    if (t % 2) values[t] = x[t];
    else values[t] = -x[t];
    __syncthreads();
    y[t] = values[BLOCK - 1 - t];
}
