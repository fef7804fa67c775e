// The fast build's launcher: all blocks of a grid, spread over CPU workers. Called through ctypes.
#include <atomic>
#include <memory>
#include <mutex>
#include <stdio.h>
#include <string.h>
#include <thread>
#include <vector>

#include "block.h"

namespace minseg {

static __thread void* dynamic_memory;  // the running block's dynamic shared memory
void* dynamic_shared(const char*, int, size_t) { return dynamic_memory; }
void fence() {}

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
    std::atomic<long long> next{0};
    std::atomic<bool> failed{false};
    std::mutex lock;
    char* error;
    size_t error_size;
};

static bool run_loop(const Launch& launch) {
    if (_setjmp(loop_exit)) return false;
    launch.entry(launch.arguments);
    return true;
}

static void work(const Launch& launch, long long chunk, Progress& progress) {
    const uint3 grid = launch.grid, size = launch.block;
    const long long blocks = (long long)grid.x * grid.y * grid.z;
    const int threads = (int)(size.x * size.y * size.z);
    std::unique_ptr<Block> block = launch.fibers ? take_block() : nullptr;
    std::vector<double> memory(launch.shared / sizeof(double) + 2);  // + 2: alignment to 16
    dynamic_memory = (void*)(((uintptr_t)memory.data() + 15) & ~(uintptr_t)15);
    here.grid_size = grid;
    here.block_size = size;
    while (!progress.failed) {
        const long long first = progress.next.fetch_add(chunk);
        if (first >= blocks) break;
        for (long long i = first; i < first + chunk && i < blocks && !progress.failed; ++i) {
            here.block.x = (unsigned)(i % grid.x);
            here.block.y = (unsigned)(i / grid.x % grid.y);
            here.block.z = (unsigned)(i / grid.x / grid.y);
            bool ok = launch.fibers
                          ? block->run(launch.entry, launch.arguments, threads, nullptr)
                          : run_loop(launch);
            if (ok) continue;
            std::lock_guard<std::mutex> guard(progress.lock);
            if (!progress.failed.exchange(true))
                snprintf(progress.error, progress.error_size, "%s", failure);
        }
    }
    if (block) give_block(std::move(block));
}

}  // namespace minseg

// 0, or 1 with the reason in `error`.
extern "C" __attribute__((visibility("default"))) int minseg_launch(
    minseg::Entry entry, int fibers, const unsigned* grid, const unsigned* block, size_t shared,
    void** arguments, int workers, char* error, size_t error_size) {
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
    std::vector<std::thread> others;
    for (int i = 1; i < workers; ++i)
        others.emplace_back([&] { work(launch, chunk, progress); });
    work(launch, chunk, progress);
    for (std::thread& other : others) other.join();
    fflush(stdout);
    return progress.failed;
}
