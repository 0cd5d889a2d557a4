/* Memory nodes: on machines with several, memory is near some cores and far from others. */
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/os.h"

uint32_t os_nodes;

/* glibc's (2.29) goes through the vDSO, which no sandbox sees; other libcs have none. */
extern int getcpu(unsigned *cpu, unsigned *node) __attribute__((weak));

/* A list such as "0", "0-3" or "0,2-3,8". The highest number counts, for nodes are told apart by number. */
uint32_t os_node_count_in(const char *path)
{
    char text[128];
    if (!os_read_text(path, text, sizeof text))
        return 1;
    uint32_t highest = 0, number = 0;
    for (const char *at = text; *at != '\0'; at++) {
        bool is_digit = *at >= '0' && *at <= '9';
        number = is_digit ? number * 10 + (uint32_t)(*at - '0') : 0;
        if (number > highest)
            highest = number;
        if (highest >= OS_NODES_MAX)
            return 1; /* more than any kernel has: not such a list */
    }
    return highest + 1;
}

uint32_t os_node_count(void)
{
    uint32_t nodes = load_relaxed(&os_nodes);
    if (nodes == 0) {
        nodes = os_node_count_in("/sys/devices/system/node/online");
        store_relaxed(&os_nodes, nodes);
    }
    return nodes;
}

OS_REPLACEABLE uint32_t os_current_node(void)
{
    unsigned cpu, node = 0;
    int saved = errno;
    if ((getcpu != NULL ? getcpu(&cpu, &node) : (int)syscall(SYS_getcpu, &cpu, &node, NULL)) != 0)
        node = 0;
    errno = saved;
    return node;
}
