/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A thousand processes that share an arena are killed, each wherever it is just then: in the middle of a claim, of a
 * cancel, of a binding. One process survives, and nothing hangs there, is lost or grows. Under a sanitizer, or an
 * emulator, a tenth of them. B5.
 */
#include "support.h"

#include <cctx/shared.h>
#include <fcntl.h>
#include <poll.h>

enum { WORKERS = 4, CAPACITY = 24, TOKENS = 32, KEPT = 16, LONG = 60 };

/* What all see. */
struct board {
    uint64_t token[TOKENS];
    uint64_t operations;
};
static struct board *board;
static cctx_shared_t *arena;

static uint64_t token_get(rng_t *rng) { return __atomic_load_n(&board->token[rng_below(rng, TOKENS)], __ATOMIC_ACQUIRE); }

/* ---- who is killed ---- */

static void work_once(rng_t *rng, cctx_shared_t *mine, cctx_t **kept)
{
    cctx_token_t token;
    switch (rng_below(rng, 8)) {
    case 0:
    case 1:
        token = cctx_shared_token(mine, rng_below(rng, 2) ? CCTX_NEVER : cctx_now() + (int64_t)rng_below(rng, 2000000));
        CHECK(token != 0 || errno == ENOSPC);
        if (token)
            __atomic_store_n(&board->token[rng_below(rng, TOKENS)], token, __ATOMIC_RELEASE);
        break;
    case 2:
    case 3:
    case 4: cctx_shared_cancel(mine, token_get(rng)); break;
    case 5:
        cctx_unref(*kept);
        token = token_get(rng);
        *kept = token ? cctx_with_shared(cctx_background(), mine, token) : NULL;
        CHECK(*kept || !token);
        break;
    case 6:
        if (*kept)
            cctx_wait_for(*kept, (int64_t)rng_below(rng, 200000));
        break;
    default: {
        cctx_t *ctx = cctx_with_shared(cctx_background(), mine, token = token_get(rng));
        CHECK(ctx || !token);
        cctx_shared_cancel(mine, token);
        if (ctx)
            cctx_wait(ctx);
        cctx_unref(ctx);
    }
    }
}

static void worker_work(uint64_t stream, cctx_shared_t *mine)
{
    rng_t rng = rng_make(test_seed_value, stream);
    watchdog(LONG);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (cctx_t *kept[3] = {NULL};;) {
        work_once(&rng, mine, &kept[rng_below(&rng, 3)]);
        __atomic_fetch_add(&board->operations, 1, __ATOMIC_RELAXED);
    }
}

static int board_fd;

static struct board *board_map(int fd)
{
    struct board *map = mmap(NULL, sizeof *map, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    return map;
}

/* This program anew, where the child of a fork may make no threads. */
static void worker_exec(uint64_t stream)
{
    char self[] = "/proc/self/exe", name[] = "worker", word[4][24];
    snprintf(word[0], sizeof word[0], "%d", dup(cctx_shared_fd(arena)));
    snprintf(word[1], sizeof word[1], "%d", dup(board_fd));
    snprintf(word[2], sizeof word[2], "%" PRIu64, stream);
    snprintf(word[3], sizeof word[3], "%" PRIu64, test_seed_value);
    char *argv[] = {self, name, word[0], word[1], word[2], word[3], NULL};
    execv(self, argv);
    CHECK(!"execv");
}
static void worker_anew(char **argv)
{
    test_seed_value = strtoull(argv[5], NULL, 0);
    board = board_map(atoi(argv[3]));
    cctx_shared_t *mine = cctx_shared_attach(atoi(argv[2]));
    CHECK(mine != NULL);
    worker_work(strtoull(argv[4], NULL, 0), mine);
}

static pid_t worker_start(uint64_t stream)
{
    bool anew = !threads_after_fork();
    await_rest();
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid > 0)
        return pid;
    if (anew)
        worker_exec(stream);
    cctx_shared_t *mine = stream % 2 ? arena : cctx_shared_attach(cctx_shared_fd(arena));
    CHECK(mine != NULL);
    worker_work(stream, mine);
    _exit(1);
}

