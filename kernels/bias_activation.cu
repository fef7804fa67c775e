// sm_70
// A bias for each channel, then an activation, in one go through memory; x (N, C, L), b (C,):
//
//   forward   y  = act(z),        z = x + b_c
//   grad      dx = grad act'(z),    db_c = sum of dx over n and l
//
// `activation` is a number of the list below. `splits` blocks share a channel, each takes a range of
// its N L elements. A thread reads one a step (the gradient two: grad and x), its neighbour the next
// one, and writes one; the bias it reads once. In the gradient a block also adds up its dx: these sums
// go to `partial` (splits, C), where they are added in order afterwards, so that the same input gives
// the same bits. Expected bottleneck: global memory. What fusing saves: z would be written and read
// again, and dx read again for db.
#include "common.cuh"

#define THREADS 256

#define LEAKY_SLOPE scalar(0.01)  // leaky_relu's default

enum Activation { NONE, RELU, LEAKY_RELU, SILU, GELU, SIGMOID };

__device__ __forceinline__ scalar sigmoid(scalar z) { return 1 / (1 + exp(-z)); }

// The probability that a standard normal variable lies below z, (1 + erf(z / sqrt 2)) / 2, to the
// last digit also where it is small.
__device__ __forceinline__ scalar probability_below(scalar z) {
    return erfc(z * scalar(-0.70710678118654752)) / 2;
}

// The density of that variable at z: e^(-z^2 / 2) / sqrt(2 pi).
__device__ __forceinline__ scalar density(scalar z) {
    return exp(-z * z / 2) * scalar(0.39894228040143268);
}

__device__ __forceinline__ scalar activate(scalar z, int activation) {
    switch (activation) {
        case RELU: return z <= 0 ? scalar(0) : z;  // so written, a NaN stays
        case LEAKY_RELU: return z > 0 ? z : LEAKY_SLOPE * z;
        case SILU: return z * sigmoid(z);
        case GELU: return z * probability_below(z);
        case SIGMOID: return sigmoid(z);
        default: return z;
    }
}

__device__ __forceinline__ scalar derivative(scalar z, int activation) {
    switch (activation) {
        case RELU: return z <= 0 ? scalar(0) : scalar(1);
        case LEAKY_RELU: return z > 0 ? scalar(1) : LEAKY_SLOPE;
        case SILU: return sigmoid(z) * (1 + z * sigmoid(-z));
        case GELU: return probability_below(z) + z * density(z);
        case SIGMOID: return sigmoid(z) * sigmoid(-z);  // sigmoid(-z) = 1 - sigmoid(z)
        default: return 1;
    }
}

// launch: grid=(C, splits) block=(THREADS)  in: x b  out: y
// sample: x=(2, 3, 700) b=(3) y=(2, 3, 700) N=2 C=3 L=700 splits=4 activation=1
// sample: scalar=double x=(3, 2, 70) b=(2) y=(3, 2, 70) N=3 C=2 L=70 splits=1 activation=4
extern "C" __global__ void __launch_bounds__(THREADS)
bias_activation_forward(const scalar* __restrict__ x, const scalar* __restrict__ b,
                        scalar* __restrict__ y, int N, int C, int L, int activation, int splits) {
    const int c = blockIdx.x;
    const Range range = share_of(N * L, blockIdx.y, splits);
    const scalar bias = b[c];
    for (int e = range.first + threadIdx.x; e < range.end; e += THREADS) {
        const long long i = in_channel(e, c, C, L);
        y[i] = activate(x[i] + bias, activation);
    }
}

// launch: grid=(C, splits) block=(THREADS)  in: grad x b  out: dx partial
// sample: grad=(2, 3, 700) x=(2, 3, 700) b=(3) dx=(2, 3, 700) partial=(4, 3) N=2 C=3 L=700 splits=4 activation=3
// sample: scalar=double grad=(3, 2, 70) x=(3, 2, 70) b=(2) dx=(3, 2, 70) partial=(1, 2) N=3 C=2 L=70 splits=1 activation=5
extern "C" __global__ void __launch_bounds__(THREADS)
bias_activation_grad(const scalar* __restrict__ grad, const scalar* __restrict__ x,
                     const scalar* __restrict__ b, scalar* __restrict__ dx,
                     scalar* __restrict__ partial, int N, int C, int L, int activation,
                     int splits) {
    __shared__ scalar scratch[WARP];
    const int c = blockIdx.x;
    const Range range = share_of(N * L, blockIdx.y, splits);
    const scalar bias = b[c];

    scalar db = 0;
    for (int e = range.first + threadIdx.x; e < range.end; e += THREADS) {
        const long long i = in_channel(e, c, C, L);
        const scalar dz = grad[i] * derivative(x[i] + bias, activation);
        dx[i] = dz;
        db += dz;
    }
    db = block_sum(db, scratch);
    if (threadIdx.x == 0) partial[(long long)blockIdx.y * C + c] = db;
}
