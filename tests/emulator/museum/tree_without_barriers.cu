// racecheck: values: one reads, one writes
// The barrier stands before the reduction's loop, but not within it.
#define BLOCK 128

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK) y=(1)
__global__ void broken(const float* x, float* y) {
    __shared__ float values[BLOCK];
    int t = threadIdx.x;
    values[t] = x[t];
    __syncthreads();
    for (int step = BLOCK / 2; step > 0; step /= 2)
        if (t < step) values[t] += values[t + step];  // <- here
    if (t == 0) y[0] = values[0];
}

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK) y=(1)
__global__ void fixed(const float* x, float* y) {
    __shared__ float values[BLOCK];
    int t = threadIdx.x;
    values[t] = x[t];
    __syncthreads();
    for (int step = BLOCK / 2; step > 0; step /= 2) {
        if (t < step) values[t] += values[t + step];
        __syncthreads();
    }
    if (t == 0) y[0] = values[0];
}
