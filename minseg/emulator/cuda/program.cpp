// The instrumented kernel as a program of its own: whatever it does, Python lives on. Reads a request
// file (see instrumented.py), runs all blocks one after the other, writes a report and the arrays.
//
//     kernel REQUEST REPORT ARRAYS SECONDS_OF_CPU_TIME
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <random>

#include "watch.h"

extern "C" void minseg_entry(void** arguments);

namespace minseg {

extern size_t dynamic_bytes;

struct Header {
    uint32_t grid[3], block[3];
    uint64_t shared;
    uint32_t order, seed, profile, arguments;  // order: 0 as counted, 1 reversed, 2 shuffled
};
struct ArgumentHeader {
    uint32_t kind;  // 0 scalar, 1 null pointer, 2 in, 3 out, 4 inout
    uint32_t item;
    uint64_t bytes;
    char name[64];
};

static void read_exactly(FILE* file, void* to, size_t bytes) {
    if (fread(to, 1, bytes, file) != bytes) {
        fprintf(stderr, "the request file is too short\n");
        exit(3);
    }
}

static Block block;

static Side running_side() {
    Side side;
    side.known = true;
    side.block = block_number;
    side.thread = block.running;
    side.does = "was last seen";
    if (last_access.block == block_number && last_access.thread == block.running)
        side.code = last_access.code;
    return side;
}

static void on_signal(int signal) {
    report(signal == SIGVTALRM ? "timeout" : "crash", "", nullptr, 0, 0, running_side(), Side(),
           {nullptr, 0});
    close_report();
    _exit(0);
}

static std::vector<int> order_of(int n, const Header& header) {
    std::vector<int> order(n);
    for (int i = 0; i < n; ++i) order[i] = i;
    if (header.order == 1) std::reverse(order.begin(), order.end());
    std::mt19937 random(header.seed);
    if (header.order == 2)  // by hand: std::shuffle differs from library to library
        for (int i = n - 1; i > 0; --i) std::swap(order[i], order[random() % (i + 1)]);
    return order;
}

static int run(const char* request, const char* report_path, const char* arrays, int seconds) {
    FILE* file = fopen(request, "rb");
    if (!file) return 3;
    Header header;
    read_exactly(file, &header, sizeof header);
    static uint64_t values[256];  // the kernel's parameters, one after the other
    static void* arguments[256];
    if (header.arguments > 256) return 3;
    for (uint32_t i = 0; i < header.arguments; ++i) {
        ArgumentHeader argument;
        read_exactly(file, &argument, sizeof argument);
        arguments[i] = &values[i];
        if (argument.kind == 0) read_exactly(file, &values[i], argument.bytes);
        if (argument.kind < 2) continue;
        const Role role = argument.kind == 2 ? Role::IN : argument.kind == 3 ? Role::OUT : Role::INOUT;
        Region* region = new Region(argument.name, argument.bytes, argument.item, role);
        read_exactly(file, region->base, argument.bytes);
        if (role == Role::OUT) memset(region->base, 0xff, argument.bytes);
        else
            for (Cell& cell : region->cells) cell.initialised = true;
        values[i] = (uint64_t)(uintptr_t)region->base;
        regions.push_back(region);
    }
    fclose(file);

    open_report(report_path);
    static char signal_stack[1 << 16];  // a thread's own may be what overflowed
    stack_t stack = {};
    stack.ss_sp = signal_stack;
    stack.ss_size = sizeof signal_stack;
    sigaltstack(&stack, nullptr);
    struct sigaction action = {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_ONSTACK;
    for (int signal : {SIGVTALRM, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) sigaction(signal, &action, nullptr);
    // Time of this process, not of the clock on the wall: a busy machine makes no loop endless.
    itimerval limit = {};
    limit.it_value.tv_sec = seconds;
    setitimer(ITIMER_VIRTUAL, &limit, nullptr);

    here.grid_size = {header.grid[0], header.grid[1], header.grid[2]};
    here.block_size = {header.block[0], header.block[1], header.block[2]};
    dynamic_bytes = header.shared;
    profiling = header.profile != 0;
    const int threads = (int)(header.block[0] * header.block[1] * header.block[2]);
    const int blocks = (int)(header.grid[0] * header.grid[1] * header.grid[2]);
    const std::vector<int> block_order = order_of(blocks, header);
    const std::vector<int> thread_order = order_of(threads, header);
    bool ok = true;
    for (int i = 0; i < blocks && ok; ++i) {
        block_number = (uint32_t)block_order[i];
        here.block.x = block_number % header.grid[0];
        here.block.y = block_number / header.grid[0] % header.grid[1];
        here.block.z = block_number / header.grid[0] / header.grid[1];
        start_block(block);
        ok = block.run(minseg_entry, arguments, threads, thread_order.data());
        if (profiling) profile_block_end();
    }
    limit.it_value.tv_sec = 0;
    setitimer(ITIMER_VIRTUAL, &limit, nullptr);
    if (ok) finish_launch();
    else fprintf(stderr, "%s\n", failure);
    fflush(stdout);
    close_report();
    file = fopen(arrays, "wb");
    if (!file) return 3;
    for (const Region* region : regions)
        if (region->role == Role::OUT || region->role == Role::INOUT)
            fwrite(region->base, 1, region->bytes, file);
    fclose(file);
    return ok ? 0 : 1;
}

}  // namespace minseg

int main(int count, char** words) {
    if (count != 5) return 3;
    return minseg::run(words[1], words[2], words[3], atoi(words[4]));
}
