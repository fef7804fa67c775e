// synccheck: : a shuffle of width 12, which is no power of two up to 32
// Rows of 12 lanes each: a shuffle's width has to be a power of two.
#define ROW 12

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(2, ROW) y=(2)
__global__ void broken(const float* x, float* y) {
    const int t = threadIdx.x;
    float sum = t < 2 * ROW ? x[t] : 0;
    for (int step = 8; step > 0; step /= 2) {
        float other = __shfl_down_sync(0xffffffff, sum, step, ROW);  // <- here
        if (t % ROW + step < ROW) sum += other;
    }
    if (t < 2 * ROW && t % ROW == 0) y[t / ROW] = sum;
}

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(2, ROW) y=(2)
__global__ void fixed(const float* x, float* y) {
    const int t = threadIdx.x;  // half a warp a row, with lanes to spare
    float sum = t % 16 < ROW ? x[t / 16 * ROW + t % 16] : 0;
    for (int step = 8; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffff, sum, step, 16);
    if (t % 16 == 0) y[t / 16] = sum;
}
