// Asynchronous copies (runtime.h): each thread has a queue of them, in groups that copy_commit closes.
#include <string.h>

#include <map>
#include <vector>

#include "block.h"

namespace minseg {

struct Copy {
    char* to;
    const char* from;
    size_t bytes, zeros;  // the last `zeros` bytes are set to zero, not read
    unsigned group;
    void* code;
};
struct Queue {
    std::vector<Copy> pending;
    unsigned committed = 0;  // groups closed so far
};
// Keyed by thread; only kernels with asynchronous copies pay for it.
static thread_local std::map<int, Queue> queues;

static Queue& my_queue() { return queues[linear_thread()]; }

// A block starts without copies; what an earlier one left undone never lands, as on a GPU it may not.
void forget_copies() {
    if (!queues.empty()) queues.clear();
}

void copy_async(void* to, const void* from, size_t bytes, size_t zeros) {
    if (bytes != 4 && bytes != 8 && bytes != 16) {  // the switch in CUDA's header has no other case
#ifdef MINSEG_WATCH
        watch_wrong_copy(to, bytes, __builtin_return_address(0));
#endif
        fail("an asynchronous copy of %zu bytes: it takes 4, 8 or 16", bytes);
    }
    Queue& queue = my_queue();
    queue.pending.push_back({(char*)to, (const char*)from, bytes, zeros, queue.committed,
                             __builtin_return_address(0)});
#ifdef MINSEG_WATCH
    watch_copy(to, bytes, queue.pending.back().code);
#endif
}

void copy_commit() { ++my_queue().committed; }

void copy_wait(unsigned groups_left) {
    Queue& queue = my_queue();
    std::vector<Copy> later;
    for (const Copy& copy : queue.pending) {
        if (copy.group + groups_left >= queue.committed) {
            later.push_back(copy);
            continue;
        }
#ifdef MINSEG_WATCH
        watch_read(copy.from, copy.bytes - copy.zeros, copy.code);
        watch_landing(copy.to, copy.bytes, copy.code);
#endif
        memcpy(copy.to, copy.from, copy.bytes - copy.zeros);
        memset(copy.to + copy.bytes - copy.zeros, 0, copy.zeros);
    }
    queue.pending.swap(later);
}

// Of a copy that its thread never waits for, the sanitizer still has to see what it reads.
void on_thread_end() {
#ifdef MINSEG_WATCH
    const auto found = queues.find(linear_thread());
    if (found == queues.end()) return;
    for (const Copy& copy : found->second.pending)
        watch_read(copy.from, copy.bytes - copy.zeros, copy.code);
#endif
}

}  // namespace minseg