/* Dies somewhere in what it does, if it is not dead already: then a check in it has failed. */
static void worker_kill(pid_t pid, rng_t *rng)
{
    struct timespec moment = {0, (long)rng_below(rng, threads_after_fork() ? 1500000 : 60000000)};
    nanosleep(&moment, NULL);
    kill(pid, SIGKILL);
    int status = 0;
    pid_t waited = waitpid(pid, &status, 0);
    CHECK(waited == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* ---- who survives ---- */

struct kept {
    cctx_t *ctx;
    cctx_token_t token;
};

/* A cancel, lost or won, is told to all that are bound, whoever was killed before he told. */
static void kept_ends(struct kept *k)
{
    if (!k->ctx)
        return;
    cctx_shared_cancel(arena, k->token);
    CHECK(cctx_wait(k->ctx) != 0);
    cctx_unref(k->ctx);
    k->ctx = NULL;
}

static void kept_begins(struct kept *k, rng_t *rng)
{
    kept_ends(k);
    k->token = token_get(rng);
    if (k->token == 0)
        return;
    k->ctx = cctx_with_shared(cctx_background(), arena, k->token);
    CHECK(k->ctx != NULL);
}

static int open_files(void)
{
    int n = 0;
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void a_thousand_killed_processes_leave_nothing_behind(void **state)
{
    (void)state;
    if (!threads_after_fork() && TEST_EMULATED)
        NOT_APPLICABLE("the child of a fork makes no threads here, and there is no exec of an emulated program");
    watchdog(4 * LONG);
    test_seed();
    int rounds = SCALED(1000);
    rng_t rng = rng_make(test_seed_value, 0);
    struct kept kept[KEPT] = {{NULL, 0}};
    pid_t worker[WORKERS];
    board_fd = memfd_create("board", MFD_CLOEXEC);
    CHECK(board_fd >= 0 && ftruncate(board_fd, sizeof *board) == 0);
    board = board_map(board_fd);
    arena = cctx_shared_create(CAPACITY);
    CHECK(arena != NULL);
    int files = open_files();
    for (int i = 0; i < WORKERS; i++)
        worker[i] = worker_start((uint64_t)i + 1);
    for (int round = 0; round < rounds; round++) {
        pid_t *w = &worker[rng_below(&rng, WORKERS)];
        kept_begins(&kept[rng_below(&rng, KEPT)], &rng);
        worker_kill(*w, &rng);
        *w = worker_start((uint64_t)(round + WORKERS + 1));
        CHECK(open_files() < files + 100);
    }
    for (int i = 0; i < WORKERS; i++)
        worker_kill(worker[i], &rng);
    for (int i = 0; i < KEPT; i++)
        kept_ends(&kept[i]);
    for (int i = 0; i < TOKENS; i++)
        cctx_shared_cancel(arena, board->token[i]);
    cctx_token_t all[CAPACITY];
    for (int i = 0; i < CAPACITY; i++)
        CHECK((all[i] = cctx_shared_token(arena, CCTX_NEVER)) != 0);
    CHECK(cctx_shared_token(arena, CCTX_NEVER) == 0 && errno == ENOSPC);
    for (int i = 0; i < CAPACITY; i++)
        CHECK(cctx_shared_cancel(arena, all[i]));
    cctx_shared_free(arena);
    while (open_files() >= files) /* the arena's memory goes with its last thread; the watchdog ends it if not */
        poll(NULL, 0, 1);
    print_message("%d processes killed, %" PRIu64 " operations of theirs\n", rounds + WORKERS, board->operations);
    munmap(board, sizeof *board);
    close(board_fd);
    watchdog(0);
}

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "worker") == 0)
        worker_anew(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thousand_killed_processes_leave_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
