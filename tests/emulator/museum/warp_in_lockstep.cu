// racecheck: values: one reads, one writes
// Old textbooks leave out the barrier within a warp. Since Volta its lanes may drift apart.
// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(1)
__global__ void broken(const float* x, float* y) {
    __shared__ volatile float values[64];
    int t = threadIdx.x;
    values[t] = x[t];  // <- here
    values[t + 32] = 0;
    for (int step = 16; step > 0; step /= 2)
        values[t] += values[t + step];  // <- here
    if (t == 0) y[0] = values[0];
}

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(1)
__global__ void fixed(const float* x, float* y) {
    __shared__ float values[64];
    int t = threadIdx.x;
    values[t] = x[t];
    values[t + 32] = 0;
    __syncwarp();
    for (int step = 16; step > 0; step /= 2) {
        float sum = values[t] + values[t + step];
        __syncwarp();
        values[t] = sum;
        __syncwarp();
    }
    if (t == 0) y[0] = values[0];
}
