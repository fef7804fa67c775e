// What a kernel, compiled for the CPU, needs of the emulator's runtime. The kernel's translation unit
// sees only these declarations; block.cpp and its companions define them.
#pragma once
#include <stddef.h>

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};

namespace minseg {

constexpr int WARP_SIZE = 32;
constexpr unsigned FULL_WARP = 0xffffffffu;

// Where the running emulated thread stands. One for each worker of the CPU; the scheduler sets it at
// every switch.
struct Position {
    uint3 thread, block, block_size, grid_size;
};
extern __thread Position here;

// What the lanes of a warp can meet in. They may come to the same meeting on different lines: all that
// PTX asks is that the lanes of a mask execute the same instruction with the same qualifiers. To the
// others (barriers of the block, warp matrices) they have to come in one place.
enum class Meeting : unsigned char {
    IN_ONE_PLACE, AT_SYNCWARP, AT_SHUFFLE, AT_SHUFFLE_UP, AT_SHUFFLE_DOWN, AT_SHUFFLE_XOR,
    AT_BALLOT, AT_ANY, AT_ALL, AT_MATCH_ANY, AT_MATCH_ALL, AT_REDUCE_ADD, AT_REDUCE_MIN,
    AT_REDUCE_MAX, AT_REDUCE_AND, AT_REDUCE_OR, AT_REDUCE_XOR
};

// A place in the kernel's source.
struct Site {
    const char* file;
    int line;
    Meeting meeting = Meeting::IN_ONE_PLACE;
    unsigned char words = 0;  // of 32 bits, of what each lane publishes in the meeting
};

enum class Vote { COUNT, AND, OR };

void block_barrier(Site);                        // __syncthreads()
int block_vote(Site, Vote, int predicate);       // __syncthreads_count(), _and(), _or()
void warp_barrier(Site, unsigned mask);          // __syncwarp(): also orders memory
unsigned converged_lanes(Site);                  // __activemask(): those that come here together
void fence();                                    // __threadfence()
void fence_block();                              // __threadfence_block()
void missing_lane(Site, int lane);               // one that a shuffle reads from takes no part
[[noreturn]] void wrong_width(Site, int width);  // of a shuffle: no power of two up to 32

// Shuffles, votes and warp matrices: every lane of `mask` publishes a pointer to its own value and
// waits for the others; then it reads what it wants of the 32 pointers (null: that lane is not
// here), and leaves.
void* const* warp_meet(Site, unsigned mask, const void* mine);
void warp_leave(unsigned mask);

// Shared memory. A declaration `__shared__ float tile[16][16];` becomes a call of shared(), so that
// the sanitizer knows its name and bounds.
void* dynamic_shared(const char* name, int line, size_t item);

[[noreturn]] void fail_assertion(Site, const char* expression);
[[noreturn]] void trap();

// Asynchronous copies to shared memory: they land when the thread waits for them, not earlier, so
// that a forgotten wait shows.
void copy_async(void* to, const void* from, size_t bytes, size_t zeros);
void copy_commit();
void copy_wait(unsigned groups_left);

#ifdef MINSEG_WATCH  // the instrumented build: every access is seen

// `sizes` are those of an array `T name[sizes[0]][sizes[1]]...`, 0 where it has fewer.
constexpr int MAX_RANK = 6;
void* shared_variable(const void* key, const char* name, int line, size_t item, size_t bytes,
                      const size_t sizes[MAX_RANK], size_t alignment);
void watch_read(const void* p, size_t bytes, void* code);
void watch_write(const void* p, size_t bytes, void* code);
// Among whose threads an access is atomic. A volatile read is PTX's relaxed one: it does not race with
// an atomic. (Nor does a volatile write, by PTX; but there a forgotten order is the likelier reading.)
enum class Scope : unsigned char { NONE, VOLATILE, BLOCK, GPU };
void watch_atomic(const void* p, size_t bytes, void* code, Scope);
void watch_swap(const void* p, size_t bytes, void* code, Scope);  // atomicCAS
void watch_copy(const void* p, size_t bytes, void* code);     // to here, asynchronously, from now on
void watch_landing(const void* p, size_t bytes, void* code);  // until now
void watch_matrix(const void* p, size_t stride, void* code);  // of WMMA; `stride` in bytes
void watch_wrong_copy(const void* p, size_t bytes, void* code);  // asynchronous, of such a size
// Not inlined and without side effects: the instrumented code must not see `here` itself.
__attribute__((const)) uint3 thread_index();
__attribute__((const)) uint3 block_index();
__attribute__((const)) uint3 block_size();
__attribute__((const)) uint3 grid_size();

#else  // the fast build

inline uint3 thread_index() { return here.thread; }
inline uint3 block_index() { return here.block; }
inline uint3 block_size() { return here.block_size; }
inline uint3 grid_size() { return here.grid_size; }

#endif

// A thread's place in its block, counted as CUDA counts: x runs fastest.
inline int linear_thread() {
    const uint3 thread = thread_index(), size = block_size();
    return (int)((thread.z * size.y + thread.y) * size.x + thread.x);
}
inline int lane() { return linear_thread() % WARP_SIZE; }
}  // namespace minseg
