// sm_70
// Confusion matrix: entry [t, p] counts the pixels of true class t that were predicted as class p.
//
// Threads walk over the pixels, all threads of the grid side by side; a thread reads two labels a step.
// A block counts in shared memory and adds its counts to the matrix at the end, so that few additions
// meet in global memory; with more classes than fit there (`bins` = 0) it counts in the matrix itself.
// Atomic additions of integers: their order changes no bit. Expected bottleneck: global memory; where
// one class covers most of the image, the additions to its entry, which wait for each other.
#include "common.cuh"

#define THREADS 256
#define PIXELS 16  // a thread's, at most: enough to make up for clearing and adding the bins

// launch: grid=(ceil_div(n, THREADS * PIXELS)) block=(THREADS) shared=bins * sizeof(int)
//         in: prediction target  inout: matrix
// sample: prediction=(9000)%3 target=(9000)%3 matrix=(3, 3) n=9000 classes=3 bins=9 ignore_index=255
// sample: prediction=(9000)%3 target=(9000)%3 matrix=(3, 3) n=9000 classes=3 bins=0 ignore_index=2
extern "C" __global__ void __launch_bounds__(THREADS)
confusion_matrix(const long long* __restrict__ prediction, const long long* __restrict__ target,
                 unsigned long long* __restrict__ matrix, long long n, int classes, int bins,
                 long long ignore_index) {
    extern __shared__ int counts[];
    for (int b = threadIdx.x; b < bins; b += THREADS) counts[b] = 0;
    __syncthreads();  // all are zero

    for (long long i = global_index(); i < n; i += (long long)gridDim.x * THREADS) {
        const long long label = target[i];
        if (label == ignore_index) continue;
        int entry = (int)(label * classes + prediction[i]);
        if (bins) atomicAdd(&counts[entry], 1);
        else atomicAdd(&matrix[entry], 1ULL);
    }
    __syncthreads();  // all have counted

    for (int b = threadIdx.x; b < bins; b += THREADS)
        if (counts[b]) atomicAdd(&matrix[b], (unsigned long long)counts[b]);
}
