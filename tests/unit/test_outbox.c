#include "unit.h"

#include "arena/superslab.h"
#include "heaps.h"
#include "tcache/outbox.h"

#define BIN_48 2u
#define BIN_64 3u
#define BIN_2048 23u
#define BIN_8K 32u

static void *blocks[2048];
static struct outbox box;

static int clear(void **state)
{
    (void)state;
    memset(&box, 0, sizeof box);
    outbox_init(&box, 32768 * OUTBOX_BUDGET_SHARE);
    return 0;
}

static void add(void *block, unsigned bin)
{
    const uint32_t slab = slab_of(block, bin);
    outbox_add(&box, slab, bin, slab_block_number(bin_info(bin), block));
}

static unsigned used_entries(void)
{
    unsigned used = 0;
    for (unsigned i = 0; i < OUTBOX_ENTRIES; i++)
        used += box.entries[i].key != 0;
    return used;
}

static const struct bin_info *info_of(uint64_t key)
{
    return bin_info_of_map_word(*window_word((uint32_t)window_slab_index((void *)(uintptr_t)key)));
}

static uint32_t entry_bytes(void)
{
    uint32_t bytes = 0;
    for (unsigned i = 0; i < OUTBOX_ENTRIES; i++)
        if (box.entries[i].key != 0)
            bytes += count_bits(box.entries[i].mask) * info_of(box.entries[i].key)->block_bytes;
    return bytes;
}

static void assert_all_back(struct heap *h, unsigned bin)
{
    outbox_deliver_all(&box);
    assert_int_equal(box.held_bytes, 0);
    assert_int_equal(used_entries(), 0);
    drain(h);
    assert_int_equal(h->bins[bin].outstanding, 0);
    age(h, true);
}

static void test_one_delivery_for_a_word(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    take_blocks(h, BIN_64, blocks, 64);
    for (unsigned i = 0; i < 64; i++) {
        add(blocks[i * 37 % 64], BIN_64);
        assert_int_equal(box.held_bytes, (i + 1) * 64);
    }
    assert_int_equal(used_entries(), 1);
    assert_int_equal(box.delivery_count, 0);
    assert_int_equal(h->remote_stack, SLAB_NONE); /* nothing has left yet */
    outbox_deliver_all(&box);
    assert_int_equal(box.delivery_count, 1);
    assert_int_equal(box.delivered_blocks, 64);
    assert_int_equal(h->remote_stack, slab_of(blocks[0], BIN_64));
    assert_all_back(h, BIN_64);
}

/* What an outbox holds that serves a producer: of a dozen slabs side by side the first words. Were entries chosen as if at
 * random, a quarter of only 36 words would share theirs. */
static void test_first_words_of_slabs_do_not_meet(void **state)
{
    (void)state;
    enum { SLABS = 12, WORDS = 8 };
    for (uint64_t first = 1; first <= 256; first++) {
        uint64_t taken[OUTBOX_ENTRIES / 64] = {0};
        for (uint64_t i = 0; i < SLABS * WORDS; i++) {
            const uintptr_t run = window.base + ((first + i / WORDS) << SLAB_SHIFT);
            const uint64_t at = (uint64_t)(outbox_slot(&box, outbox_key(run, i % WORDS)) - box.entries);
            assert_in_range(at, 0, OUTBOX_ENTRIES - 1);
            assert_int_equal(taken[at / 64] >> at % 64 & 1, 0);
            taken[at / 64] |= (uint64_t)1 << at % 64;
        }
    }
}

static void test_held_bytes_are_bounded(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const unsigned bins[] = {0, 9, BIN_2048, 30};
    for (unsigned b = 0; b < ARRAY_COUNT(bins); b++) {
        const unsigned count = take_blocks(h, bins[b], blocks, 2048);
        for (unsigned i = 0; i < count; i++) {
            add(blocks[i], bins[b]);
            assert_true(box.held_bytes <= box.max_bytes);
            assert_int_equal(box.held_bytes, entry_bytes());
        }
        assert_all_back(h, bins[b]);
    }
}

/* A full outbox makes room word by word, all in turns: no free waits for all of it, and none stays for ever. */
static void test_room_is_made_in_turns(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const uint32_t word = 64 * bin_info(BIN_64)->block_bytes;
    box.max_bytes = 4 * word;
    const unsigned count = take_blocks(h, BIN_64, blocks, 2048);
    unsigned busy = 0;
    for (unsigned i = 0; i < count; i++) {
        const uint64_t before = box.delivery_count;
        add(blocks[i], BIN_64);
        assert_in_range(box.delivery_count - before, 0, 1);
        busy += box.delivery_count != before;
        assert_true(box.held_bytes <= box.max_bytes);
    }
    assert_true(busy >= count / 64 - 8);
    assert_true(box.delivered_blocks >= count - 4 * 64);
    assert_true(box.delivery_count <= count / 64 + 4); /* whole words, but for those that met in an entry */
    assert_all_back(h, BIN_64);
}

