// initcheck: y: 1 of 100 elements of the output y are never written
// The guard leaves out the last element: nothing crashes, one pixel keeps what it had.
#define BLOCK 64

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  out: y
// sample: n=100 y=(n)
__global__ void broken(float* y, int n) {  // <- here
    int i = blockIdx.x * BLOCK + threadIdx.x;
    if (i < n - 1) y[i] = i;
}

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  out: y
// sample: n=100 y=(n)
__global__ void fixed(float* y, int n) {
    int i = blockIdx.x * BLOCK + threadIdx.x;
    if (i < n) y[i] = i;
}
