#include "unit.h"

#include "heaps.h"

#define PRODUCERS 3u
#define BATCH 96u
#define ROUNDS 60u

/* One slot per producer: the owner hands over a batch of blocks, the producer frees them and hands the slot back. */
struct slot {
    uint32_t state; /* atomic: 0 the owner's, 1 the producer's, 2 the end. Release store, acquire load */
    unsigned bin;
    unsigned count;
    uint64_t *blocks[BATCH];
    uint32_t damage;
};

static struct slot slots[PRODUCERS];

static void *produce(void *argument)
{
    struct slot *s = argument;
    uint64_t seed = (uintptr_t)s | 1;
    for (;;) {
        uint32_t state;
        while ((state = load_acquire(&s->state)) == 0)
            sched_yield();
        if (state == 2)
            return NULL;
        const unsigned shift = (unsigned)(next_random(&seed) % s->count);
        for (unsigned i = 0; i < s->count; i++) {
            uint64_t *block = s->blocks[(i + shift) % s->count];
            if (*block != (uintptr_t)block)
                s->damage++;
            *block = ~(uintptr_t)block; /* the program's last write: to be over before the block is given out again */
            deliver_block(block, s->bin);
        }
        store_release(&s->state, 0);
    }
}

static void feed(struct heap *h, struct slot *s, unsigned bin)
{
    void *batch[BATCH];
    s->bin = bin;
    s->count = take_blocks(h, bin, batch, BATCH);
    for (unsigned i = 0; i < s->count; i++) {
        s->blocks[i] = batch[i];
        *s->blocks[i] = (uintptr_t)batch[i];
    }
    store_release(&s->state, 1);
}

static void assert_all_came_back(struct heap *h)
{
    drain(h);
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        assert_int_equal(h->bins[bin].outstanding, 0);
        assert_int_equal(listed_slabs(h, bin), h->bins[bin].slab_count);
    }
    age(h, true);
    assert_int_equal(h->slabs_attached + h->slabs_stolen, h->slabs_retired);
}

static void test_nothing_is_lost(void **state)
{
    (void)state;
    const unsigned bins[] = {0, 3, 9, 23, BIN_COUNT - 1};
    struct heap *h = new_heap();
    pthread_t threads[PRODUCERS];
    memset(slots, 0, sizeof slots);
    for (unsigned i = 0; i < PRODUCERS; i++)
        start_thread(&threads[i], produce, &slots[i]);
    for (unsigned fed = 0; fed < ROUNDS * ARRAY_COUNT(bins);) {
        for (unsigned i = 0; i < PRODUCERS; i++) {
            if (load_acquire(&slots[i].state) == 0)
                feed(h, &slots[i], bins[fed++ % ARRAY_COUNT(bins)]);
        }
        drain(h);
    }
    for (unsigned i = 0; i < PRODUCERS; i++) {
        assert_true(WAIT_UNTIL(load_acquire(&slots[i].state) == 0));
        store_release(&slots[i].state, 2);
    }
    for (unsigned i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < PRODUCERS; i++)
        assert_int_equal(slots[i].damage, 0);
    assert_all_came_back(h);
}

/* Owners change under the producers: two heaps are parked by turns and steal from each other. */
static void test_nothing_is_lost_while_slabs_are_stolen(void **state)
{
    (void)state;
    struct heap *heaps[2] = {new_heap(), new_heap()};
    pthread_t threads[PRODUCERS];
    memset(slots, 0, sizeof slots);
    for (unsigned i = 0; i < PRODUCERS; i++)
        start_thread(&threads[i], produce, &slots[i]);
    for (unsigned fed = 0; fed < ROUNDS * 4;) {
        struct heap *active = heaps[fed / 8 % 2];
        struct heap *parked = heaps[1 - fed / 8 % 2];
        set_parked(parked, true);
        for (unsigned i = 0; i < PRODUCERS; i++) {
            if (load_acquire(&slots[i].state) == 0)
                feed(active, &slots[i], fed++ % 2 == 0 ? 19 : 23);
        }
        set_parked(parked, false);
    }
    for (unsigned i = 0; i < PRODUCERS; i++) {
        assert_true(WAIT_UNTIL(load_acquire(&slots[i].state) == 0));
        store_release(&slots[i].state, 2);
    }
    for (unsigned i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    drain(heaps[0]);
    drain(heaps[1]);
    uint64_t stolen = 0, retired = 0, attached = 0;
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
            assert_int_equal(heaps[i]->bins[bin].outstanding, 0);
            assert_int_equal(listed_slabs(heaps[i], bin), heaps[i]->bins[bin].slab_count);
        }
        age(heaps[i], true);
        stolen += heaps[i]->slabs_stolen;
        retired += heaps[i]->slabs_retired;
        attached += heaps[i]->slabs_attached;
    }
    assert_int_equal(attached, retired);
    assert_true(stolen > 0);
    for (unsigned i = 0; i < PRODUCERS; i++)
        assert_int_equal(slots[i].damage, 0);
}

/* Several producers free into the same bitmap word. */
struct share {
    void **blocks;
    unsigned first, count;
};

static void *free_every_fourth(void *argument)
{
    const struct share *s = argument;
    for (unsigned i = s->first; i < s->count; i += 4)
        deliver_block(s->blocks[i], 3);
    return NULL;
}

static void test_shared_words(void **state)
{
    (void)state;
    static void *blocks[2048];
    struct heap *h = new_heap();
    for (unsigned round = 0; round < 10; round++) {
        const unsigned count = take_blocks(h, 3, blocks, 2048);
        struct share shares[4];
        for (unsigned i = 0; i < 4; i++)
            shares[i] = (struct share){blocks, i, count};
        run_threads(4, free_every_fourth, shares, sizeof shares[0]);
        drain(h);
        assert_int_equal(h->bins[3].outstanding, 0);
    }
    assert_all_came_back(h);
}

static void test_stack_takes_all(void **state)
{
    (void)state;
    uint32_t head = SLAB_NONE;
    const uint32_t slab = window.first_superslab * SUPERSLAB_SLABS;
    remote_push(&head, slab + 5);
    remote_push(&head, slab + 1);
    remote_push(&head, slab + 9);
    assert_int_equal(head, slab + 9);
    assert_int_equal(remote_at(slab + 9)->next, slab + 1);
    assert_int_equal(remote_at(slab + 1)->next, slab + 5);
    assert_int_equal(remote_at(slab + 5)->next, SLAB_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_lost),
        cmocka_unit_test(test_nothing_is_lost_while_slabs_are_stolen),
        cmocka_unit_test(test_shared_words),
        cmocka_unit_test(test_stack_takes_all),
    };
    return cmocka_run_group_tests_name("remote", tests, NULL, NULL);
}
