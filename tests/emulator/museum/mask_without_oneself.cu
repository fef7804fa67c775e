// synccheck: : the mask leaves out the lane that gives it
// Each half of the warp sums for itself, but both name the lower half.
// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(32)
__global__ void broken(const float* x, float* y) {
    float sum = x[threadIdx.x];
    for (int step = 8; step > 0; step /= 2)
        sum += __shfl_xor_sync(0x0000ffff, sum, step);  // <- here
    y[threadIdx.x] = sum;
}

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(32)
__global__ void fixed(const float* x, float* y) {
    float sum = x[threadIdx.x];
    const unsigned half = threadIdx.x < 16 ? 0x0000ffff : 0xffff0000;
    for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(half, sum, step);
    y[threadIdx.x] = sum;
}
