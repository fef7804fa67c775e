// initcheck: tile: before anything was written there
// Lanes behind the end load nothing, and their zeros are forgotten: the sum reads what was left.
#define BLOCK 64

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  in: x  out: y
// sample: n=100 x=(n) y=(2)
__global__ void broken(const float* x, float* y, int n) {
    __shared__ float tile[BLOCK];
    int i = blockIdx.x * BLOCK + threadIdx.x;
    if (i < n) tile[threadIdx.x] = x[i];
    __syncthreads();
    if (threadIdx.x > 0) return;
    float sum = 0;
    for (int k = 0; k < BLOCK; ++k)
        sum += tile[k];  // <- here
    y[blockIdx.x] = sum;
}

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  in: x  out: y
// sample: n=100 x=(n) y=(2)
__global__ void fixed(const float* x, float* y, int n) {
    __shared__ float tile[BLOCK];
    int i = blockIdx.x * BLOCK + threadIdx.x;
    tile[threadIdx.x] = i < n ? x[i] : 0;
    __syncthreads();
    if (threadIdx.x > 0) return;
    float sum = 0;
    for (int k = 0; k < BLOCK; ++k) sum += tile[k];
    y[blockIdx.x] = sum;
}
