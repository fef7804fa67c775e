// sm_70
// Scaled dot-product attention, y = softmax(scale q k^T + mask) v, and its gradients, without ever
// writing the (L, S) matrix of weights: q (N, L, E), k (N, S, E), v (N, S, D) -> y (N, L, D).
//
//   scores   s_ij = scale <q_i, k_j> + mask_ij
//   forward  y_i = sum over j of e^(s_ij - top) v_j / sum over j of e^(s_ij - top)
// with the softmax "online": a tile of 32 keys at a time, top is the largest score so far, and what was
// summed is scaled down when it grows. Kept for the gradients: lse_i = top + log(sum), so that the weights
// p_ij = e^(s_ij - lse_i) can be computed again. With grad the gradient of y, and delta_i = <grad_i, y_i>,
//   ds_ij = p_ij (<grad_i, v_j> - delta_i)
//   dv_j = sum over i of p_ij grad_i,   dq_i = scale sum over j of ds_ij k_j,
//   dk_j = scale sum over i of ds_ij q_i,   dmask_ij = ds_ij, summed over all n that share the mask
// (Dao et al., "FlashAttention", 2022, appendix B.)
//
// A block has 8 warps and computes 32 rows of the result (queries; for dk and dv keys), 64 columns of
// them; a warp 4 rows. Over tiles of 32 partners (keys; queries), a lane computes the scores of one
// partner with its warp's rows, and then sums two columns of the result over all partners. What is longer
// than 32 (E, D) or wider than 64 is taken in pieces, so any size does. The blocks of all n stand side by
// side in x: a batch of many heads or windows may have more than the 65535 that y and z can count.
// A block reads both operands of its scores once a tile, 4 elements of each a thread and piece, and the
// partners' rows; a thread writes 4 x 2 elements. Expected bottleneck: shared memory, which is read 5 times
// for 4 multiply-adds of scores, and for 8 of the result twice, with 4 shuffles that go the same way.
#include "common.cuh"

#define WARPS 8
#define ROWS 4                         // of the result, a warp
#define BLOCK_ROWS (WARPS * ROWS)      // of the result, a block: a warp's width, see tile_dots
#define COLUMNS 64                     // of the result, a block
#define EACH_COLUMNS (COLUMNS / WARP)  // of the result, a lane
#define THREADS (WARPS * WARP)

__device__ __forceinline__ int my_warp() { return threadIdx.x / WARP; }
__device__ __forceinline__ int my_lane() { return threadIdx.x % WARP; }
// Row r of this warp, in a block whose rows begin at row0.
__device__ __forceinline__ int my_row(int row0, int r) { return row0 + my_warp() * ROWS + r; }

// dot[r] = <row r of this warp in `a`, row of this lane in `b`>: a (rows_a, size), b (rows_b, size), from
// the rows first_a and first_b on; 0 for rows behind the end. All threads of the block must call it.
__device__ void tile_dots(const scalar* a, int first_a, int rows_a, const scalar* b, int first_b,
                          int rows_b, int size, scalar dot[ROWS]) {
    __shared__ scalar a_tile[BLOCK_ROWS][WARP + 1];
    __shared__ scalar b_tile[WARP][WARP + 1];  // + 1: a column of it lies in different banks
    for (int r = 0; r < ROWS; r++) dot[r] = 0;

    for (int start = 0; start < size; start += WARP) {
        const int e = start + my_lane();
        for (int row = my_warp(); row < BLOCK_ROWS; row += WARPS) {
            bool in_a = first_a + row < rows_a && e < size, in_b = first_b + row < rows_b && e < size;
            a_tile[row][my_lane()] = in_a ? a[(long long)(first_a + row) * size + e] : scalar(0);
            b_tile[row][my_lane()] = in_b ? b[(long long)(first_b + row) * size + e] : scalar(0);
        }
        __syncthreads();  // both tiles are complete
        for (int i = 0; i < WARP; i++) {
            scalar from_b = b_tile[my_lane()][i];
            for (int r = 0; r < ROWS; r++) dot[r] += a_tile[my_row(0, r)][i] * from_b;
        }
        __syncthreads();  // all have read them
    }
}

