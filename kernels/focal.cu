// sm_70
// Focal loss as a function of the cross-entropy ce = -log p of a pixel, p the true class's probability:
//
//   forward      y   = ce (1 - p)^gamma
//   grad_input   dce = grad (1 - p)^gamma (1 + gamma p ce / (1 - p))
//
// A thread takes an element, a block 256 neighbours: it reads one (the gradient two) and writes one.
// Expected bottleneck: global memory. What fusing saves: each of the half dozen steps would go through
// memory on its own.
#include "common.cuh"

#define THREADS 256

// launch: grid=(ceil_div(n, THREADS)) block=(THREADS)  in: ce  out: y
// sample: ce=(1000) y=(1000) gamma=2.0 n=1000
extern "C" __global__ void __launch_bounds__(THREADS)
focal_forward(const scalar* __restrict__ ce, scalar* __restrict__ y, scalar gamma, long long n) {
    const long long i = global_index();
    if (i >= n) return;
    const scalar loss = ce[i];
    y[i] = loss * pow(-expm1(-loss), gamma);
}

// launch: grid=(ceil_div(n, THREADS)) block=(THREADS)  in: grad ce  out: dce
// sample: grad=(1000) ce=(1000) dce=(1000) gamma=2.0 n=1000
extern "C" __global__ void __launch_bounds__(THREADS)
focal_grad_input(const scalar* __restrict__ grad, const scalar* __restrict__ ce,
                 scalar* __restrict__ dce, scalar gamma, long long n) {
    const long long i = global_index();
    if (i >= n) return;
    const scalar loss = ce[i];
    scalar miss = -expm1(-loss);                           // 1 - p, to the last digit also near 0
    scalar relative = miss > 0 ? loss / miss : scalar(1);  // its limit at ce = 0
    dce[i] = grad[i] * (pow(miss, gamma) * (1 + gamma * (1 - miss) * relative));
}
