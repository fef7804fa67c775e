// racecheck: values: no barrier between
// The barrier between writing shared memory and reading a neighbour's element is gone.
#define BLOCK 64

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  in: x  out: y
// sample: n=128 x=(n) y=(n)
__global__ void broken(const float* x, float* y, int n) {
    __shared__ float values[BLOCK];
    int i = blockIdx.x * BLOCK + threadIdx.x;
    values[threadIdx.x] = x[i];  // <- here
    y[i] = values[(threadIdx.x + 1) % BLOCK];  // <- here
}

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  in: x  out: y
// sample: n=128 x=(n) y=(n)
__global__ void fixed(const float* x, float* y, int n) {
    __shared__ float values[BLOCK];
    int i = blockIdx.x * BLOCK + threadIdx.x;
    values[threadIdx.x] = x[i];
    __syncthreads();
    y[i] = values[(threadIdx.x + 1) % BLOCK];
}
