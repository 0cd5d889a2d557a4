// Static objects that allocate before main and free after it, in an order that the linker chose.
#include <cstdio>
#include <map>
#include <string>
#include <vector>

struct Keeper {
    std::map<int, std::string> map;
    explicit Keeper(int n)
    {
        for (int i = 0; i < 2000; i++)
            map[i * n % 1999] = std::string(i % 300, 'k');
    }
    ~Keeper()
    {
        std::size_t sum = 0;
        for (auto &m : map)
            sum += m.second.size();
        std::vector<std::string> more(200, std::string(100, 'm'));
        std::printf("kept %zu, %zu more\n", sum, more.size());
    }
};

__attribute__((init_priority(101))) static Keeper first(3);
static Keeper second(7);
static thread_local Keeper in_thread(11);

int main()
{
    std::printf("%zu %zu %zu\n", first.map.size(), second.map.size(), in_thread.map.size());
    return 0;
}
