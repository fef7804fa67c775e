// assert: : assertion `label < 4` failed
// The kernel itself says what it counts on, and the data break it.
#include <assert.h>

// launch: grid=(1) block=(64)  in: labels  out: y
// sample: labels=(64)%6 y=(64)
__global__ void broken(const int* labels, float* y) {
    int label = labels[threadIdx.x];
    assert(label < 4);  // <- here
    y[threadIdx.x] = label;
}

// launch: grid=(1) block=(64)  in: labels  out: y
// sample: labels=(64)%4 y=(64)
__global__ void fixed(const int* labels, float* y) {
    int label = labels[threadIdx.x];
    assert(label < 4);
    y[threadIdx.x] = label;
}
