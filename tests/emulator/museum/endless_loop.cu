// timeout: : did not finish in time
// The step goes 4, 2, 1, 0, 0, ...: halving zero never leaves `step >= 0`.
// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(32)
__global__ void broken(const float* x, float* y) {  // <- here
    float sum = 0;
    for (int step = 4; step >= 0; step /= 2) sum += x[(threadIdx.x + step) % 32];
    y[threadIdx.x] = sum;
}

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(32)
__global__ void fixed(const float* x, float* y) {
    float sum = 0;
    for (int step = 4; step > 0; step /= 2) sum += x[(threadIdx.x + step) % 32];
    y[threadIdx.x] = sum;
}
