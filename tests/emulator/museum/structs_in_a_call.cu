// racecheck: best: one reads, one writes
// The place of the largest value: structs travel by value, and the last barrier is missing.
#define BLOCK 64

struct Best {
    float value;
    int place;
};
__noinline__ __device__ Best larger(Best a, Best b) {
    if (a.value == b.value) return a.place < b.place ? a : b;
    return a.value > b.value ? a : b;
}

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK) y=(1)
__global__ void broken(const float* x, int* y) {
    __shared__ Best best[BLOCK];
    const int t = threadIdx.x;
    best[t] = {x[t], t};
    __syncthreads();
    for (int half = BLOCK / 2; half > 0; half /= 2)
        if (t < half)
            best[t] = larger(best[t], best[t + half]);  // <- here
    if (t == 0) y[0] = best[0].place;
}

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK) y=(1)
__global__ void fixed(const float* x, int* y) {
    __shared__ Best best[BLOCK];
    const int t = threadIdx.x;
    best[t] = {x[t], t};
    __syncthreads();
    for (int half = BLOCK / 2; half > 0; half /= 2) {
        if (t < half) best[t] = larger(best[t], best[t + half]);
        __syncthreads();
    }
    if (t == 0) y[0] = best[0].place;
}
