// memcheck: : null here: bias
// A layer without bias passes no array; the kernel reads it all the same.
// launch: grid=(ceil_div(n, 64)) block=(64)  in: x bias  out: y
// sample: n=100 x=(n) bias=null y=(n)
__global__ void broken(const float* x, const float* bias, float* y, int n) {
    int i = blockIdx.x * 64 + threadIdx.x;
    if (i < n) y[i] = x[i] + bias[i];  // <- here
}

// launch: grid=(ceil_div(n, 64)) block=(64)  in: x bias  out: y
// sample: n=100 x=(n) bias=null y=(n)
// sample: n=100 x=(n) bias=(n) y=(n)
__global__ void fixed(const float* x, const float* bias, float* y, int n) {
    int i = blockIdx.x * 64 + threadIdx.x;
    if (i < n) y[i] = x[i] + (bias ? bias[i] : 0);
}
