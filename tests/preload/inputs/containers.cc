// Containers, strings, exceptions and threads of C++: every operator new and delete that a compiler emits.
#include <algorithm>
#include <cstdio>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

struct alignas(128) Wide {
    char bytes[128];
};

static unsigned long thrower(int depth)
{
    std::string name(depth % 90 + 1, 'e');
    if (depth % 7 == 6)
        throw std::runtime_error(name);
    return name.size() + (depth ? thrower(depth - 1) : 0);
}

static unsigned long work(unsigned seed)
{
    std::map<unsigned, std::string> ordered;
    std::unordered_map<std::string, std::vector<int>> hashed;
    std::list<std::shared_ptr<Wide>> wide;
    std::deque<std::unique_ptr<int[]>> rows;
    unsigned long sum = 0, x = seed;
    for (int i = 0; i < 20000; i++) {
        x = (x * 1103515245 + 12345) & 0x7fffffff;
        ordered[x % 4096] = std::string(x % 200, 'a' + x % 26);
        hashed["key" + std::to_string(x % 512)].push_back(i);
        if (x % 8 == 0)
            wide.push_back(std::make_shared<Wide>());
        if (x % 16 == 0 && !wide.empty())
            wide.pop_front();
        rows.emplace_back(new int[x % 64 + 1]());
        if (rows.size() > 300)
            rows.pop_front();
        try {
            sum += thrower(x % 12);
        } catch (const std::exception &e) {
            sum += std::string(e.what()).size() * 3;
        }
    }
    for (auto &w : wide)
        sum += reinterpret_cast<unsigned long>(w.get()) % 128;
    for (auto &o : ordered)
        sum += o.first * o.second.size();
    for (auto &h : hashed)
        sum += h.second.size() * h.first.size();
    return sum;
}

int main()
{
    std::vector<unsigned long> sums(6);
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < sums.size(); i++)
        threads.emplace_back([&sums, i] { sums[i] = work(i + 1); });
    for (auto &t : threads)
        t.join();
    for (auto s : sums)
        std::printf("%lu\n", s);
    try {
        std::vector<char> huge;
        huge.resize(huge.max_size());
    } catch (const std::bad_alloc &e) {
        std::printf("bad_alloc\n");
    } catch (const std::length_error &) {
        std::printf("length_error\n");
    }
    std::sort(sums.rbegin(), sums.rend());
    std::printf("%lu\n", sums.front());
    return 0;
}
