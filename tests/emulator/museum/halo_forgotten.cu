// initcheck: tile: before anything was written there
// A 3-wide stencil loads its own element only; the two at the tile's ends are never loaded.
#define BLOCK 64

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  in: x  out: y
// sample: n=128 x=(n) y=(n)
__global__ void broken(const float* x, float* y, int n) {
    __shared__ float tile[BLOCK + 2];
    int i = blockIdx.x * BLOCK + threadIdx.x, t = threadIdx.x + 1;
    tile[t] = i < n ? x[i] : 0;
    __syncthreads();
    float sum = tile[t - 1];  // <- here
    sum += tile[t];
    sum += tile[t + 1];  // <- here
    if (i < n) y[i] = sum;
}

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  in: x  out: y
// sample: n=128 x=(n) y=(n)
__global__ void fixed(const float* x, float* y, int n) {
    __shared__ float tile[BLOCK + 2];
    int i = blockIdx.x * BLOCK + threadIdx.x, t = threadIdx.x + 1;
    tile[t] = i < n ? x[i] : 0;
    if (t == 1) tile[0] = i > 0 ? x[i - 1] : 0;
    if (t == BLOCK) tile[t + 1] = i + 1 < n ? x[i + 1] : 0;
    __syncthreads();
    float sum = tile[t - 1] + tile[t] + tile[t + 1];
    if (i < n) y[i] = sum;
}
