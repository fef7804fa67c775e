// timeout: : did not finish in time
// A binary search that may keep the middle as its lower end: two neighbours are never narrowed down.
// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(32)
__global__ void broken(const float* x, int* y) {
    int low = 0, high = 32;
    while (low < high) {
        int middle = (low + high) / 2;
        if (x[middle] < 0) low = middle;  // <- here
        else high = middle;
    }
    y[threadIdx.x] = low;
}

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(32)
__global__ void fixed(const float* x, int* y) {
    int low = 0, high = 32;
    while (low < high) {
        int middle = (low + high) / 2;
        if (x[middle] < 0) low = middle + 1;
        else high = middle;
    }
    y[threadIdx.x] = low;
}
