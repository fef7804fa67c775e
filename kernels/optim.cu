// sm_70
// One step of SGD or Adam for one parameter, in place.
//
//   sgd_update    d = grad + weight_decay p;  v = momentum v + grad_weight d
//                 p -= lr v                (Nesterov: lr (d + momentum v); without momentum: lr d)
//   adam_update   p *= shrink;  g = grad + l2 p;  m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2
//                 p -= step_size m / (sqrt(v) root_correction + eps)      (AMSGrad: of the largest v)
//
// A thread takes an element, a block 256 neighbours: it reads and writes it in the parameter and in each
// state array, and reads the gradient; done step by step, each operation would go through memory.
// Expected bottleneck: global memory.
#include "common.cuh"

#define THREADS 256

// velocity is null without momentum.
// launch: grid=(ceil_div(n, THREADS)) block=(THREADS)  in: grad  inout: p velocity
// sample: p=(1000) grad=(1000) velocity=(1000) lr=0.1 momentum=0.9 grad_weight=0.5 weight_decay=0.1 nesterov=1 n=1000
// sample: p=(1000) grad=(1000) velocity=null lr=0.1 momentum=0.0 grad_weight=1.0 weight_decay=0.1 nesterov=0 n=1000
extern "C" __global__ void __launch_bounds__(THREADS)
sgd_update(scalar* __restrict__ p, const scalar* __restrict__ grad, scalar* __restrict__ velocity,
           scalar lr, scalar momentum, scalar grad_weight, scalar weight_decay, bool nesterov,
           long long n) {
    const long long i = global_index();
    if (i >= n) return;
    const scalar value = p[i];
    scalar d = grad[i] + weight_decay * value;
    if (velocity) {
        scalar v = momentum * velocity[i] + grad_weight * d;
        velocity[i] = v;
        d = nesterov ? d + momentum * v : v;
    }
    p[i] = value - lr * d;
}

// largest_v is null without AMSGrad.
// launch: grid=(ceil_div(n, THREADS)) block=(THREADS)  in: grad  inout: p m v largest_v
// sample: p=(1000) grad=(1000) m=(1000) v=(1000) largest_v=(1000) one_less_beta1=0.1 beta2=0.0 one_less_beta2=1.0 step_size=0.01 root_correction=2.0 eps=0.1 shrink=0.9 l2=0.0 n=1000
// sample: p=(1000) grad=(1000) m=(1000) v=(1000) largest_v=null one_less_beta1=0.1 beta2=0.0 one_less_beta2=1.0 step_size=0.01 root_correction=2.0 eps=0.1 shrink=0.9 l2=0.0 n=1000
extern "C" __global__ void __launch_bounds__(THREADS)
adam_update(scalar* __restrict__ p, const scalar* __restrict__ grad, scalar* __restrict__ m,
            scalar* __restrict__ v, scalar* __restrict__ largest_v, scalar one_less_beta1,
            scalar beta2, scalar one_less_beta2, scalar step_size, scalar root_correction,
            scalar eps, scalar shrink, scalar l2, long long n) {
    const long long i = global_index();
    if (i >= n) return;
    scalar value = p[i] * shrink;
    scalar g = grad[i] + l2 * value;
    scalar mean = m[i];
    mean += one_less_beta1 * (g - mean);
    scalar square = beta2 * v[i] + one_less_beta2 * (g * g);
    m[i] = mean;
    v[i] = square;
    if (largest_v) {
        const scalar largest = largest_v[i];
        if (square <= largest) square = largest;
        else largest_v[i] = square;  // a NaN, too
    }
    p[i] = value - step_size * (mean / (sqrt(square) * root_correction + eps));
}
