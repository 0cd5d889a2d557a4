/* A kernel of the test's own, as far as huge pages and time are concerned: it replaces functions of the os layer, so one
 * file of a program may include it. */
#ifndef HAKMEM_TESTS_FAKE_KERNEL_H
#define HAKMEM_TESTS_FAKE_KERNEL_H

#include "arena/window.h"
#include "os/os.h"

static enum os_huge_page_mode mode;
static uint64_t clock_ms;
static bool kernel_refuses;
static struct {
    uintptr_t address;
    size_t bytes;
    bool is_huge;
} last; /* advice about the window's SuperSlabs */
static unsigned advice_count;

enum os_huge_page_mode os_huge_page_mode(void)
{
    return mode;
}

uint64_t os_clock_ms(void)
{
    return load_relaxed(&clock_ms);
}

static bool note_advice(void *address, size_t bytes, bool is_huge)
{
    uintptr_t first = window.base + ((uintptr_t)window.first_superslab << SUPERSLAB_SHIFT);
    if ((uintptr_t)address < first || (uintptr_t)address >= (uintptr_t)window.slabs)
        return true; /* metadata */
    if (kernel_refuses)
        return false;
    last.address = (uintptr_t)address;
    last.bytes = bytes;
    last.is_huge = is_huge;
    fetch_add_relaxed(&advice_count, 1);
    return true;
}

bool os_advise_huge(void *address, size_t bytes)
{
    return note_advice(address, bytes, true);
}

bool os_no_huge_pages(void *address, size_t bytes)
{
    return note_advice(address, bytes, false);
}

#endif
