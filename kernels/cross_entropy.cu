// sm_70
// Cross-entropy of scores x (N, C, P) and a labelling, with its log-softmax inside: the probabilities
// never go to memory. For P pixels an image,
//
//   forward      loss = -sum over c of q_c log p_c,   p = softmax(x) over the classes
//   grad_input   dx_c = (p_c sum of q - q_c) grad
//   grad_target  dt_c = -w_c (1 - s) log p_c grad    (of class probabilities t)
//
// with q_c = w_c ((1 - s) t_c + s / C), s the label smoothing, t_c = [c = label] for class indices. A
// pixel with the label ignore_index has no loss and no gradient.
//
// A thread takes a pixel, a block 256 neighbours, so that a warp reads neighbouring pixels of each class.
// A thread reads its C scores twice (top, sum), and a third time in the gradients, and where every class
// has a weight q_c; it writes one loss or C gradients. All but the first read find the scores in the cache
// for a few dozen classes. Expected bottleneck: global memory.
#include "common.cuh"

#define THREADS 256

// The log-softmax of one pixel's scores x[c * P]: log p_c = (x_c - top) - log_sum. In this order: the
// sum top + log_sum would lose the digits of log_sum where the scores are large.
struct LogSoftmax {
    const scalar* x;
    int P;
    scalar top, log_sum;

    __device__ LogSoftmax(const scalar* x, int C, int P) : x(x), P(P), top(minus_infinity()) {
        for (int c = 0; c < C; c++) {
            scalar value = x[(long long)c * P];
            top = value > top ? value : top;
        }
        scalar sum = 0;
        for (int c = 0; c < C; c++) sum += exp(x[(long long)c * P] - top);
        log_sum = log(sum);
    }
    __device__ scalar operator()(long long c) const { return x[c * P] - top - log_sum; }
};

// Where the scores of a pixel begin: class 0; class c lies c P further on.
__device__ __forceinline__ long long first_score(long long pixel, int C, int P) {
    return pixel / P * C * P + pixel % P;
}

// The part of q_c that every class may have; with class indices the label's own comes on top.
__device__ __forceinline__ scalar spread_weight(const scalar* t, const scalar* w, int c, int C,
                                                int P, scalar smoothing) {
    scalar probability = t ? (1 - smoothing) * t[(long long)c * P] : scalar(0);
    return w[c] * (probability + smoothing / C);
}

// Of labels and probabilities one is null.
// launch: grid=(ceil_div(N * P, THREADS)) block=(THREADS)  in: x labels probabilities w  out: loss
// sample: x=(2, 5, 150) labels=(2, 150)%5 probabilities=null w=(5) loss=(2, 150) N=2 C=5 P=150 ignore_index=1 smoothing=0.1
extern "C" __global__ void __launch_bounds__(THREADS)
cross_entropy_forward(const scalar* __restrict__ x, const long long* __restrict__ labels,
                      const scalar* __restrict__ probabilities, const scalar* __restrict__ w,
                      scalar* __restrict__ loss, int N, int C, int P, long long ignore_index,
                      scalar smoothing) {
    const long long pixel = global_index();
    if (pixel >= (long long)N * P) return;
    const long long label = labels ? labels[pixel] : -1;
    if (labels && label == ignore_index) {
        loss[pixel] = 0;
        return;
    }
    const long long first = first_score(pixel, C, P);
    const LogSoftmax log_p(x + first, C, P);
    const scalar* t = probabilities ? probabilities + first : nullptr;

    scalar value = 0;
    if (t || smoothing > 0)
        for (int c = 0; c < C; c++)
            value -= spread_weight(t, w, c, C, P, smoothing) * log_p(c);
    if (labels) value -= (1 - smoothing) * w[label] * log_p(label);
    loss[pixel] = value;
}

// launch: grid=(ceil_div(N * P, THREADS)) block=(THREADS)  in: grad x labels probabilities w  out: dx
// sample: grad=(2, 150) x=(2, 5, 150) labels=(2, 150)%5 probabilities=null w=(5) dx=(2, 5, 150) N=2 C=5 P=150 ignore_index=1 smoothing=0.1
extern "C" __global__ void __launch_bounds__(THREADS)
cross_entropy_grad_input(const scalar* __restrict__ grad, const scalar* __restrict__ x,
                         const long long* __restrict__ labels,
                         const scalar* __restrict__ probabilities, const scalar* __restrict__ w,
                         scalar* __restrict__ dx, int N, int C, int P, long long ignore_index,
                         scalar smoothing) {
    const long long pixel = global_index();
    if (pixel >= (long long)N * P) return;
    const long long first = first_score(pixel, C, P);
    const long long label = labels ? labels[pixel] : -1;
    if (labels && label == ignore_index) {
        for (int c = 0; c < C; c++) dx[first + (long long)c * P] = 0;
        return;
    }
    const LogSoftmax log_p(x + first, C, P);
    const scalar* t = probabilities ? probabilities + first : nullptr;
    const scalar on_label = labels ? (1 - smoothing) * w[label] : scalar(0);

    const scalar g = grad[pixel];
    scalar total = on_label;
    if (t || smoothing > 0)
        for (int c = 0; c < C; c++) total += spread_weight(t, w, c, C, P, smoothing);
    for (int c = 0; c < C; c++) {
        scalar q = spread_weight(t, w, c, C, P, smoothing) + (c == label ? on_label : scalar(0));
        dx[first + (long long)c * P] = (exp(log_p(c)) * total - q) * g;
    }
}

// launch: grid=(ceil_div(N * P, THREADS)) block=(THREADS)  in: grad x w  out: dt
// sample: grad=(2, 150) x=(2, 5, 150) w=(5) dt=(2, 5, 150) N=2 C=5 P=150 smoothing=0.1
extern "C" __global__ void __launch_bounds__(THREADS)
cross_entropy_grad_target(const scalar* __restrict__ grad, const scalar* __restrict__ x,
                          const scalar* __restrict__ w, scalar* __restrict__ dt, int N, int C,
                          int P, scalar smoothing) {
    const long long pixel = global_index();
    if (pixel >= (long long)N * P) return;
    const long long first = first_score(pixel, C, P);
    const LogSoftmax log_p(x + first, C, P);
    const scalar g = grad[pixel];
    for (int c = 0; c < C; c++)
        dt[first + (long long)c * P] = (smoothing - 1) * w[c] * log_p(c) * g;
}