static void test_big_blocks_go_at_once(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    for (unsigned bin = 20; bin < BIN_COUNT; bin++) {
        const uint64_t delivered = box.delivered_blocks;
        const bool is_direct = bin_info(bin)->block_bytes >= OUTBOX_DIRECT_BYTES;
        take_blocks(h, bin, blocks, 1);
        add(blocks[0], bin);
        assert_int_equal(box.delivered_blocks - delivered, is_direct);
        assert_int_equal(box.held_bytes, is_direct ? 0 : bin_info(bin)->block_bytes);
        assert_all_back(h, bin);
    }
    assert_true(bin_info(BIN_8K)->block_bytes == OUTBOX_DIRECT_BYTES);
}

/* Two words that meet in one entry: the older one leaves. Nothing is lost and nothing mixed up. */
static void test_many_words(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const unsigned bins[] = {0, BIN_64, 12, 19};
    for (unsigned b = 0; b < ARRAY_COUNT(bins); b++) {
        const unsigned count = take_slabs(h, bins[b], blocks, bins[b] == 0 ? 0 : 2);
        const unsigned more = count == 0 ? take_blocks(h, bins[b], blocks, 2048) : count;
        uint64_t seed = 9;
        for (unsigned i = more; i > 0; i--) {
            const unsigned at = (unsigned)(next_random(&seed) % i);
            add(blocks[at], bins[b]);
            blocks[at] = blocks[i - 1];
        }
        assert_true(box.delivery_count <= box.delivered_blocks);
        assert_all_back(h, bins[b]);
        assert_int_equal(h->bins[bins[b]].collected_blocks, more);
    }
}

static void test_blocks_of_many_heaps(void **state)
{
    (void)state;
    struct heap *heaps[6];
    for (unsigned i = 0; i < ARRAY_COUNT(heaps); i++) {
        heaps[i] = new_heap();
        take_blocks(heaps[i], BIN_2048, blocks + i, 1);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(heaps); i++)
        add(blocks[i], BIN_2048);
    for (unsigned i = 0; i < ARRAY_COUNT(heaps); i++)
        assert_all_back(heaps[i], BIN_2048);
}

static void add_twice(void *block)
{
    add(block, BIN_64);
    add(block, BIN_64);
}

static void deliver_all(void *unused)
{
    (void)unused;
    outbox_deliver_all(&box);
}

static void add_after_delivery(void *block)
{
    add(block, BIN_64);
    outbox_deliver_all(&box);
    add(block, BIN_64);
    outbox_deliver_all(&box);
}

static void test_double_free_is_fatal(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    take_blocks(h, BIN_64, blocks, 70);
    assert_aborts(add_twice, blocks[69], "double free", blocks[69]);
    assert_aborts(add_after_delivery, blocks[69], "double free", blocks[69]);
    for (unsigned i = 0; i < 70; i++)
        add(blocks[i], BIN_64);
    assert_all_back(h, BIN_64);
}

static void join_and_deliver(void *block)
{
    const uint64_t number = bin_block_index(bin_info(BIN_48), (uint32_t)((uintptr_t)block % SLAB_BYTES));
    assert_true(outbox_join(&box, outbox_key(align_down((uintptr_t)block, SLAB_BYTES), number / 64), number, 48));
    outbox_deliver_all(&box);
}

/* A slab of 1365 blocks of 48 bytes leaves 16 bytes, which begin where one more block would. */
static void test_block_behind_the_last(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const unsigned count = take_slabs(h, BIN_48, blocks, 1);
    assert_int_equal(count, bin_info(BIN_48)->block_count);
    add(blocks[count - 1], BIN_48);
    assert_aborts(join_and_deliver, (char *)blocks[count - 1] + 48, "free of a pointer into the middle of a block",
                  (char *)blocks[count - 1] + 48);
    join_and_deliver(blocks[count - 2]);
    heap_flush(h, BIN_48, blocks, count - 2);
    assert_all_back(h, BIN_48);
}

static void test_slab_that_is_gone(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    take_blocks(h, BIN_64, blocks, 1);
    add(blocks[0], BIN_64);
    heap_flush(h, BIN_64, blocks, 1);
    age(h, true);
    assert_aborts(deliver_all, NULL, "double free, in the slab at", (void *)align_down((uintptr_t)blocks[0], SLAB_BYTES));
    outbox_forget(&box);
}

