// racecheck: partial: race between blocks, which nothing orders
// Each thread fences what it wrote, but thread 0 counts its block as done while others still write.
#define BLOCK 64
#define BLOCKS 3

__device__ unsigned done = 0;

// launch: grid=(BLOCKS) block=(BLOCK)  in: x  inout: partial  out: y
// sample: x=(BLOCKS, BLOCK)%9 partial=(BLOCKS, BLOCK)%1 y=(BLOCK)
__global__ void broken(const int* x, int* partial, int* y) {
    __shared__ bool last;
    const int t = threadIdx.x, i = blockIdx.x * BLOCK + t;
    partial[i] = x[i];  // <- here
    __threadfence();
    if (t == 0) last = atomicInc(&done, BLOCKS - 1) == BLOCKS - 1;
    __syncthreads();
    if (!last) return;
    y[t] = 0;
    for (int b = 0; b < BLOCKS; b++) y[t] += partial[b * BLOCK + t];  // <- here
}

// launch: grid=(BLOCKS) block=(BLOCK)  in: x  inout: partial  out: y
// sample: x=(BLOCKS, BLOCK)%9 partial=(BLOCKS, BLOCK)%1 y=(BLOCK)
__global__ void fixed(const int* x, int* partial, int* y) {
    __shared__ bool last;
    const int t = threadIdx.x, i = blockIdx.x * BLOCK + t;
    partial[i] = x[i];
    __threadfence();
    __syncthreads();
    if (t == 0) last = atomicInc(&done, BLOCKS - 1) == BLOCKS - 1;
    __syncthreads();
    if (!last) return;
    y[t] = 0;
    for (int b = 0; b < BLOCKS; b++) y[t] += partial[b * BLOCK + t];
}
