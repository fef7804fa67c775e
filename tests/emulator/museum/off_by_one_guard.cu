// memcheck: x: 1 past the end of 100 elements
// `<=` where `<` belongs: one thread reads and writes one element too far.
#define BLOCK 64

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  in: x  out: y
// sample: n=100 x=(n) y=(n)
__global__ void broken(const float* x, float* y, int n) {
    int i = blockIdx.x * BLOCK + threadIdx.x;
    if (i <= n) y[i] = 2 * x[i];  // <- here
}

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  in: x  out: y
// sample: n=100 x=(n) y=(n)
__global__ void fixed(const float* x, float* y, int n) {
    int i = blockIdx.x * BLOCK + threadIdx.x;
    if (i < n) y[i] = 2 * x[i];
}