// sum[r][c] += the sum over the 32 lanes j of weight[r] of lane j times b[first_b + j][column c of this
// lane]. A weight must be 0 where row first_b + j is behind the end. All threads must call it.
__device__ void add_rows(const scalar weight[ROWS], const scalar* b, int first_b, int rows_b, int size,
                         scalar sum[ROWS][EACH_COLUMNS]) {
    __shared__ scalar tile[WARP][COLUMNS];
    const int first_column = blockIdx.y * COLUMNS;
    for (int i = threadIdx.x; i < WARP * COLUMNS; i += THREADS) {
        int row = first_b + i / COLUMNS, column = first_column + i % COLUMNS;
        bool exists = row < rows_b && column < size;
        tile[i / COLUMNS][i % COLUMNS] = exists ? b[(long long)row * size + column] : scalar(0);
    }
    __syncthreads();  // the tile is complete
    for (int j = 0; j < WARP; j++) {
        scalar from_b[EACH_COLUMNS];
        for (int c = 0; c < EACH_COLUMNS; c++) from_b[c] = tile[j][my_lane() + WARP * c];
        for (int r = 0; r < ROWS; r++) {
            scalar w = __shfl_sync(FULL_MASK, weight[r], j);
            for (int c = 0; c < EACH_COLUMNS; c++) sum[r][c] += w * from_b[c];
        }
    }
    __syncthreads();  // all have read it
}

// The block's result to y (rows, size): factor * sum[r][c].
__device__ __forceinline__ void write_rows(const scalar sum[ROWS][EACH_COLUMNS], scalar factor, scalar* y,
                                           int row0, int rows, int size) {
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < EACH_COLUMNS; c++) {
            int row = my_row(row0, r), column = blockIdx.y * COLUMNS + my_lane() + WARP * c;
            if (row < rows && column < size) y[(long long)row * size + column] = factor * sum[r][c];
        }
}

// What is added to the score of query i and key j: a mask, or -inf where the key must not be seen.
struct Mask {
    const scalar* added;  // (L, S), or null
    int L, S;
    bool causal;
    __device__ Mask(const scalar* mask, int n, int masks, int L, int S, bool causal)
        : added(mask ? mask + (long long)(n % masks) * L * S : mask), L(L), S(S), causal(causal) {}
    __device__ scalar operator()(int i, int j) const {
        if (i >= L || j >= S || (causal && j > i)) return minus_infinity();
        return added ? added[(long long)i * S + j] : scalar(0);
    }
};

// e^(score - lse), 0 for a score of -inf, also where all of a query's are.
__device__ __forceinline__ scalar weight_of(scalar score, scalar lse) {
    return score == minus_infinity() ? scalar(0) : exp(score - lse);
}

// mask (masks, L, S): one for each n, or the same for all (masks = 1).
// launch: grid=(N * ceil_div(L, BLOCK_ROWS), ceil_div(D, COLUMNS)) block=(THREADS)  in: q k v mask  out: y lse
// sample: q=(2, 40, 35) k=(2, 50, 35) v=(2, 50, 70) mask=(1, 40, 50) y=(2, 40, 70) lse=(2, 40) N=2 L=40 S=50 E=35 D=70 masks=1 scale=0.2 causal=0
// sample: q=(1, 40, 8) k=(1, 40, 8) v=(1, 40, 8) mask=null y=(1, 40, 8) lse=(1, 40) N=1 L=40 S=40 E=8 D=8 masks=1 scale=0.2 causal=1
// sample: q=(1, 40, 0) k=(1, 70, 0) v=(1, 70, 8) mask=null y=(1, 40, 8) lse=(1, 40) N=1 L=40 S=70 E=0 D=8 masks=1 scale=0.2 causal=0
extern "C" __global__ void __launch_bounds__(THREADS)
attention_forward(const scalar* __restrict__ q, const scalar* __restrict__ k,
                  const scalar* __restrict__ v, const scalar* __restrict__ mask,
                  scalar* __restrict__ y, scalar* __restrict__ lse, int N, int L, int S, int E,
                  int D, int masks, scalar scale, bool causal) {
    const int blocks = ceil_div(L, BLOCK_ROWS);  // of one n
    const int n = blockIdx.x / blocks, row0 = blockIdx.x % blocks * BLOCK_ROWS;
    const scalar *queries = q + (long long)n * L * E, *keys = k + (long long)n * S * E;
    const Mask added(mask, n, masks, L, S, causal);
    const int seen = causal ? min(S, row0 + BLOCK_ROWS) : S;  // later keys are masked for all rows

    scalar top[ROWS], total[ROWS], sum[ROWS][EACH_COLUMNS] = {};
    for (int r = 0; r < ROWS; r++) top[r] = minus_infinity(), total[r] = 0;
    for (int key0 = 0; key0 < seen; key0 += WARP) {
        scalar weight[ROWS];
        tile_dots(queries, row0, L, keys, key0, S, E, weight);
        for (int r = 0; r < ROWS; r++) {
            scalar score = weight[r] * scale + added(my_row(row0, r), key0 + my_lane());
            scalar new_top = max(top[r], warp_max(score));
            scalar shrink = weight_of(top[r], new_top);
            weight[r] = weight_of(score, new_top);
            total[r] = total[r] * shrink + warp_sum(weight[r]);
            for (int c = 0; c < EACH_COLUMNS; c++) sum[r][c] *= shrink;
            top[r] = new_top;
        }
        add_rows(weight, v + (long long)n * S * D, key0, S, D, sum);
    }

    for (int r = 0; r < ROWS; r++) {
        const int i = my_row(row0, r);
        const scalar share = total[r] == 0 ? scalar(0) : 1 / total[r];  // a query that saw no key: 0
        for (int c = 0; c < EACH_COLUMNS; c++) sum[r][c] *= share;
        if (blockIdx.y == 0 && my_lane() == 0 && i < L) lse[(long long)n * L + i] = top[r] + log(total[r]);
    }
    write_rows(sum, 1, y + (long long)n * L * D, row0, L, D);
}

