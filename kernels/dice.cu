// sm_70
// What Dice and Tversky losses are made of, for each class of each image: the overlap TP = sum p t, the
// false positives FP = sum p (1 - t), and the class's size, sum t; p (N, C, P) are probabilities, t is 1
// where the label is the class. Pixels with the label ignore_index are in no sum.
//
//   overlap_sums   `splits` blocks share a row (n, c), each sums a range of its pixels into `partial`
//                  (2, splits, N, C): TP, FP, and `sizes` (splits, N, C); they are added in order
//                  afterwards, so that the same input gives the same bits
//   overlap_grad   dp = dTP where the pixel is of the class, else dFP, both in `grad` (2, N, C); a thread
//                  takes an element
//
// A thread reads a probability and a label a step, its neighbour the next ones, and writes nothing (the
// gradient: reads a label and one of dTP, dFP, writes one). So labels are read once for every class, from
// the cache if the blocks of one range, neighbours in the grid, run together. Expected bottleneck: global
// memory.
#include "common.cuh"

#define THREADS 256

// launch: grid=(N * C, splits) block=(THREADS)  in: p labels  out: partial sizes
// sample: p=(2, 3, 900) labels=(2, 900)%3 partial=(2, 2, 2, 3) sizes=(2, 2, 3) N=2 C=3 P=900 splits=2 ignore_index=1
extern "C" __global__ void __launch_bounds__(THREADS)
overlap_sums(const scalar* __restrict__ p, const long long* __restrict__ labels,
             scalar* __restrict__ partial, int* __restrict__ sizes, int N, int C, int P,
             long long ignore_index, int splits) {
    __shared__ scalar scratch[WARP];
    __shared__ int counts[WARP];
    const int row = blockIdx.x, n = row / C, c = row % C;
    const Range range = share_of(P, blockIdx.y, splits);

    scalar tp = 0, fp = 0;
    int size = 0;
    for (int i = range.first + threadIdx.x; i < range.end; i += THREADS) {
        long long label = labels[(long long)n * P + i];
        if (label == ignore_index) continue;
        scalar probability = p[(long long)row * P + i];
        if (label == c) {
            tp += probability;
            size++;
        } else {
            fp += probability;
        }
    }
    tp = block_sum(tp, scratch);
    fp = block_sum(fp, scratch);
    size = block_sum(size, counts);
    if (threadIdx.x == 0) {
        long long i = (long long)blockIdx.y * N * C + row;
        partial[i] = tp;
        partial[(long long)splits * N * C + i] = fp;
        sizes[i] = size;
    }
}

// launch: grid=(ceil_div(N * C * P, THREADS)) block=(THREADS)  in: grad labels  out: dp
// sample: grad=(2, 2, 3) labels=(2, 900)%3 dp=(2, 3, 900) N=2 C=3 P=900 ignore_index=1
extern "C" __global__ void __launch_bounds__(THREADS)
overlap_grad(const scalar* __restrict__ grad, const long long* __restrict__ labels,
             scalar* __restrict__ dp, int N, int C, int P, long long ignore_index) {
    const long long i = global_index();
    if (i >= (long long)N * C * P) return;
    const int row = (int)(i / P), n = row / C, c = row % C;
    const long long label = labels[(long long)n * P + i % P];
    const scalar slope = grad[label == c ? row : N * C + row];
    dp[i] = label == ignore_index ? scalar(0) : slope;
}
