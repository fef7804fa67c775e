// memcheck: x: -1 as an unsigned number
// An unsigned 0 minus 1 is 4294967295, and no test for `>= 0` helps: it always holds.
// launch: grid=(2) block=(32)  in: x  out: y
// sample: x=(64) y=(64)
__global__ void broken(const float* x, float* y) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = x[i] - (i - 1 >= 0 ? x[i - 1] : 0);  // <- here
}

// launch: grid=(2) block=(32)  in: x  out: y
// sample: x=(64) y=(64)
__global__ void fixed(const float* x, float* y) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = x[i] - (i - 1 >= 0 ? x[i - 1] : 0);
}
