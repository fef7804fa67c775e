// synccheck: : names lanes that have ended and never arrive
// Half of the warp shuffles under a mask that names all of it: the others' values are not there.
// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(1)
__global__ void broken(const float* x, float* y) {
    if (threadIdx.x >= 16) return;
    float sum = x[threadIdx.x] + x[threadIdx.x + 16];
    for (int step = 8; step > 0; step /= 2)
        sum += __shfl_xor_sync(0xffffffff, sum, step);  // <- here
    if (threadIdx.x == 0) y[0] = sum;
}

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(1)
__global__ void fixed(const float* x, float* y) {
    if (threadIdx.x >= 16) return;
    float sum = x[threadIdx.x] + x[threadIdx.x + 16];
    for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(0x0000ffff, sum, step);
    if (threadIdx.x == 0) y[0] = sum;
}
