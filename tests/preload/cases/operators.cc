// The 8 operators new and the 12 operators delete, called by name; std::bad_alloc, nothrow and new-handlers.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

static int failures;

#define EXPECT(cond)                                               \
    do {                                                           \
        if (!(cond)) {                                             \
            std::printf("line %d: not true: %s\n", __LINE__, #cond); \
            failures++;                                            \
        }                                                          \
    } while (0)

using A = std::align_val_t;

static void *filled(void *p, std::size_t n, std::size_t align = 16)
{
    EXPECT(p != nullptr);
    EXPECT(reinterpret_cast<std::uintptr_t>(p) % align == 0);
    std::memset(p, 0x5a, n);
    return p;
}

static void every_operator(std::size_t n, std::size_t align)
{
    const std::nothrow_t &nt = std::nothrow;
    A a = static_cast<A>(align);
    // plain, array; each freed by every legal form
    ::operator delete(filled(::operator new(n), n));
    ::operator delete(filled(::operator new(n), n), n);
    ::operator delete(filled(::operator new(n), n), nt);
    ::operator delete[](filled(::operator new[](n), n));
    ::operator delete[](filled(::operator new[](n), n), n);
    ::operator delete[](filled(::operator new[](n), n), nt);
    ::operator delete(filled(::operator new(n, nt), n));
    ::operator delete(filled(::operator new(n, nt), n), n);
    ::operator delete[](filled(::operator new[](n, nt), n));
    ::operator delete[](filled(::operator new[](n, nt), n), n);
    // aligned
    ::operator delete(filled(::operator new(n, a), n, align), a);
    ::operator delete(filled(::operator new(n, a), n, align), n, a);
    ::operator delete(filled(::operator new(n, a), n, align), a, nt);
    ::operator delete[](filled(::operator new[](n, a), n, align), a);
    ::operator delete[](filled(::operator new[](n, a), n, align), n, a);
    ::operator delete[](filled(::operator new[](n, a), n, align), a, nt);
    ::operator delete(filled(::operator new(n, a, nt), n, align), a);
    ::operator delete[](filled(::operator new[](n, a, nt), n, align), n, a);
}

static int handler_calls;

// A pair of new and delete that nobody looks at may be left out by the compiler; what goes through here may not.
static void *volatile sink;

static void giving_up_handler()
{
    if (++handler_calls == 3)
        std::set_new_handler(nullptr);
}

struct Other {};

static void throwing_handler()
{
    throw Other();
}

template <typename F> static const char *thrown(F f)
{
    try {
        f();
    } catch (const std::bad_alloc &e) {
        // The word is libstdc++'s own: whoever catches sees the same as without the library.
        return std::strcmp(e.what(), "std::bad_alloc") ? "bad_alloc of an unknown make" : "bad_alloc";
    } catch (const Other &) {
        return "other";
    }
    return "nothing";
}

int main(int argc, char **)
{
    for (std::size_t n : {0, 1, 8, 24, 64, 200, 1000, 2000, 2049, 5000, 40000, 300000, 5000000})
        for (std::size_t align : {16, 32, 64, 256, 4096, 65536, 1 << 21})
            every_operator(n, align);
    ::operator delete(nullptr);
    ::operator delete[](nullptr, std::size_t(8));
    ::operator delete(nullptr, A(64));

    // volatile: the compiler knows sizes that cannot be had
    volatile std::size_t impossible = PTRDIFF_MAX;
    volatile std::size_t too_much = SIZE_MAX - 100;
    for (std::size_t n : {std::size_t(impossible), std::size_t(too_much)}) {
        EXPECT(::operator new(n, std::nothrow) == nullptr);
        EXPECT(::operator new[](n, std::nothrow) == nullptr);
        std::printf("new %s\n", thrown([n] { sink = ::operator new(n); }));
        std::printf("new[] %s\n", thrown([n] { sink = ::operator new[](n); }));
        // libstdc++ rounds an aligned size up without a look at overflow and then returns a block of nothing, so this
        // one is only asked of the library (with an argument).
        if (n == too_much && argc == 1)
            continue;
        EXPECT(::operator new(n, A(64), std::nothrow) == nullptr);
        EXPECT(::operator new[](n, A(64), std::nothrow) == nullptr);
        std::printf("aligned new %s\n", thrown([n] { sink = ::operator new(n, A(128)); }));
        std::printf("aligned new[] %s\n", thrown([n] { sink = ::operator new[](n, A(128)); }));
    }

    std::set_new_handler(giving_up_handler);
    std::printf("handler that gives up: %s\n", thrown([=] { sink = ::operator new(impossible); }));
    std::printf("it was called %d times\n", handler_calls);
    handler_calls = 0;
    std::set_new_handler(giving_up_handler);
    EXPECT(::operator new(impossible, std::nothrow) == nullptr); // nothrow calls the handler as well
    std::printf("under nothrow %d times\n", handler_calls);
    handler_calls = 0;
    std::set_new_handler(giving_up_handler);
    std::printf("aligned: %s\n", thrown([=] { sink = ::operator new(impossible, A(256)); }));
    std::printf("it was called %d times\n", handler_calls);
    std::set_new_handler(throwing_handler);
    std::printf("handler that throws: %s\n", thrown([=] { sink = ::operator new[](impossible); }));
    std::set_new_handler(nullptr);

    // After all these failures the heap still serves.
    for (int i = 0; i < 1000; i++)
        every_operator(i, 64);
    std::printf("%d failures\n", failures);
    return failures != 0;
}
