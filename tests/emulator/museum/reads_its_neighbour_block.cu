// racecheck: y: race between blocks
// A smoothing in place: the first thread of a block reads what the block before it overwrites.
#define BLOCK 64

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  inout: y
// sample: n=256 y=(n)
__global__ void broken(float* y, int n) {
    int i = blockIdx.x * BLOCK + threadIdx.x;
    float left = i > 0 && i < n ? y[i - 1] : 0;  // <- here
    __syncthreads();
    if (i < n) y[i] = (y[i] + left) / 2;  // <- here
}

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  in: x  out: y
// sample: n=256 x=(n) y=(n)
__global__ void fixed(const float* x, float* y, int n) {
    int i = blockIdx.x * BLOCK + threadIdx.x;
    float left = i > 0 && i < n ? x[i - 1] : 0;
    if (i < n) y[i] = (x[i] + left) / 2;
}
