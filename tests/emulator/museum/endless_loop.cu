// timeout: : did not finish in time
// The step goes 4, 2, 1, 0, 0, ...: halving zero never leaves `step >= 0`.
// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(32)
__global__ void broken(const float* x, float* y) {
    int t = threadIdx.x;
    y[t] = 0;
    for (int step = 4; step >= 0; step /= 2) y[t] += x[(t + step) % 32];  // <- here
}

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(32)
__global__ void fixed(const float* x, float* y) {
    int t = threadIdx.x;
    y[t] = 0;
    for (int step = 4; step > 0; step /= 2) y[t] += x[(t + step) % 32];
}
