// memcheck: x: no multiple of 16 bytes
// A float4 must lie on a multiple of 16 bytes; x + 1 does not.
// launch: grid=(1) block=(16)  in: x  out: y
// sample: x=(68) y=(64)
__global__ void broken(const float* x, float* y) {
    int t = threadIdx.x;
    float4 v = *reinterpret_cast<const float4*>(x + 1 + 4 * t);  // <- here
    y[4 * t] = v.x;
    y[4 * t + 1] = v.y;
    y[4 * t + 2] = v.z;
    y[4 * t + 3] = v.w;
}

// launch: grid=(1) block=(16)  in: x  out: y
// sample: x=(68) y=(64)
__global__ void fixed(const float* x, float* y) {
    int t = threadIdx.x;
    for (int k = 0; k < 4; ++k) y[4 * t + k] = x[1 + 4 * t + k];
}
