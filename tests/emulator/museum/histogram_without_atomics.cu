// racecheck: counts: one reads, one writes
// counts[k]++ is a read and a write; two threads with the same label lose a count.
// launch: grid=(1) block=(64)  in: labels  inout: counts
// sample: labels=(64)%4 counts=(4)
__global__ void broken(const int* labels, int* counts) {
    counts[labels[threadIdx.x]]++;  // <- here
}

// launch: grid=(1) block=(64)  in: labels  inout: counts
// sample: labels=(64)%4 counts=(4)
__global__ void fixed(const int* labels, int* counts) {
    atomicAdd(&counts[labels[threadIdx.x]], 1);
}
