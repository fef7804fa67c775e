// synccheck: : in different operations
// The lower half of the warp shuffles, the upper half votes: no lane gets what it waits for.
// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32)%9 y=(32)
__global__ void broken(const int* x, int* y) {
    const int lane = threadIdx.x;
    if (lane < 16)
        y[lane] = __shfl_sync(0xffffffff, x[lane], lane);  // <- here
    else
        y[lane] = __ballot_sync(0xffffffff, x[lane] > 4);  // <- here
}

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32)%9 y=(32)
__global__ void fixed(const int* x, int* y) {
    const int lane = threadIdx.x;
    if (lane < 16)
        y[lane] = __shfl_sync(0x0000ffff, x[lane], lane);
    else
        y[lane] = __ballot_sync(0xffff0000, x[lane] > 4);
}
