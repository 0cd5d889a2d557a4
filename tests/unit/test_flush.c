#include "unit.h"

#include "heaps.h"

#define BIN_48 2u    /* runs of one slab with an unused tail */
#define BIN_64 3u    /* 1024 blocks a slab */
#define BIN_2048 23u /* 32 blocks a slab, which end where the next slab begins */
#define BIN_32K 41u  /* 8 blocks in a run of four slabs */

enum { BLOCKS = 256, BATCH = 64 };

static void *blocks[BLOCKS];

static const unsigned bins[] = {BIN_48, BIN_64, BIN_2048, BIN_32K};

enum order { UP, DOWN, SHUFFLED, RUNS_OF_TWO, RUNS_AND_SINGLES, ORDER_COUNT };

static int compare_addresses(const void *a, const void *b)
{
    const uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return (x > y) - (x < y);
}

/* Puts `count` blocks in an order in which a program might free them. */
static void arrange(unsigned count, enum order order)
{
    static void *sorted[BLOCKS];
    qsort(blocks, count, sizeof blocks[0], compare_addresses);
    memcpy(sorted, blocks, count * sizeof blocks[0]);
    const unsigned half = count / 2;
    for (unsigned i = 0; i < count; i++) {
        const unsigned places[ORDER_COUNT] = {
            [UP] = i,
            [DOWN] = count - 1 - i,
            [SHUFFLED] = i * 37 % count, /* 37 has no factor in common with a power of two */
            [RUNS_OF_TWO] = (i / 2 * 37 % half) * 2 + i % 2,
            [RUNS_AND_SINGLES] = i < half ? i : half + (i - half) * 37 % (count - half),
        };
        blocks[i] = sorted[places[order]];
    }
}

/* Every order gives all blocks back, counts them, and no call puts more than it should. */
static void test_every_order(void **state)
{
    (void)state;
    for (unsigned b = 0; b < ARRAY_COUNT(bins); b++) {
        struct heap *h = new_heap();
        const unsigned bin = bins[b];
        for (enum order order = UP; order < ORDER_COUNT; order++) {
            take_blocks(h, bin, blocks, BLOCKS);
            arrange(BLOCKS, order);
            const struct heap_bin before = h->bins[bin];
            unsigned done = 0, batches = 0;
            while (done < BLOCKS) {
                const unsigned asked = BLOCKS - done < BATCH ? BLOCKS - done : BATCH;
                heap_flush_begin(h);
                const unsigned put = heap_flush_batch(h, bin, blocks + done, asked);
                heap_flush_end(h, bin, put);
                assert_in_range(put, 1, asked);
                if (order == SHUFFLED)
                    assert_in_range(put, 1, 16);
                for (unsigned i = 0; i < put; i++) {
                    const uint32_t slab = slab_of(blocks[done + i], bin);
                    if (*window_word(slab) != 0) /* else it was emptied, and has gone */
                        assert_true(slab_is_valid(slab));
                }
                done += put;
                batches++;
                assert_int_equal(h->bins[bin].outstanding, BLOCKS - done);
            }
            assert_int_equal(h->bins[bin].flush_count, before.flush_count + batches);
            assert_int_equal(h->bins[bin].flush_blocks, before.flush_blocks + BLOCKS);
            if (order <= DOWN && bin == BIN_64) /* whole words, at least from the second on */
                assert_in_range(batches, 4, 5);
        }
        age(h, true);
        assert_int_equal(h->bins[bin].slab_count, 0);
    }
}

/* A single block is a piece of ten, a run of three or more neighbours two; a pair is two single blocks. */
static void test_pieces(void **state)
{
    (void)state;
    static const struct {
        unsigned count, put;
        uint16_t numbers[18];
    } batches[] = {
        {12, 10, {0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176}},
        {12, 10, {0, 1, 16, 17, 32, 33, 48, 49, 64, 65, 80, 81}},
        {18, 15, {0, 1, 2, 18, 17, 16, 32, 33, 34, 50, 49, 48, 64, 65, 66, 82, 81, 80}},
        {12, 11, {0, 16, 32, 33, 34, 48, 64, 80, 96, 112, 128, 144}},
        {14, 11, {0, 1, 2, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176}},
        {18, 17, {0, 16, 32, 33, 34, 48, 64, 80, 96, 112, 113, 114, 115, 116, 117, 118, 119, 160}},
        {5, 5, {0, 16, 48, 49, 50}},
        {5, 5, {0, 16, 32, 48, 49}},
    };
    struct heap *h = new_heap();
    static void *all[1024];
    take_blocks(h, BIN_64, all, ARRAY_COUNT(all));
    qsort(all, ARRAY_COUNT(all), sizeof all[0], compare_addresses);
    for (unsigned i = 0; i < ARRAY_COUNT(batches); i++) {
        void *batch[18];
        for (unsigned k = 0; k < batches[i].count; k++)
            batch[k] = all[batches[i].numbers[k]];
        heap_flush_begin(h);
        const unsigned put = heap_flush_batch(h, BIN_64, batch, batches[i].count);
        heap_flush_end(h, BIN_64, put);
        assert_int_equal(put, batches[i].put);
        assert_int_equal(slab_at(slab_of(all[0], BIN_64))->free_count, put);
        take_blocks(h, BIN_64, batch, put);
    }
    heap_flush(h, BIN_64, all, ARRAY_COUNT(all));
    age(h, true);
}

