// synccheck: : needs the value of a lane that takes no part
// Lanes 24 to 31 have left; the sum asks for their values all the same.
// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(24) y=(1)
__global__ void broken(const float* x, float* y) {
    if (threadIdx.x >= 24) return;
    float sum = x[threadIdx.x];
    for (int step = 16; step > 0; step /= 2)
        sum += __shfl_down_sync(0xffffffff, sum, step);  // <- here
    if (threadIdx.x == 0) y[0] = sum;
}

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(24) y=(1)
__global__ void fixed(const float* x, float* y) {
    float sum = threadIdx.x < 24 ? x[threadIdx.x] : 0;
    for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffff, sum, step);
    if (threadIdx.x == 0) y[0] = sum;
}
