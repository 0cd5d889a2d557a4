/* map_lines: into how many mappings does an allocator tear a process' address space?
 *
 * Workload: ours; the question is that of users whose programs ran into the kernel's limit of 65,530 mappings
 * (vm.max_map_count) after a peer had unmapped or purged in pieces. Each thread frees the block in a random one of 1,024
 * slots and allocates another, of 16 bytes to 4 MiB, log-uniform, of which only the first and the last byte are
 * written. An operation is one malloc or one free; 3 million without --seconds. The main thread counts the lines of
 * /proc/self/maps now and then and at the end, before the remaining blocks are freed. */
#define _GNU_SOURCE
#include "blocks.h"

#include <fcntl.h>
#include <unistd.h>

#define MIN_BYTES ((size_t)16)
#define DEFAULT_OPS 3000000
#define OPS_BETWEEN_COUNTS 16384

static uint64_t slot_count = 1024;
static uint64_t max_kib = 4096;
static uint64_t highest_lines; /* of the main thread, as is what follows */
static uint64_t last_lines;

static uint64_t count_map_lines(void)
{
    static char text[65536];
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        bench_fail("cannot read /proc/self/maps");
    }
    uint64_t lines = 0;
    for (ssize_t length; (length = read(fd, text, sizeof text)) > 0;) {
        for (ssize_t i = 0; i < length; i++) {
            lines += text[i] == '\n';
        }
    }
    close(fd);
    return lines;
}

static void count(const struct bench_worker *worker)
{
    if (worker->index == 0) {
        last_lines = count_map_lines();
        highest_lines = last_lines > highest_lines ? last_lines : highest_lines;
    }
}

static uint64_t run(struct bench_worker *worker, uint64_t ops)
{
    struct bench_slot *slots = worker->state;
    bool check = worker->options->check;
    uint32_t doublings = bench_doublings(MIN_BYTES, max_kib << 10);
    uint64_t done = 0;
    while (done < ops) {
        uint64_t draw = bench_random(&worker->random);
        uint64_t index = bench_scale((uint32_t)draw, (uint32_t)slot_count);
        struct bench_slot *slot = &slots[index];
        uint64_t salt = bench_slot_salt(worker, index);
        done += bench_slot_free(slot, salt, check);
        slot->size_bytes = bench_size_even((uint32_t)(draw >> 32), MIN_BYTES, doublings);
        slot->block = bench_malloc(slot->size_bytes);
        done++;
        if (check) {
            bench_fill(slot->block, slot->size_bytes, salt);
        }
    }
    count(worker);
    return done;
}

static void finish(struct bench_worker *worker)
{
    bench_slots_finish(worker, slot_count);
}

static void figures(struct bench_figure found[2])
{
    found[0] = (struct bench_figure){"map_lines_highest", (double)highest_lines};
    found[1] = (struct bench_figure){"map_lines_end", (double)last_lines};
}

int main(int argc, char **argv)
{
    struct bench_options options = {.threads = 1, .seed = 42};
    const struct bench_extra extras[] = {
        {"slots", "blocks per thread", &slot_count, 1, 1 << 20},
        {"max-kib", "largest block in KiB: 1, 2, 4, 8, ...", &max_kib, 1, 1 << 20},
    };
    bench_parse(argc, argv, "map_lines: lines of /proc/self/maps after random operations up to 4 MiB", &options, extras,
                sizeof extras / sizeof extras[0]);
    if (options.ops == 0 && options.seconds == 0.0) {
        options.ops = DEFAULT_OPS;
    }
    const struct bench_workload workload = {
        .name = "map_lines",
        .state_bytes = slot_count * sizeof(struct bench_slot),
        .ops_per_batch = OPS_BETWEEN_COUNTS,
        .run = run,
        .finish = finish,
        .figures = figures,
        .figure_count = 2,
    };
    return bench_run(&workload, &options);
}