/* A slab without free blocks is listed again by the first that comes back, however it comes. */
static void test_full_slabs_are_listed(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    static void *all[1024];
    take_blocks(h, BIN_64, all, ARRAY_COUNT(all));
    static const struct {
        unsigned count, numbers[5];
    } batches[] = {{1, {700}}, {4, {700, 701, 702, 703}}, {4, {703, 702, 701, 700}}, {4, {700, 90, 500, 3}}};
    for (unsigned i = 0; i < ARRAY_COUNT(batches); i++) {
        void *batch[5];
        const uint32_t slab = slab_of(all[0], BIN_64);
        qsort(all, ARRAY_COUNT(all), sizeof all[0], compare_addresses);
        assert_int_equal(slab_at(slab)->state, SLAB_FULL);
        for (unsigned k = 0; k < batches[i].count; k++)
            batch[k] = all[batches[i].numbers[k]];
        heap_flush(h, BIN_64, batch, batches[i].count);
        assert_int_equal(slab_at(slab)->state, SLAB_LISTED);
        assert_int_equal(h->bins[BIN_64].list, slab);
        take_blocks(h, BIN_64, batch, batches[i].count);
    }
    heap_flush(h, BIN_64, all, ARRAY_COUNT(all));
    age(h, true);
}

/* ---- misuse ---- */

struct misuse {
    struct heap *heap;
    unsigned bin, count;
};

static void flush_blocks(void *argument)
{
    const struct misuse *m = argument;
    heap_flush(m->heap, m->bin, blocks, m->count);
}

/* A block that is twice in a batch, and an address inside one, at any place of a batch in any order. */
static void test_misuse_is_fatal(void **state)
{
    (void)state;
    for (unsigned b = 0; b < ARRAY_COUNT(bins); b++) {
        struct misuse m = {.heap = new_heap(), .bin = bins[b], .count = 32};
        take_blocks(m.heap, m.bin, blocks, m.count);
        for (enum order order = UP; order < ORDER_COUNT; order++) {
            arrange(m.count, order);
            for (unsigned at = 0; at < m.count; at += 5) {
                void *const good = blocks[at];
                blocks[at] = (char *)good + 16;
                assert_aborts(flush_blocks, &m, "free of a pointer into the middle of a block", blocks[at]);
                blocks[at] = blocks[(at + 11) % m.count];
                assert_aborts(flush_blocks, &m, "double free", blocks[at]);
                blocks[at] = good;
            }
        }
        heap_flush(m.heap, m.bin, blocks, m.count);
        age(m.heap, true);
    }
}

static void free_twice(void *argument)
{
    const struct misuse *m = argument;
    heap_flush(m->heap, m->bin, blocks, m->count);
    age(m->heap, true); /* their slabs have gone */
    heap_flush(m->heap, m->bin, blocks, m->count);
}

static void test_blocks_of_gone_slabs(void **state)
{
    (void)state;
    for (unsigned b = 0; b < ARRAY_COUNT(bins); b++) {
        struct misuse m = {.heap = new_heap(), .bin = bins[b], .count = 32};
        take_blocks(m.heap, m.bin, blocks, m.count);
        for (enum order order = UP; order < ORDER_COUNT; order++) {
            arrange(m.count, order);
            assert_aborts(free_twice, &m, "double free", blocks[0]);
        }
        heap_flush(m.heap, m.bin, blocks, m.count);
        age(m.heap, true);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_order),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_full_slabs_are_listed),
        cmocka_unit_test(test_misuse_is_fatal),
        cmocka_unit_test(test_blocks_of_gone_slabs),
    };
    return cmocka_run_group_tests_name("flush", tests, NULL, NULL);
}
