// memcheck: x: which the launch line declares `in:`
// The kernel scales its input in place; the caller counts on it staying as it is.
// launch: grid=(ceil_div(n, 64)) block=(64)  in: x  out: y
// sample: n=100 x=(n) y=(n)
__global__ void broken(float* x, float* y, int n) {
    int i = blockIdx.x * 64 + threadIdx.x;
    if (i >= n) return;
    x[i] *= 2;  // <- here
    y[i] = x[i];
}

// launch: grid=(ceil_div(n, 64)) block=(64)  in: x  out: y
// sample: n=100 x=(n) y=(n)
__global__ void fixed(const float* x, float* y, int n) {
    int i = blockIdx.x * 64 + threadIdx.x;
    if (i < n) y[i] = 2 * x[i];
}
