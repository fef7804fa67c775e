// memcheck: x: 1 before its start
// A stencil reads its left neighbour; at the border there is none.
#define BLOCK 64

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  in: x  out: y
// sample: n=100 x=(n) y=(n)
__global__ void broken(const float* x, float* y, int n) {
    int i = blockIdx.x * BLOCK + threadIdx.x;
    if (i < n) y[i] = x[i] - x[i - 1];  // <- here
}

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  in: x  out: y
// sample: n=100 x=(n) y=(n)
__global__ void fixed(const float* x, float* y, int n) {
    int i = blockIdx.x * BLOCK + threadIdx.x;
    if (i < n) y[i] = x[i] - (i > 0 ? x[i - 1] : 0);
}
