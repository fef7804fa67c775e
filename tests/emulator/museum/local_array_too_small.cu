// memcheck: : index 4 into an array that is declared as float[4]
// Five taps into four registers: on a GPU, the fifth lands anywhere.
// launch: grid=(1) block=(32)  in: x  out: y
// sample: taps=5 x=(36) y=(32)
__global__ void broken(const float* x, float* y, int taps) {
    float window[4];
    for (int k = 0; k < taps; ++k)
        window[k] = x[threadIdx.x + k];  // <- here
    y[threadIdx.x] = window[0] - window[3];
}

// launch: grid=(1) block=(32)  in: x  out: y
// sample: taps=5 x=(36) y=(32)
__global__ void fixed(const float* x, float* y, int taps) {
    float window[5];
    for (int k = 0; k < taps; ++k) window[k] = x[threadIdx.x + k];
    y[threadIdx.x] = window[0] - window[3];
}
