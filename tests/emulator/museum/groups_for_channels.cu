// crash: : an integer division by zero
// Fewer channels than groups: a group has none, and the thread looks for its own by dividing by 0.
// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(32) channels=4 groups=8
__global__ void broken(const float* x, float* y, int channels, int groups) {
    int per_group = channels / groups;
    int group = threadIdx.x % channels / per_group;  // <- here
    y[threadIdx.x] = x[group];
}

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(32) channels=4 groups=8
__global__ void fixed(const float* x, float* y, int channels, int groups) {
    int per_group = max(channels / groups, 1);
    int group = threadIdx.x % channels / per_group;
    y[threadIdx.x] = x[group];
}
