// racecheck: total: race between blocks
// One thread of each block adds to the total. Blocks run at the same time: __syncthreads() cannot help.
#define BLOCK 64

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  in: x  inout: total
// sample: n=256 x=(n)%9 total=(1)
__global__ void broken(const int* x, int* total, int n) {
    __shared__ int sum;
    int i = blockIdx.x * BLOCK + threadIdx.x;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    if (i < n) atomicAdd(&sum, x[i]);
    __syncthreads();
    if (threadIdx.x == 0) total[0] += sum;  // <- here
}

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  in: x  inout: total
// sample: n=256 x=(n)%9 total=(1)
__global__ void fixed(const int* x, int* total, int n) {
    __shared__ int sum;
    int i = blockIdx.x * BLOCK + threadIdx.x;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    if (i < n) atomicAdd(&sum, x[i]);
    __syncthreads();
    if (threadIdx.x == 0) atomicAdd(total, sum);
}
