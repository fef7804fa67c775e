// sm_70
// Normalisation: batch, instance, group and layer norm as one computation on x (B, G, K, L), with
// statistics for each of G groups over B, K and L, and a weight for every (g, k). minseg/ops/norm.py
// says which layer is which view.
//
//   norm_moments     sums of d = x - x_0 and of d^2 over a group, x_0 its first element   (one pass)
//   norm_finish      mean = x_0 + sum d / m,   var = (sum d^2 - (sum d)^2 / m) / m
//   norm_forward     y = xhat weight + bias,   xhat = (x - mean) r,   r = 1 / sqrt(var + eps)
//   norm_grad_sums   dw = sum of grad xhat, db = sum of grad, over B and L, for each (g, k)
//   norm_grad_input  dx = r (grad weight - average - xhat slope), with average and slope the group's
//                    means of grad weight and of grad weight xhat
//
// Why the shift x_0: mean(x^2) - mean(x)^2 loses every digit when the mean is large. x_0 is one of the
// group's own values, so (x_0 - mean)^2 <= m var, and in double the variance keeps a relative error
// of the order of eps m ~ 1e-16 m even if x_0 is the worst of outliers: it cannot fall below 0, and is 0
// where all values are equal, d being 0 there.
//
// `splits` blocks share a group (norm_grad_sums: a row (g, k)), each with `threads` threads and a
// contiguous range of its elements. A thread reads one element of each input array a step, its
// neighbour the next one, and writes one of the output, or nothing: the sums of a block go to `partial`,
// where they are added in order afterwards: those of the moments by norm_finish, a thread a group.
// Expected bottleneck: global memory; the moments on GPUs with few double units (GeForce, T4) these.
#include "common.cuh"

#define MAX_THREADS 256

// x - mean with a mean in double: less the scalar next to it first, then the rest. A mean of 1000
// rounded to float would move all of a group by 3e-5.
struct Centred {
    scalar near, rest;
    __device__ Centred(double mean) : near((scalar)mean), rest((scalar)(mean - (scalar)mean)) {}
    __device__ scalar operator()(scalar x) const { return x - near - rest; }
};

__device__ __forceinline__ scalar inverse_deviation(double var, double eps) {
    return (scalar)(1 / sqrt(var + eps));
}

// `partial` is (2, splits, G): the sums of d, and those of d^2.
// launch: grid=(G, splits) block=(threads)  in: x  out: partial
// sample: x=(2, 3, 700) partial=(2, 4, 3) B=2 G=3 KL=700 splits=4 threads=64
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
norm_moments(const scalar* __restrict__ x, double* __restrict__ partial, int B, int G, int KL,
             int splits, int threads) {
    __shared__ double scratch[WARP];
    const int g = blockIdx.x;
    const Range range = share_of(B * KL, blockIdx.y, splits);
    const double shift = x[(long long)g * KL];

    double sum = 0, squares = 0;
    for (int e = range.first + threadIdx.x; e < range.end; e += threads) {
        double d = x[in_channel(e, g, G, KL)] - shift;
        sum += d;
        squares += d * d;
    }
    sum = block_sum(sum, scratch);
    squares = block_sum(squares, scratch);
    if (threadIdx.x == 0) {
        partial[(long long)blockIdx.y * G + g] = sum;
        partial[((long long)splits + blockIdx.y) * G + g] = squares;
    }
}

// launch: grid=(ceil_div(G, MAX_THREADS)) block=(MAX_THREADS)  in: x partial  out: mean var
// sample: x=(2, 300, 7) partial=(2, 4, 300) mean=(300) var=(300) B=2 G=300 KL=7 splits=4
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
norm_finish(const scalar* __restrict__ x, const double* __restrict__ partial,
            double* __restrict__ mean, double* __restrict__ var, int B, int G, int KL, int splits) {
    const int g = blockIdx.x * MAX_THREADS + threadIdx.x;
    if (g >= G) return;
    double sum = 0, squares = 0, m = (double)B * KL;
    for (int s = 0; s < splits; s++) {
        sum += partial[(long long)s * G + g];
        squares += partial[((long long)splits + s) * G + g];
    }
    mean[g] = x[(long long)g * KL] + sum / m;
    var[g] = (squares - sum * sum / m) / m;
}

