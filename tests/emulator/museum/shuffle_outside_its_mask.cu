// synccheck: : needs the value of a lane that takes no part
// The lower half of the warp meets, and asks for a value of the upper half.
// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(16)
__global__ void broken(const float* x, float* y) {
    if (threadIdx.x >= 16) return;
    float v = x[threadIdx.x];
    y[threadIdx.x] = v - __shfl_xor_sync(0x0000ffff, v, 16);  // <- here
}

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(16)
__global__ void fixed(const float* x, float* y) {
    float v = x[threadIdx.x];
    float other = __shfl_xor_sync(0xffffffff, v, 16);
    if (threadIdx.x < 16) y[threadIdx.x] = v - other;
}
