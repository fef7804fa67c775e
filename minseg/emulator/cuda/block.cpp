// The scheduler of block.h: fibers, barriers, meetings of a warp.
#include "block.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "events.h"

namespace minseg {

__thread Position here;
__thread Block* running_block;
__thread jmp_buf loop_exit;
__thread char failure[1024];

void fail(const char* format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(failure, sizeof failure, format, values);
    va_end(values);
    if (!running_block) _longjmp(loop_exit, 1);
    running_block->failed = true;
    _longjmp(running_block->scheduler, 1);
}

void fail_assertion(Site site, const char* expression) {
    fail("%s:%d: block (%u,%u,%u), thread (%u,%u,%u): assertion `%s` failed", site.file, site.line,
         here.block.x, here.block.y, here.block.z, here.thread.x, here.thread.y, here.thread.z,
         expression);
}
void trap() {
    fail("block (%u,%u,%u), thread (%u,%u,%u): __trap()", here.block.x, here.block.y, here.block.z,
         here.thread.x, here.thread.y, here.thread.z);
}

// --- Stacks -----------------------------------------------------------------------------------------
// The odd page, and the shift of each stack's top within a page, spread the stacks over the sets of
// the CPU's caches: all of them on one set would make every switch a cache miss.
static const size_t PAGE = std::max(16384L, sysconf(_SC_PAGESIZE));  // 64 KiB on some arm64 Linux
static const size_t STACK = 9 * PAGE;

void Block::make_stacks(int count) {
    if (count <= stack_count) return;
    if (stacks) munmap(stacks, stack_count * STACK);
    void* memory = mmap(nullptr, count * STACK, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail("no memory for the stacks of %d threads", count);
    stacks = (char*)memory;
    stack_count = count;
    mprotect(stacks, PAGE, PROT_NONE);  // where an endless recursion ends
#ifdef MINSEG_WATCH
    for (int i = 1; i < count; ++i) mprotect(stacks + i * STACK, PAGE, PROT_NONE);
#endif
    for (Fiber& fiber : fibers) fiber.started = false;
}

Block::~Block() {
    if (stacks) munmap(stacks, stack_count * STACK);
}

bool Block::owns(const void* p) const {
    return (p >= stacks && p < stacks + stack_count * STACK) || (p >= this && p < this + 1);
}

// --- Switching --------------------------------------------------------------------------------------
// A fiber lives on from block to block: its loop starts the kernel anew each time it is resumed.
void Block::fiber_main(unsigned high, unsigned low) {
    Block* block = (Block*)((uint64_t)high << 32 | low);
    for (;;) {
        block->entry(block->arguments);
        block->finish_thread();
    }
}

// Let the next thread run that can; when each had its turn, the scheduler looks again.
void Block::run_next() {
    while (++turn < threads) {
        const int thread = order ? order[turn] : turn;
        if (fibers[thread].state == State::READY) enter(thread);
    }
    _longjmp(scheduler, 1);
}

void Block::enter(int thread) {
    running = thread;
    moved = true;
    here.thread = fibers[thread].index;
    if (fibers[thread].started) _longjmp(fibers[thread].context, 1);
    fibers[thread].started = true;
    getcontext(&start);
    start.uc_stack.ss_sp = stacks + thread * STACK;
    start.uc_stack.ss_size = STACK - thread % 32 * 512;
    start.uc_link = nullptr;
    const uint64_t self = (uint64_t)this;
    makecontext(&start, (void (*)())fiber_main, 2, (unsigned)(self >> 32), (unsigned)self);
    setcontext(&start);
    __builtin_unreachable();
}

__attribute__((noinline)) void Block::switch_away() {
    if (_setjmp(current().context) == 0) run_next();
}

// All threads from where they are to where they wait or end.
__attribute__((noinline)) void Block::run_round() {
    turn = -1;
    moved = false;
    if (_setjmp(scheduler) == 0) run_next();
}

bool Block::run(Entry entry, void** arguments, int threads, const int* order) {
    this->entry = entry;
    this->arguments = arguments;
    this->threads = live = threads;
    this->order = order;
    at_barrier = yes_votes = 0;
    failed = false;
    running_block = this;
    make_stacks(threads);
    forget_copies();
    memset(warps, 0, sizeof warps);
    for (int i = 0; i < threads; ++i) {
        Fiber& fiber = fibers[i];
        fiber.state = State::READY;
        fiber.index.x = i % here.block_size.x;
        fiber.index.y = i / here.block_size.x % here.block_size.y;
        fiber.index.z = i / here.block_size.x / here.block_size.y;
        warps[i / WARP_SIZE].present |= 1u << i % WARP_SIZE;
    }
    while (live && !failed) {
        run_round();
        if (!moved && !release_converged()) {
            on_deadlock(*this);
            if (_setjmp(scheduler) == 0) fail_deadlocked();
        }
    }
    running_block = nullptr;
    if (failed) abandon();
    return !failed;
}

void Block::abandon() {
    for (Fiber& fiber : fibers) fiber.started = false;  // their stacks are half way through
    running_block = nullptr;
}

void Block::wait(State state, Site site) {
    current().state = state;
    current().site = site;
    // The last one to arrive releases all, itself included, and goes on without a switch.
    if (state == State::AT_BARRIER) {
        if (++at_barrier == live) release_barrier();
    } else if (state == State::AT_WARP) {
        if (!(current().mask >> running % WARP_SIZE & 1)) {
            on_wrong_mask(*this);
            fail("%s:%d: block (%u,%u,%u), thread (%u,%u,%u): its mask 0x%08x leaves out itself",
                 site.file, site.line, here.block.x, here.block.y, here.block.z, here.thread.x,
                 here.thread.y, here.thread.z, current().mask);
        }
        warp().waiting |= 1u << running % WARP_SIZE;
        release_warp_if_complete(warp(), current().mask);
    }
    if (current().state != State::READY) switch_away();
}

void Block::finish_thread() {
    on_thread_end();
    current().state = State::DONE;
    --live;
    warp().present &= ~(1u << running % WARP_SIZE);
    if (live && at_barrier == live) release_barrier();  // an ended thread holds nobody up
    for (int i = 0; i < WARP_SIZE; ++i)
        if (warp().waiting >> i & 1)
            release_warp_if_complete(warp(), fibers[running / WARP_SIZE * WARP_SIZE + i].mask);
    switch_away();
}

void Block::release_barrier() {
    on_barrier(*this);
    vote_result[0] = at_barrier;
    vote_result[1] = yes_votes;
    at_barrier = yes_votes = 0;
    for (int i = 0; i < threads; ++i)
        if (fibers[i].state == State::AT_BARRIER) fibers[i].state = State::READY;
}

void Block::release_warp_if_complete(Warp& warp, unsigned mask) {
    const unsigned needed = mask & warp.present;
    if ((needed & ~warp.waiting) || !needed) return;
    Fiber* lanes = fibers + (&warp - warps) * WARP_SIZE;
    for (int i = 0; i < WARP_SIZE; ++i)
        if ((needed >> i & 1) && lanes[i].mask != mask) return;
    on_warp_barrier(*this, (int)(&warp - warps), mask);
    warp.waiting &= ~needed;
    for (int i = 0; i < WARP_SIZE; ++i)
        if (needed >> i & 1) lanes[i].state = State::READY;
}

// When nobody else can go on: the lanes of one warp that have come to the same __activemask().
bool Block::release_converged() {
    int first = 0;
    while (first < threads && fibers[first].state != State::CONVERGING) ++first;
    if (first == threads) return false;
    Fiber* lanes = fibers + first / WARP_SIZE * WARP_SIZE;
    unsigned mask = 0;
    for (int i = 0; i < WARP_SIZE; ++i)
        if (lanes[i].state == State::CONVERGING && lanes[i].site.line == fibers[first].site.line)
            mask |= 1u << i;
    for (int i = 0; i < WARP_SIZE; ++i)
        if (mask >> i & 1) {
            lanes[i].mask = mask;
            lanes[i].state = State::READY;
        }
    return true;
}

void Block::fail_deadlocked() {
    for (int i = 0; i < threads; ++i) {
        const Fiber& one = fibers[i];
        if (one.state == State::DONE) continue;
        for (int j = i + 1; j < threads; ++j) {
            const Fiber& two = fibers[j];
            if (two.state == State::DONE || two.site.line == one.site.line) continue;
            fail("block (%u,%u,%u) is stuck: thread (%u,%u,%u) waits at %s:%d, thread (%u,%u,%u) at "
                 "%s:%d", here.block.x, here.block.y, here.block.z, one.index.x, one.index.y,
                 one.index.z, one.site.file, one.site.line, two.index.x, two.index.y, two.index.z,
                 two.site.file, two.site.line);
        }
        fail("block (%u,%u,%u) is stuck: thread (%u,%u,%u) waits at %s:%d for lanes 0x%08x of its "
             "warp, which do not come", here.block.x, here.block.y, here.block.z, one.index.x,
             one.index.y, one.index.z, one.site.file, one.site.line, one.mask);
    }
    fail("block (%u,%u,%u) is stuck", here.block.x, here.block.y, here.block.z);
}

// --- What kernels call (runtime.h) --------------------------------------------------------------------
static Block& fibers_of(Site site) {
    if (!running_block) fail("%s:%d: a barrier that the source scan did not see", site.file, site.line);
    return *running_block;
}

void block_barrier(Site site) { fibers_of(site).wait(State::AT_BARRIER, site); }

int block_vote(Site site, Vote kind, int predicate) {
    Block& block = fibers_of(site);
    block.yes_votes += predicate != 0;
    block.wait(State::AT_BARRIER, site);
    // No thread passes another barrier before all have read the result of this one.
    const int voters = block.vote_result[0], yes = block.vote_result[1];
    if (kind == Vote::AND) return yes == voters;
    if (kind == Vote::OR) return yes > 0;
    return yes;
}

void warp_barrier(Site site, unsigned mask) {
    Block& block = fibers_of(site);
    block.current().mask = mask;
    block.wait(State::AT_WARP, site);
}

unsigned converged_lanes(Site site) {
    Block& block = fibers_of(site);
    block.wait(State::CONVERGING, site);
    return block.current().mask;
}

void wrong_width(Site site, int width) {
    on_wrong_width(*running_block, site, width);
    fail("%s:%d: block (%u,%u,%u), thread (%u,%u,%u): a shuffle of width %d, which is no power of "
         "two up to 32", site.file, site.line, here.block.x, here.block.y, here.block.z,
         here.thread.x, here.thread.y, here.thread.z, width);
}

void* const* warp_meet(Site site, unsigned mask, const void* mine) {
    Block& block = fibers_of(site);
    block.warp().published[block.running % WARP_SIZE] = (void*)mine;
    block.current().mask = mask;
    block.wait(State::AT_WARP, site);
    return block.warp().published;
}

void warp_leave(unsigned mask) {
    Block& block = *running_block;
    // The others may still have to read what this lane published.
    block.wait(State::AT_WARP, block.current().site);
    block.warp().published[block.running % WARP_SIZE] = nullptr;
}

}  // namespace minseg
