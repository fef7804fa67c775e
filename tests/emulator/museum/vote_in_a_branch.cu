// synccheck: : names lanes that have ended and never arrive
// Half of the warp votes under a mask that names all of it; the others pass by.
// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(32)
__global__ void broken(const float* x, float* y) {
    unsigned positive = 0;
    if (threadIdx.x < 16)
        positive = __ballot_sync(0xffffffff, x[threadIdx.x] > 0);  // <- here
    y[threadIdx.x] = __popc(positive);
}

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(32)
__global__ void fixed(const float* x, float* y) {
    unsigned positive = __ballot_sync(0xffffffff, threadIdx.x < 16 && x[threadIdx.x] > 0);
    y[threadIdx.x] = threadIdx.x < 16 ? __popc(positive) : 0;
}
