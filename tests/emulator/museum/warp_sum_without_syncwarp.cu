// racecheck: partial: one reads, one writes
// Each warp sums on its own, in shared memory, and no __syncwarp stands between the steps.
#define BLOCK 64

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK) y=(2)
__global__ void broken(const float* x, float* y) {
    __shared__ float partial[BLOCK];
    int t = threadIdx.x, lane = t % 32;
    partial[t] = x[t];  // <- here
    for (int step = 16; step > 0; step /= 2)
        if (lane < step)
            partial[t] += partial[t + step];  // <- here
    if (lane == 0) y[t / 32] = partial[t];
}

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK) y=(2)
__global__ void fixed(const float* x, float* y) {
    __shared__ float partial[BLOCK];
    int t = threadIdx.x, lane = t % 32;
    partial[t] = x[t];
    __syncwarp();
    for (int step = 16; step > 0; step /= 2) {
        if (lane < step) partial[t] += partial[t + step];
        __syncwarp();
    }
    if (lane == 0) y[t / 32] = partial[t];
}
