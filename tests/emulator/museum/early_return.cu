// synccheck: : some threads of the block never reach
// The guard returns before the barrier, so that the last block's idle threads never arrive.
#define BLOCK 64

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  in: x  out: y
// sample: n=100 x=(n) y=(n)
__global__ void broken(const float* x, float* y, int n) {
    __shared__ float values[BLOCK];
    int i = blockIdx.x * BLOCK + threadIdx.x;
    if (i >= n) return;
    values[threadIdx.x] = x[i];
    __syncthreads();  // <- here
    y[i] = values[threadIdx.x / 2];
}

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  in: x  out: y
// sample: n=100 x=(n) y=(n)
__global__ void fixed(const float* x, float* y, int n) {
    __shared__ float values[BLOCK];
    int i = blockIdx.x * BLOCK + threadIdx.x;
    if (i < n) values[threadIdx.x] = x[i];
    __syncthreads();
    if (i < n) y[i] = values[threadIdx.x / 2];
}
