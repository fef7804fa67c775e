// The fast build's launcher: all blocks of a grid, spread over CPU workers. Called through ctypes.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <thread>
#include <vector>

#include "block.h"

namespace minseg {

static __thread void* dynamic_memory;  // the running block's dynamic shared memory
void* dynamic_shared(const char*, int, size_t) { return dynamic_memory; }
void fence() {}
void fence_block() {}
void missing_lane(Site, int) {}

// Blocks with their stacks are kept for the next launch: making a thousand stacks takes a while.
static std::mutex pool_lock;
static std::vector<std::unique_ptr<Block>> pool;

static std::unique_ptr<Block> take_block() {
    std::lock_guard<std::mutex> guard(pool_lock);
    if (pool.empty()) return std::make_unique<Block>();
    std::unique_ptr<Block> block = std::move(pool.back());
    pool.pop_back();
    return block;
}
static void give_block(std::unique_ptr<Block> block) {
    std::lock_guard<std::mutex> guard(pool_lock);
    pool.push_back(std::move(block));
}

struct Launch {
    Entry entry;
    bool fibers;  // false: the kernel has no barrier, and `entry` loops over a block's threads itself
    uint3 grid, block;
    size_t shared;
    void** arguments;
};

struct Progress {
    std::atomic<long long> next{0}, begun{0};
    std::atomic<bool> failed{false}, ended{false};
    std::mutex lock;
    std::condition_variable end;
    char* error;
    size_t error_size;
};

// --- Faults: a kernel that crashes or never ends fails its launch; Python lives on ----------------------
static __thread volatile sig_atomic_t in_kernel;
// Where a fault leads. Such a jump starts on the alternate stack, and macOS learns that it was left
// only from one that restores the signal mask as well; else the next fault finds that stack taken.
static __thread sigjmp_buf fault_exit;
constexpr int FAULTS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGURG};
constexpr int FAULT_COUNT = sizeof FAULTS / sizeof *FAULTS;
constexpr int TOO_LONG = SIGURG;  // sent by the watchman; elsewhere it is ignored
static struct sigaction handlers_before[FAULT_COUNT];
static std::mutex handlers_lock;
static int handlers_users;

static void on_fault(int signal) {
    if (!in_kernel) {  // not a kernel's: whoever was there before decides
        for (int i = 0; i < FAULT_COUNT; ++i)
            if (FAULTS[i] == signal && signal != TOO_LONG)
                sigaction(signal, &handlers_before[i], nullptr);
        return;
    }
    in_kernel = false;
    const char* what = signal == TOO_LONG ? "it does not end (an endless loop?)"
                       : signal == SIGFPE ? "an integer division by zero"
                       : signal == SIGSEGV || signal == SIGBUS
                           ? "an access outside of all memory (or too large a stack)"
                           : "an illegal instruction";
    snprintf(failure, sizeof failure,
             "block (%u,%u,%u), thread (%u,%u,%u): %s; `minseg sanitize` says where", here.block.x,
             here.block.y, here.block.z, here.thread.x, here.thread.y, here.thread.z, what);
    siglongjmp(fault_exit, 1);
}

static void catch_faults() {
    std::lock_guard<std::mutex> guard(handlers_lock);
    if (handlers_users++) return;
    struct sigaction action = {};
    action.sa_handler = on_fault;
    action.sa_flags = SA_ONSTACK | SA_NODEFER;  // the handler leaves by a jump and never returns
    for (int i = 0; i < FAULT_COUNT; ++i) sigaction(FAULTS[i], &action, &handlers_before[i]);
}
static void leave_faults() {
    std::lock_guard<std::mutex> guard(handlers_lock);
    if (--handlers_users) return;
    for (int i = 0; i < FAULT_COUNT; ++i) sigaction(FAULTS[i], &handlers_before[i], nullptr);
}

// For `seconds` no block has begun: those that run are stuck.
static void watch(Progress& progress, const std::vector<pthread_t>& workers, int seconds) {
    std::unique_lock<std::mutex> guard(progress.lock);
    for (long long before = -1; before != progress.begun;) {
        before = progress.begun;
        if (progress.end.wait_for(guard, std::chrono::seconds(seconds),
                                  [&] { return progress.ended.load(); }))
            return;
    }
    for (pthread_t worker : workers) pthread_kill(worker, TOO_LONG);
}

