// synccheck: barriers that some threads of a block never reach, or reach at another line.
#include <stdlib.h>
#include <string.h>

#include "events.h"
#include "watch.h"

namespace minseg {

void pass_barrier(Site);  // watch.cpp
void pass_warp_barrier(int warp, unsigned mask);
bool has_written(int thread);

static Side waiting(const Block& block, int thread) {
    Side side;
    side.known = true;
    side.block = block_number;
    side.thread = thread;
    side.site = block.fibers[thread].site;
    side.does = "waits";
    return side;
}
static Side ended(int thread) {
    Side side;
    side.known = true;
    side.block = block_number;
    side.thread = thread;
    side.does = "has ended";
    return side;
}

static bool same(Site a, Site b) { return a.line == b.line && strcmp(a.file, b.file) == 0; }
static bool meet(Site a, Site b) {
    return a.meeting == b.meeting && a.words == b.words &&
           (a.meeting != Meeting::IN_ONE_PLACE || same(a, b));
}

void on_barrier(Block& block) {
    const Site none = {nullptr, 0};
    int first = 0;
    while (block.fibers[first].state != State::AT_BARRIER) ++first;
    for (int i = 0; i < block.threads; ++i) {
        const Fiber& fiber = block.fibers[i];
        if (fiber.state == State::DONE)
            report("synccheck", "ended", nullptr, 0, 0, waiting(block, first), ended(i), none);
        else if (!same(fiber.site, block.fibers[first].site))
            report("synccheck", "lines", nullptr, 0, 0, waiting(block, i), waiting(block, first),
                   none);
        else continue;
        break;
    }
    pass_barrier(block.fibers[first].site);
    if (profiling) profile_barrier();
}

void on_warp_barrier(Block& block, int warp, unsigned mask) {
    const Site none = {nullptr, 0};
    const int base = warp * WARP_SIZE;
    int first = 0;
    while (!(mask >> first & 1) || block.fibers[base + first].state != State::AT_WARP) ++first;
    const Site site = block.fibers[base + first].site;
    int other = first;  // a lane that waits for another meeting
    for (int lane = 0; lane < WARP_SIZE && base + lane < block.threads; ++lane) {
        if (!(mask >> lane & 1)) continue;
        const Fiber& fiber = block.fibers[base + lane];
        if (fiber.state == State::DONE) {
            // The mask may name lanes that have ended before. One that has written something since
            // the last barrier is taken to have passed by on another path.
            if (has_written(base + lane))
                report("synccheck", "lane", nullptr, 0, 0, waiting(block, base + first),
                       ended(base + lane), none);
            continue;
        }
        if (!meet(fiber.site, site)) other = lane;
    }
    if (other != first)
        report("synccheck", "meetings", nullptr, 0, 0, waiting(block, base + other),
               waiting(block, base + first), none);
    else if (site.meeting == Meeting::AT_SYNCWARP)  // a shuffle promises nothing about memory
        pass_warp_barrier(warp, mask);
}

void missing_lane(Site site, int lane) {
    Side now = waiting(*running_block, running_block->running), absent = now;
    now.site = site;
    now.does = "asks another lane";
    absent.thread = running_block->running / WARP_SIZE * WARP_SIZE + lane;
    absent.site = {nullptr, 0};
    absent.does = "takes no part";
    absent.known = absent.thread < running_block->threads;  // the last warp may be a part of one
    report("synccheck", "absent", nullptr, 0, 0, now, absent, {nullptr, 0});
}

void on_wrong_mask(Block& block) {
    report("synccheck", "mask", nullptr, 0, 0, waiting(block, block.running), Side(), {nullptr, 0});
}

void on_wrong_width(Block& block, Site site, int width) {
    Side side = waiting(block, block.running);
    side.site = site;
    side.does = "shuffles";
    report("synccheck", "width", nullptr, width, 0, side, Side(), {nullptr, 0});
}

void on_deadlock(Block& block) {
    int first = 0;
    while (block.fibers[first].state == State::DONE) ++first;
    int other = first + 1;
    while (other < block.threads && (block.fibers[other].state == State::DONE ||
                                     same(block.fibers[other].site, block.fibers[first].site)))
        ++other;
    if (other < block.threads)
        report("synccheck", "stuck", nullptr, 0, 0, waiting(block, first), waiting(block, other),
               {nullptr, 0});
    else
        report("synccheck", "stuck", nullptr, 0, 0, waiting(block, first), Side(), {nullptr, 0});
}

}  // namespace minseg
