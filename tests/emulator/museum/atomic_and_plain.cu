// racecheck: count: one reads, one writes
// The additions are atomic, but a plain read stands beside them without a barrier.
#define BLOCK 64

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK)%9 y=(BLOCK)
__global__ void broken(const int* x, int* y) {
    __shared__ int count;
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    if (x[threadIdx.x] > 4)
        atomicAdd(&count, 1);  // <- here
    y[threadIdx.x] = count;  // <- here
}

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK)%9 y=(BLOCK)
__global__ void fixed(const int* x, int* y) {
    __shared__ int count;
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    if (x[threadIdx.x] > 4) atomicAdd(&count, 1);
    __syncthreads();
    y[threadIdx.x] = count;
}