// launch: grid=(N * ceil_div(L, BLOCK_ROWS), ceil_div(E, COLUMNS)) block=(THREADS)  in: grad q k v mask lse delta  out: dq
// sample: grad=(2, 40, 35) q=(2, 40, 70) k=(2, 50, 70) v=(2, 50, 35) mask=(1, 40, 50) lse=(2, 40) delta=(2, 40) dq=(2, 40, 70) N=2 L=40 S=50 E=70 D=35 masks=1 scale=0.2 causal=0
extern "C" __global__ void __launch_bounds__(THREADS)
attention_grad_query(const scalar* __restrict__ grad, const scalar* __restrict__ q,
                     const scalar* __restrict__ k, const scalar* __restrict__ v,
                     const scalar* __restrict__ mask, const scalar* __restrict__ lse,
                     const scalar* __restrict__ delta, scalar* __restrict__ dq, int N, int L, int S,
                     int E, int D, int masks, scalar scale, bool causal) {
    const int blocks = ceil_div(L, BLOCK_ROWS);  // of one n
    const int n = blockIdx.x / blocks, row0 = blockIdx.x % blocks * BLOCK_ROWS;
    const scalar *queries = q + (long long)n * L * E, *keys = k + (long long)n * S * E;
    const scalar *grads = grad + (long long)n * L * D, *values = v + (long long)n * S * D;
    const Mask added(mask, n, masks, L, S, causal);
    const int seen = causal ? min(S, row0 + BLOCK_ROWS) : S;

    scalar sum[ROWS][EACH_COLUMNS] = {};
    for (int key0 = 0; key0 < seen; key0 += WARP) {
        scalar score[ROWS], ds[ROWS];
        tile_dots(queries, row0, L, keys, key0, S, E, score);
        tile_dots(grads, row0, L, values, key0, S, D, ds);
        for (int r = 0; r < ROWS; r++) {
            const int i = my_row(row0, r);
            score[r] = score[r] * scale + added(i, key0 + my_lane());
            if (i < L) {
                const long long query = (long long)n * L + i;
                ds[r] = weight_of(score[r], lse[query]) * (ds[r] - delta[query]);
            }
        }
        add_rows(ds, keys, key0, S, E, sum);
    }
    write_rows(sum, scale, dq + (long long)n * L * E, row0, L, E);
}

// launch: grid=(N * ceil_div(S, BLOCK_ROWS), ceil_div(E, COLUMNS)) block=(THREADS)  in: grad q k v mask lse delta  out: dk
// sample: grad=(2, 40, 35) q=(2, 40, 70) k=(2, 50, 70) v=(2, 50, 35) mask=(1, 40, 50) lse=(2, 40) delta=(2, 40) dk=(2, 50, 70) N=2 L=40 S=50 E=70 D=35 masks=1 scale=0.2 causal=0
extern "C" __global__ void __launch_bounds__(THREADS)
attention_grad_key(const scalar* __restrict__ grad, const scalar* __restrict__ q,
                   const scalar* __restrict__ k, const scalar* __restrict__ v,
                   const scalar* __restrict__ mask, const scalar* __restrict__ lse,
                   const scalar* __restrict__ delta, scalar* __restrict__ dk, int N, int L, int S,
                   int E, int D, int masks, scalar scale, bool causal) {
    const int blocks = ceil_div(S, BLOCK_ROWS);  // of one n
    const int n = blockIdx.x / blocks, row0 = blockIdx.x % blocks * BLOCK_ROWS;
    const scalar *queries = q + (long long)n * L * E, *keys = k + (long long)n * S * E;
    const scalar *grads = grad + (long long)n * L * D, *values = v + (long long)n * S * D;
    const Mask added(mask, n, masks, L, S, causal);

    scalar sum[ROWS][EACH_COLUMNS] = {};
    for (int query0 = causal ? row0 : 0; query0 < L; query0 += WARP) {  // earlier ones see none of these
        const int i = query0 + my_lane();
        const scalar lse_i = i < L ? lse[(long long)n * L + i] : scalar(0);
        const scalar delta_i = i < L ? delta[(long long)n * L + i] : scalar(0);
        scalar score[ROWS], ds[ROWS];
        tile_dots(keys, row0, S, queries, query0, L, E, score);
        tile_dots(values, row0, S, grads, query0, L, D, ds);
        for (int r = 0; r < ROWS; r++) {
            score[r] = score[r] * scale + added(i, my_row(row0, r));
            ds[r] = weight_of(score[r], lse_i) * (ds[r] - delta_i);
        }
        add_rows(ds, queries, query0, L, E, sum);
    }
    write_rows(sum, scale, dk + (long long)n * S * E, row0, S, E);
}