// launch: grid=(G, splits) block=(threads)  in: x mean var weight bias  out: y
// sample: x=(2, 3, 2, 70) mean=(3) var=(3) weight=(3, 2) bias=(3, 2) y=(2, 3, 2, 70) B=2 G=3 K=2 L=70 eps=9.0 splits=2 threads=64
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
norm_forward(const scalar* __restrict__ x, const double* __restrict__ mean,
             const double* __restrict__ var, const scalar* __restrict__ weight,
             const scalar* __restrict__ bias, scalar* __restrict__ y, int B, int G, int K, int L,
             double eps, int splits, int threads) {
    const int g = blockIdx.x;
    const Range range = share_of(B * K * L, blockIdx.y, splits);
    const Centred centred(mean[g]);
    const scalar r = inverse_deviation(var[g], eps);
    for (int e = range.first + threadIdx.x; e < range.end; e += threads) {
        long long i = in_channel(e, g, G, K * L);
        int k = g * K + e / L % K;
        scalar scale = weight ? r * weight[k] : r;
        y[i] = centred(x[i]) * scale + (bias ? bias[k] : scalar(0));
    }
}

// A block sums a range of one row (g, k), over B and L; `partial` is (2, splits, G, K): dw, db.
// launch: grid=(G * K, splits) block=(threads)  in: grad x mean var  out: partial
// sample: grad=(2, 3, 2, 70) x=(2, 3, 2, 70) mean=(3) var=(3) partial=(2, 2, 3, 2) B=2 G=3 K=2 L=70 eps=9.0 splits=2 threads=64
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
norm_grad_sums(const scalar* __restrict__ grad, const scalar* __restrict__ x,
               const double* __restrict__ mean, const double* __restrict__ var,
               scalar* __restrict__ partial, int B, int G, int K, int L, double eps, int splits,
               int threads) {
    __shared__ scalar scratch[WARP];
    const int row = blockIdx.x, rows = G * K;
    const Range range = share_of(B * L, blockIdx.y, splits);
    const Centred centred(mean[row / K]);
    const scalar r = inverse_deviation(var[row / K], eps);

    scalar dw = 0, db = 0;
    for (int e = range.first + threadIdx.x; e < range.end; e += threads) {
        long long i = in_channel(e, row, rows, L);
        const scalar g = grad[i];
        dw += g * (centred(x[i]) * r);
        db += g;
    }
    dw = block_sum(dw, scratch);
    db = block_sum(db, scratch);
    if (threadIdx.x == 0) {
        partial[(long long)blockIdx.y * rows + row] = dw;
        partial[((long long)splits + blockIdx.y) * rows + row] = db;
    }
}

// average, slope (G,): null where the statistics do not depend on x, and dx = r grad weight.
// launch: grid=(G, splits) block=(threads)  in: grad x mean var weight average slope  out: dx
// sample: grad=(2, 3, 2, 70) x=(2, 3, 2, 70) mean=(3) var=(3) weight=(3, 2) average=(3) slope=(3) dx=(2, 3, 2, 70) B=2 G=3 K=2 L=70 eps=9.0 splits=2 threads=64
extern "C" __global__ void __launch_bounds__(MAX_THREADS)
norm_grad_input(const scalar* __restrict__ grad, const scalar* __restrict__ x,
                const double* __restrict__ mean, const double* __restrict__ var,
                const scalar* __restrict__ weight, const scalar* __restrict__ average,
                const scalar* __restrict__ slope, scalar* __restrict__ dx, int B, int G, int K,
                int L, double eps, int splits, int threads) {
    const int g = blockIdx.x;
    const Range range = share_of(B * K * L, blockIdx.y, splits);
    const Centred centred(mean[g]);
    const scalar r = inverse_deviation(var[g], eps);
    for (int e = range.first + threadIdx.x; e < range.end; e += threads) {
        long long i = in_channel(e, g, G, K * L);
        scalar through = weight ? grad[i] * weight[g * K + e / L % K] : grad[i];
        if (average) through -= average[g] + centred(x[i]) * r * slope[g];
        dx[i] = r * through;
    }
}