static bool run_loop(const Launch& launch) {
    if (_setjmp(loop_exit)) return false;
    launch.entry(launch.arguments);
    return true;
}

static void note_failure(Progress& progress) {
    std::lock_guard<std::mutex> guard(progress.lock);
    if (!progress.failed.exchange(true))
        snprintf(progress.error, progress.error_size, "%s", failure);
}

static void run_blocks(const Launch& launch, long long chunk, Block* block, Progress& progress) {
    const uint3 grid = launch.grid, size = launch.block;
    const long long blocks = (long long)grid.x * grid.y * grid.z;
    const int threads = (int)(size.x * size.y * size.z);
    while (!progress.failed) {
        const long long first = progress.next.fetch_add(chunk);
        if (first >= blocks) break;
        for (long long i = first; i < first + chunk && i < blocks && !progress.failed; ++i) {
            here.block.x = (unsigned)(i % grid.x);
            here.block.y = (unsigned)(i / grid.x % grid.y);
            here.block.z = (unsigned)(i / grid.x / grid.y);
            ++progress.begun;
            in_kernel = true;
            bool ok = launch.fibers
                          ? block->run(launch.entry, launch.arguments, threads, nullptr)
                          : run_loop(launch);
            in_kernel = false;
            if (!ok) note_failure(progress);
        }
    }
}

static void work(const Launch& launch, long long chunk, Progress& progress) {
    std::unique_ptr<Block> block = launch.fibers ? take_block() : nullptr;
    std::vector<double> memory(launch.shared / sizeof(double) + 2);  // + 2: alignment to 16
    dynamic_memory = (void*)(((uintptr_t)memory.data() + 15) & ~(uintptr_t)15);
    here.grid_size = launch.grid;
    here.block_size = launch.block;
    std::vector<char> signal_stack(1 << 16);  // a fault may be that the stack is full
    stack_t own = {}, before;
    own.ss_sp = signal_stack.data();
    own.ss_size = signal_stack.size();
    sigaltstack(&own, &before);
    if (before.ss_flags & SS_DISABLE) before.ss_size = own.ss_size;  // macOS asks for it even so
    if (sigsetjmp(fault_exit, 1) == 0) {
        run_blocks(launch, chunk, block.get(), progress);
    } else {
        if (block) block->abandon();
        note_failure(progress);
    }
    sigaltstack(&before, nullptr);
    if (block) give_block(std::move(block));
}

}  // namespace minseg

// 0, or 1 with the reason in `error`. A launch of which no block begins for `seconds` has failed.
extern "C" __attribute__((visibility("default"))) int minseg_launch(
    minseg::Entry entry, int fibers, const unsigned* grid, const unsigned* block, size_t shared,
    void** arguments, int workers, int seconds, char* error, size_t error_size) {
    using namespace minseg;
    const Launch launch = {entry, fibers != 0, {grid[0], grid[1], grid[2]},
                           {block[0], block[1], block[2]}, shared, arguments};
    Progress progress;
    progress.error = error;
    progress.error_size = error_size;
    const long long blocks = (long long)grid[0] * grid[1] * grid[2];
    const long long threads = blocks * block[0] * block[1] * block[2];
    if (workers > blocks) workers = (int)blocks;
    if (threads < 8192) workers = 1;  // starting a worker costs as much as running these
    const long long chunk = workers == 1 ? blocks : 1 + blocks / (8LL * workers);
    catch_faults();
    std::vector<std::thread> others;
    std::vector<pthread_t> all = {pthread_self()};
    for (int i = 1; i < workers; ++i) {
        others.emplace_back([&] { work(launch, chunk, progress); });
        all.push_back(others.back().native_handle());
    }
    std::thread watchman([&] { watch(progress, all, seconds); });
    work(launch, chunk, progress);
    for (std::thread& other : others) other.join();
    {
        std::lock_guard<std::mutex> guard(progress.lock);
        progress.ended = true;
    }
    progress.end.notify_one();
    watchman.join();
    leave_faults();
    fflush(stdout);
    return progress.failed;
}