// launch: grid=(N * ceil_div(S, BLOCK_ROWS), ceil_div(D, COLUMNS)) block=(THREADS)  in: grad q k mask lse  out: dv
// sample: grad=(2, 40, 70) q=(2, 40, 35) k=(2, 50, 35) mask=(1, 40, 50) lse=(2, 40) dv=(2, 50, 70) N=2 L=40 S=50 E=35 D=70 masks=1 scale=0.2 causal=0
extern "C" __global__ void __launch_bounds__(THREADS)
attention_grad_value(const scalar* __restrict__ grad, const scalar* __restrict__ q,
                     const scalar* __restrict__ k, const scalar* __restrict__ mask,
                     const scalar* __restrict__ lse, scalar* __restrict__ dv, int N, int L, int S,
                     int E, int D, int masks, scalar scale, bool causal) {
    const int blocks = ceil_div(S, BLOCK_ROWS);  // of one n
    const int n = blockIdx.x / blocks, row0 = blockIdx.x % blocks * BLOCK_ROWS;
    const scalar *queries = q + (long long)n * L * E, *keys = k + (long long)n * S * E;
    const Mask added(mask, n, masks, L, S, causal);

    scalar sum[ROWS][EACH_COLUMNS] = {};
    for (int query0 = causal ? row0 : 0; query0 < L; query0 += WARP) {
        const int i = query0 + my_lane();
        const scalar lse_i = i < L ? lse[(long long)n * L + i] : scalar(0);
        scalar weight[ROWS];
        tile_dots(keys, row0, S, queries, query0, L, E, weight);
        for (int r = 0; r < ROWS; r++) {
            scalar score = weight[r] * scale + added(i, my_row(row0, r));
            weight[r] = weight_of(score, lse_i);
        }
        add_rows(weight, grad + (long long)n * L * D, query0, L, D, sum);
    }
    write_rows(sum, 1, dv + (long long)n * S * D, row0, S, D);
}

// A block computes 32 x 32 elements, a lane one column of its warp's 4 rows.
// launch: grid=(masks * ceil_div(S, WARP), ceil_div(L, BLOCK_ROWS)) block=(THREADS)  in: grad q k v mask lse delta  out: dmask
// sample: grad=(2, 40, 35) q=(2, 40, 70) k=(2, 50, 70) v=(2, 50, 35) mask=(1, 40, 50) lse=(2, 40) delta=(2, 40) dmask=(1, 40, 50) N=2 L=40 S=50 E=70 D=35 masks=1 scale=0.2
extern "C" __global__ void __launch_bounds__(THREADS)
attention_grad_mask(const scalar* __restrict__ grad, const scalar* __restrict__ q,
                    const scalar* __restrict__ k, const scalar* __restrict__ v,
                    const scalar* __restrict__ mask, const scalar* __restrict__ lse,
                    const scalar* __restrict__ delta, scalar* __restrict__ dmask, int N, int L, int S,
                    int E, int D, int masks, scalar scale) {
    const int tiles = ceil_div(S, WARP), row0 = blockIdx.y * BLOCK_ROWS;
    const int m = blockIdx.x / tiles, key0 = blockIdx.x % tiles * WARP, j = key0 + my_lane();
    const Mask added(mask, m, masks, L, S, false);

    scalar sum[ROWS] = {};
    for (int n = m; n < N; n += masks) {
        scalar score[ROWS], ds[ROWS];
        tile_dots(q + (long long)n * L * E, row0, L, k + (long long)n * S * E, key0, S, E, score);
        tile_dots(grad + (long long)n * L * D, row0, L, v + (long long)n * S * D, key0, S, D, ds);
        for (int r = 0; r < ROWS; r++) {
            const int i = my_row(row0, r);
            if (i >= L) continue;
            const long long query = (long long)n * L + i;
            sum[r] += weight_of(score[r] * scale + added(i, j), lse[query]) * (ds[r] - delta[query]);
        }
    }
    for (int r = 0; r < ROWS; r++) {
        const int i = my_row(row0, r);
        if (i < L && j < S) dmask[((long long)m * L + i) * S + j] = sum[r];
    }
}
