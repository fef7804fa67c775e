// memcheck: y: past the end of 100 elements
// No guard at all: the last block is larger than what is left of the array.
#define BLOCK 64

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  out: y
// sample: n=100 y=(n)
__global__ void broken(float* y, int n) {
    int i = blockIdx.x * BLOCK + threadIdx.x;
    y[i] = i;  // <- here
}

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  out: y
// sample: n=100 y=(n)
__global__ void fixed(float* y, int n) {
    int i = blockIdx.x * BLOCK + threadIdx.x;
    if (i < n) y[i] = i;
}
