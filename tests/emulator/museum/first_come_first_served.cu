// order: y: with threads and blocks in order
// Each thread takes the next free place: no race, but the result's order is a matter of luck.
// launch: grid=(1) block=(64)  in: x  inout: count y
// sample: x=(64)%100 count=(1)%1 y=(64)
__global__ void broken(const int* x, int* count, int* y) {  // <- here
    int place = atomicAdd(count, 1);
    y[place] = x[threadIdx.x];
}

// launch: grid=(1) block=(64)  in: x  inout: count y
// sample: x=(64)%100 count=(1)%1 y=(64)
__global__ void fixed(const int* x, int* count, int* y) {
    atomicAdd(count, 1);
    y[threadIdx.x] = x[threadIdx.x];
}
