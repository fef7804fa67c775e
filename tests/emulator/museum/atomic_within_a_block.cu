// racecheck: total: race between blocks, which nothing orders
// atomicAdd_block is one among the threads of its own block only: the sums of two blocks mix.
// launch: grid=(2) block=(32)  in: x  inout: total
// sample: x=(64)%9 total=(1)%1
__global__ void broken(const int* x, int* total) {
    atomicAdd_block(total, x[blockIdx.x * 32 + threadIdx.x]);  // <- here
}

// launch: grid=(2) block=(32)  in: x  inout: total
// sample: x=(64)%9 total=(1)%1
__global__ void fixed(const int* x, int* total) {
    __shared__ int sum;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    atomicAdd_block(&sum, x[blockIdx.x * 32 + threadIdx.x]);
    __syncthreads();
    if (threadIdx.x == 0) atomicAdd(total, sum);
}