/* A block that waits here is freed again by its owner, and its slab goes to another bin. */
static uintptr_t free_twice(struct heap *h, unsigned bin, unsigned other)
{
    take_blocks(h, bin, blocks, 1);
    const uintptr_t slab = align_down((uintptr_t)blocks[0], SLAB_BYTES);
    add(blocks[0], bin);
    heap_flush(h, bin, blocks, 1);
    age(h, true);
    take_blocks(h, other, blocks, 2);
    assert_int_equal(align_down((uintptr_t)blocks[0], SLAB_BYTES), slab);
    return slab;
}

static void add_beyond_room(void *block)
{
    alarm(10); /* room was once made for ever */
    box.max_bytes = 1024;
    add(block, BIN_64);
}

static void test_slab_of_another_bin_by_now(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const uintptr_t slab = free_twice(h, BIN_64, BIN_2048);
    assert_aborts(deliver_all, NULL, "double free, in the slab at", (void *)slab);
    outbox_forget(&box);
    heap_flush(h, BIN_2048, blocks, 2);
    age(h, true);
    free_twice(h, BIN_2048, BIN_64);
    outbox_deliver_all(&box);
    assert_aborts(add_beyond_room, blocks[1], "double free, in a slab that has other blocks by now", NULL);
    outbox_forget(&box);
}

static void test_forget(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    take_blocks(h, BIN_64, blocks, 3);
    for (unsigned i = 0; i < 3; i++)
        add(blocks[i], BIN_64);
    outbox_forget(&box);
    assert_int_equal(box.held_bytes, 0);
    assert_int_equal(used_entries(), 0);
    outbox_deliver_all(&box);
    assert_int_equal(box.delivery_count, 0);
    drain(h);
    assert_int_equal(h->bins[BIN_64].outstanding, 3); /* lost to the program, as is meant */
    heap_flush(h, BIN_64, blocks, 3);
    age(h, true);
}

static void test_holds_a_part_of_the_budget(void **state)
{
    (void)state;
    outbox_init(&box, 262144);
    assert_int_equal(box.max_bytes, 262144 / OUTBOX_BUDGET_SHARE);
    outbox_init(&box, (uint64_t)1 << 40);
    assert_int_equal(box.max_bytes, OUTBOX_MAX_BYTES);
}

/* What was delivered is collected where its owner sleeps, but only in a process that may leave a burst. */
static void test_a_sleeping_owner_is_helped(void **state)
{
    (void)state;
    enum { COUNT = 256, BYTES = COUNT * 2048, WIDE = 600 };
    bool zeroed;
    struct heap *h = new_heap();
    take_blocks(h, BIN_2048, blocks, 2 * COUNT);
    for (unsigned i = 0; i < COUNT; i++)
        add(blocks[i], BIN_2048);
    outbox_deliver_all(&box);
    assert_int_equal(box.delivered_bytes, BYTES);
    superslab_counts.fallen = 0;
    assert_int_equal(outbox_help_owner(&box), 0);
    const uint32_t wide = arena_alloc(WIDE, 1, NULL, &zeroed);
    assert_int_equal(outbox_help_owner(&box), BYTES); /* the first look only sees that the heap has moved */
    assert_int_equal(h->bins[BIN_2048].outstanding, 2 * COUNT);
    assert_int_equal(outbox_help_owner(&box), 0); /* and now nothing has come */
    for (unsigned i = COUNT; i < 2 * COUNT; i++)
        add(blocks[i], BIN_2048);
    outbox_deliver_all(&box);
    assert_int_equal(outbox_help_owner(&box), BYTES);
    assert_int_equal(h->bins[BIN_2048].outstanding, 0);
    arena_free(wide, WIDE);
    assert_all_back(h, BIN_2048);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_one_delivery_for_a_word, clear),
        cmocka_unit_test_setup(test_first_words_of_slabs_do_not_meet, clear),
        cmocka_unit_test_setup(test_held_bytes_are_bounded, clear),
        cmocka_unit_test_setup(test_room_is_made_in_turns, clear),
        cmocka_unit_test_setup(test_big_blocks_go_at_once, clear),
        cmocka_unit_test_setup(test_many_words, clear),
        cmocka_unit_test_setup(test_blocks_of_many_heaps, clear),
        cmocka_unit_test_setup(test_double_free_is_fatal, clear),
        cmocka_unit_test_setup(test_block_behind_the_last, clear),
        cmocka_unit_test_setup(test_slab_that_is_gone, clear),
        cmocka_unit_test_setup(test_slab_of_another_bin_by_now, clear),
        cmocka_unit_test_setup(test_forget, clear),
        cmocka_unit_test(test_holds_a_part_of_the_budget),
        cmocka_unit_test_setup(test_a_sleeping_owner_is_helped, clear),
    };
    return cmocka_run_group_tests_name("outbox", tests, NULL, NULL);
}
