// memcheck: left: past the end of 32 elements
// Two shared arrays side by side: writing past the first lands in the second, and nothing crashes.
#define HALF 32

// launch: grid=(1) block=(2 * HALF)  in: x  out: y
// sample: x=(2 * HALF) y=(2 * HALF)
__global__ void broken(const float* x, float* y) {
    __shared__ float left[HALF], right[HALF];
    int t = threadIdx.x;
    if (t < HALF) right[t] = 0;
    left[t] = x[t];  // <- here
    __syncthreads();
    y[t] = left[t % HALF] + right[t % HALF];
}

// launch: grid=(1) block=(2 * HALF)  in: x  out: y
// sample: x=(2 * HALF) y=(2 * HALF)
__global__ void fixed(const float* x, float* y) {
    __shared__ float left[HALF], right[HALF];
    int t = threadIdx.x;
    if (t < HALF) left[t] = x[t];
    else right[t - HALF] = x[t];
    __syncthreads();
    y[t] = left[t % HALF] + right[t % HALF];
}
