// A block of emulated threads on one CPU worker. Each thread is a fiber: it runs until it waits (at a
// barrier, or for its warp) or ends; then the next one runs. No two run at the same time, so the
// emulation is deterministic, and a race shows in the order of the accesses, never as a torn value.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include "runtime.h"

namespace minseg {

typedef void (*Entry)(void** arguments);  // runs the kernel for the thread that `here` names

constexpr int MAX_THREADS = 1024;
constexpr int MAX_WARPS = MAX_THREADS / WARP_SIZE;

enum class State { READY, AT_BARRIER, AT_WARP, CONVERGING, DONE };

struct Fiber {
    jmp_buf context;
    bool started = false;
    State state = State::DONE;
    uint3 index;
    unsigned mask = 0;           // AT_WARP: the lanes that this one waits for; else __activemask()'s
    Site site = {nullptr, 0};    // where it waits
};

struct Warp {
    unsigned present;            // lanes that have not ended yet
    unsigned waiting;            // lanes that are AT_WARP
    void* published[WARP_SIZE];  // see warp_meet
};

struct Block {
    Fiber fibers[MAX_THREADS];
    Warp warps[MAX_WARPS];
    int threads = 0, running = 0, live = 0, at_barrier = 0;
    int yes_votes = 0, vote_result[2] = {0, 0};  // count of all threads; of those that said yes
    bool failed = false;
    jmp_buf scheduler;  // where a fiber goes when it waits
    Entry entry = nullptr;
    void** arguments = nullptr;

    // Runs all threads of block `here.block` to their end, in the order given (null: as counted).
    // False when the kernel failed; `failure` says why.
    bool run(Entry, void** arguments, int threads, const int* order);
    void abandon();                  // where a fault led out of run(): its threads start afresh
    bool owns(const void* p) const;  // a local variable of some thread, or the scheduler's own
    Fiber& current() { return fibers[running]; }
    Warp& warp() { return warps[running / WARP_SIZE]; }
    void wait(State, Site);  // the current fiber stops here until it is READY again
    void release_barrier();
    void release_warp_if_complete(Warp&, unsigned mask);

    ~Block();

  private:
    char* stacks = nullptr;
    int stack_count = 0;
    ucontext_t start;
    const int* order = nullptr;
    int turn = 0;  // position in `order` of the running thread
    bool moved = false;

    static void fiber_main(unsigned high, unsigned low);
    void make_stacks(int count);
    [[noreturn]] void run_next();
    [[noreturn]] void enter(int thread);
    void switch_away();
    void run_round();
    void finish_thread();
    bool release_converged();
    void fail_deadlocked();
};

void forget_copies();  // copy.cpp
void on_thread_end();

extern __thread Block* running_block;  // null while a kernel without barriers runs as a plain loop
extern __thread jmp_buf loop_exit;     // where a failure leads from such a loop
extern __thread char failure[1024];

[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace minseg
