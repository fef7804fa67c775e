// initcheck: total: before anything was written there
// Shared memory starts with whatever the last block left: the sum is never set to zero.
#define BLOCK 64

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK)%9 y=(1)
__global__ void broken(const int* x, int* y) {
    __shared__ int total;
    atomicAdd(&total, x[threadIdx.x]);  // <- here
    __syncthreads();
    if (threadIdx.x == 0) y[0] = total;
}

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK)%9 y=(1)
__global__ void fixed(const int* x, int* y) {
    __shared__ int total;
    if (threadIdx.x == 0) total = 0;
    __syncthreads();
    atomicAdd(&total, x[threadIdx.x]);
    __syncthreads();
    if (threadIdx.x == 0) y[0] = total;
}
