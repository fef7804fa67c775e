// initcheck: y: before anything was written there
// `+=` on an output that nobody has set to zero.
// launch: grid=(ceil_div(n, 64)) block=(64)  in: x  out: y
// sample: n=100 x=(4, n) y=(n)
__global__ void broken(const float* x, float* y, int n) {
    int i = blockIdx.x * 64 + threadIdx.x;
    if (i >= n) return;
    for (int k = 0; k < 4; ++k) y[i] += x[k * n + i];  // <- here
}

// launch: grid=(ceil_div(n, 64)) block=(64)  in: x  out: y
// sample: n=100 x=(4, n) y=(n)
__global__ void fixed(const float* x, float* y, int n) {
    int i = blockIdx.x * 64 + threadIdx.x;
    if (i >= n) return;
    float sum = 0;
    for (int k = 0; k < 4; ++k) sum += x[k * n + i];
    y[i] = sum;
}
