/* Says whether the process has a thread named "hakmem" at the end of one of these lives:
 *   single    one thread
 *   threads   a thread by pthread_create
 *   c11       a thread by thrd_create
 *   fork      as threads; then a child, a child with a thread of its own, and that one's child
 *   leave     as threads; then main ends by pthread_exit, and the last thread, which says so, a moment later
 *   churn     as threads; exits while four threads use malloc
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

static int count_named(void)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        char path[300], name[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        FILE *f = fopen(path, "r");
        if (f != NULL) {
            count += fgets(name, sizeof name, f) != NULL && strcmp(name, "hakmem\n") == 0;
            fclose(f);
        }
    }
    closedir(tasks);
    return count;
}

/* A thread that has just been created may not have its name yet. */
static void say(const char *when)
{
    int count = 0;
    for (int i = 0; i < 30 && count == 0; i++) {
        sleep_ms(10);
        count = count_named();
    }
    printf("%s %s\n", when, count == 0 ? "no" : count == 1 ? "yes" : "many");
    fflush(stdout);
}

static void *nothing(void *value)
{
    free(malloc(100));
    return value;
}

static int nothing_c11(void *value)
{
    return nothing(value) != NULL;
}

static void *use_malloc(void *unused)
{
    for (unsigned i = 0;; i++) {
        char *p = malloc(i * 7919 % 100000);
        p[0] = 1;
        free(p);
    }
    return unused;
}

static void *last_thread(void *unused)
{
    sleep_ms(300);
    puts("the last thread ends");
    return unused;
}

static void say_exit(void)
{
    puts("exit");
}

static void create(void)
{
    pthread_t thread;
    void *value;
    errno = EDOM;
    if (pthread_create(&thread, NULL, nothing, &thread) != 0 || errno != EDOM)
        puts("pthread_create failed or changed errno");
    if (pthread_join(thread, &value) != 0 || value != &thread)
        puts("pthread_join failed");
}

static void await(pid_t child)
{
    int status;
    waitpid(child, &status, 0);
    if (status != 0)
        printf("a child's wait status is 0x%x\n", status);
    fflush(stdout);
}

static void forks(void)
{
    pid_t child = fork();
    if (child == 0) {
        free(malloc(100));
        say("child");
        create();
        say("child with a thread");
        child = fork();
        if (child == 0) {
            free(malloc(100000));
            say("grandchild");
            _exit(0);
        }
        await(child);
        _exit(0);
    }
    await(child);
}

int main(int argc, char **argv)
{
    const char *life = argc > 1 ? argv[1] : "";
    pthread_t thread;
    free(malloc(100));
    if (strcmp(life, "single") == 0) {
        say("single");
        return 0;
    }
    if (strcmp(life, "c11") == 0) {
        thrd_t other;
        int result = 0;
        if (thrd_create(&other, nothing_c11, &other) != thrd_success || thrd_join(other, &result) != thrd_success)
            puts("thrd_create failed");
        printf("c11: %d\n", result);
        say("c11");
        return 0;
    }
    create();
    say("threads");
    if (strcmp(life, "fork") == 0)
        forks();
    if (strcmp(life, "leave") == 0) {
        atexit(say_exit);
        pthread_create(&thread, NULL, last_thread, NULL);
        pthread_exit(NULL);
    }
    if (strcmp(life, "churn") == 0) {
        for (int i = 0; i < 4; i++)
            pthread_create(&thread, NULL, use_malloc, NULL);
        sleep_ms(50);
    }
    return 0;
}
