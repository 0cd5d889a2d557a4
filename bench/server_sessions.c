/* server_sessions: what does a server cost whose sessions outlive their requests by far?
 *
 * Workload: our own. Each thread has 512 sessions of nine blocks, 4 KiB together. A request picks one at random,
 * allocates 4..19 blocks of 16 bytes to 2 KiB, most of them small, frees half of them at once and the rest when it
 * ends; one request in eight replaces a block of its session. One in 64 ends the session instead, and another is
 * opened in its stead. With several threads every second session that ends is handed over: into the mailbox of
 * another thread, 16 at a time, which frees them as soon as it looks. So short-lived blocks lie between long-lived
 * ones, and some of those are freed from elsewhere, in bursts. An operation is one malloc or one free. */
#define _GNU_SOURCE
#include "mailbox.h"
#include "session.h"

#define SESSION_ENDS_ONE_OF 64 /* requests */
#define PARCEL_SESSIONS 16
#define MAILBOX_SESSIONS_MAX 1024

static uint64_t session_count = 512;
static struct bench_mailbox *mailboxes; /* one per thread */

/* The state of a worker. */
struct server {
    struct bench_parcel outgoing;
    struct session *session[];
};

/* Frees what others have sent and sends what is ready; what nobody takes is freed here. */
static inline __attribute__((always_inline)) uint64_t exchange(struct bench_worker *worker, uint32_t random,
                                                               const bool check)
{
    struct server *server = worker->state;
    uint64_t salt = worker->options->seed; /* the same for all threads: one verifies what another wrote */
    uint64_t threads = worker->options->threads;
    struct bench_parcel arrived = bench_mailbox_take(&mailboxes[worker->index], false);
    uint64_t ops = session_close_all(&arrived, salt, check);
    if (server->outgoing.count >= PARCEL_SESSIONS) {
        uint64_t other = (worker->index + 1 + bench_scale(random, (uint32_t)threads - 1)) % threads;
        if (!bench_mailbox_send(&mailboxes[other], &server->outgoing, MAILBOX_SESSIONS_MAX)) {
            ops += session_close_all(&server->outgoing, salt, check);
        }
    }
    return ops;
}

static inline __attribute__((always_inline)) uint64_t run_batch(struct bench_worker *worker, uint64_t ops,
                                                                const bool check)
{
    struct server *server = worker->state;
    bool alone = worker->options->threads == 1;
    uint64_t salt = worker->options->seed;
    uint64_t done = 0;
    while (done < ops) {
        uint64_t draw = bench_random(&worker->random);
        struct session **session = &server->session[bench_scale((uint32_t)draw, (uint32_t)session_count)];
        if ((draw >> 32) % SESSION_ENDS_ONE_OF != 0) {
            done += session_serve(*session, &worker->random, salt, check);
            continue;
        }
        if (alone || (draw >> 40) % 2 == 0) {
            done += session_close(*session, salt, check);
        } else {
            bench_parcel_add(&server->outgoing, &(*session)->letter);
        }
        *session = session_open(&worker->random, salt, check);
        done += SESSION_BLOCKS;
        if (!alone) {
            done += exchange(worker, (uint32_t)(bench_random(&worker->random) >> 32), check);
        }
    }
    return done;
}

BENCH_DEFINE_RUN(run_batch, ops)

static void prepare(struct bench_worker *worker)
{
    struct server *server = worker->state;
    for (uint64_t i = 0; i < session_count; i++) {
        server->session[i] = session_open(&worker->random, worker->options->seed, worker->options->check);
    }
}

static void finish(struct bench_worker *worker)
{
    struct server *server = worker->state;
    uint64_t salt = worker->options->seed;
    bool check = worker->options->check;
    struct bench_parcel arrived = bench_mailbox_take(&mailboxes[worker->index], true);
    session_close_all(&arrived, salt, check);
    session_close_all(&server->outgoing, salt, check);
    for (uint64_t i = 0; i < session_count; i++) {
        session_close(server->session[i], salt, check);
    }
}

int main(int argc, char **argv)
{
    struct bench_options options = {.seconds = 1.0, .threads = 1, .seed = 42};
    const struct bench_extra extras[] = {
        {"sessions", "sessions open per thread", &session_count, 1, 1 << 20},
    };
    bench_parse(argc, argv, "server_sessions: long-lived sessions, short-lived requests", &options, extras,
                sizeof extras / sizeof extras[0]);
    mailboxes = bench_map(options.threads * sizeof *mailboxes);
    for (uint64_t i = 0; i < options.threads; i++) {
        pthread_mutex_init(&mailboxes[i].lock, NULL);
    }
    const struct bench_workload workload = {
        .name = "server_sessions",
        .state_bytes = sizeof(struct server) + session_count * sizeof(struct session *),
        .ops_per_batch = 8192,
        .prepare = prepare,
        .run = run,
        .finish = finish,
    };
    return bench_run(&workload, &options);
}
