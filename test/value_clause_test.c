/* SPDX-License-Identifier: BSD-2-Clause */
/* Values: the nearest wins, at a bounded cost; destroyed once; free of cancellation where asked. C16-C19. */
#define CCTX_FREED_BY(call) /* references are counted up and down here, on one pointer */
#include "support.h"

static int number[16];
static const cctx_key_t name = {"name", NULL};
static const cctx_key_t namesake = {"name", NULL};
static const cctx_key_t nameless = {NULL, NULL};

/* ---- how many instructions a lookup takes ---- */

/*
 * With the trap flag set the processor traps after each instruction of this thread: the count does not
 * depend on the machine's speed. A trap in a sanitized program runs into the sanitizer's own handlers.
 */
#if defined(__x86_64__) && !TEST_SANITIZED
#define CAN_COUNT_INSTRUCTIONS 1
static volatile long instructions;

static void count_instruction(int sig)
{
    (void)sig;
    instructions++;
}

static long instructions_of_lookup(const cctx_t *ctx, const cctx_key_t *key, void **value)
{
    struct sigaction action = {.sa_handler = count_instruction}, before;
    sigaction(SIGTRAP, &action, &before);
    *value = cctx_value(ctx, key); /* the first call through the dynamic linker is another matter */
    instructions = 0;
    /* Each steps over the red zone before it pushes. */
    __asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; orq $0x100, (%%rsp); popfq; lea 128(%%rsp), %%rsp"
                     :
                     :
                     : "cc", "memory");
    *value = cctx_value(ctx, key);
    __asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; andq $~0x100, (%%rsp); popfq; lea 128(%%rsp), %%rsp"
                     :
                     :
                     : "cc", "memory");
    sigaction(SIGTRAP, &before, NULL);
    return instructions;
}
#else
#define CAN_COUNT_INSTRUCTIONS 0
static long instructions_of_lookup(const cctx_t *ctx, const cctx_key_t *key, void **value)
{
    static bool said;
    if (!said)
        print_message("value_clause_test: lookups are not counted here: needs x86-64 and no sanitizer\n");
    said = true;
    *value = cctx_value(ctx, key);
    return 1;
}
#endif

/* What "a small constant" is taken to be: sixteen steps of a search, with room. */
enum { LOOKUP_BOUND = 600 };

/* ---- the nearest ---- */

/* C16 */
static void the_nearest_value_wins_and_a_branch_sees_its_own(void **state)
{
    (void)state;
    const cctx_t *a = cctx_with_value(cctx_background(), &name, &number[0]);
    const cctx_t *b = cctx_with_value(a, &name, &number[1]);
    const cctx_t *c = cctx_with_value(a, &name, &number[2]);
    cctx_t *below_b = cctx_with_cancel(b);
    assert_ptr_equal(cctx_value(a, &name), &number[0]);
    assert_ptr_equal(cctx_value(b, &name), &number[1]);
    assert_ptr_equal(cctx_value(c, &name), &number[2]);
    assert_ptr_equal(cctx_value(below_b, &name), &number[1]);
    assert_null(cctx_value(cctx_background(), &name));
    cctx_unref(below_b);
    cctx_unref(c);
    cctx_unref(b);
    assert_ptr_equal(cctx_value(a, &name), &number[0]);
    cctx_unref(a);
}

/* C16 */
static void a_key_is_its_address_and_names_do_not_matter(void **state)
{
    (void)state;
    const cctx_t *a = cctx_with_value(cctx_background(), &name, &number[0]);
    assert_null(cctx_value(a, &namesake));
    assert_null(cctx_value(a, &nameless));
    const cctx_t *b = cctx_with_value(a, &namesake, &number[1]);
    const cctx_t *c = cctx_with_value(b, &nameless, &number[2]);
    assert_ptr_equal(cctx_value(c, &name), &number[0]);
    assert_ptr_equal(cctx_value(c, &namesake), &number[1]);
    assert_ptr_equal(cctx_value(c, &nameless), &number[2]);
    cctx_unref(a);
    cctx_unref(b);
    cctx_unref(c);
}

/* C16: NULL is a value like another; it hides. */
static void a_null_value_hides_an_ancestors(void **state)
{
    (void)state;
    const cctx_t *a = cctx_with_value(cctx_background(), &name, &number[0]);
    const cctx_t *b = cctx_with_value(a, &name, NULL);
    const cctx_t *c = cctx_with_value(b, &namesake, &number[1]);
    assert_null(cctx_value(b, &name));
    assert_null(cctx_value(c, &name));
    cctx_unref(c);
    cctx_unref(b);
    cctx_unref(a);
}

/* C16 */
static void every_kind_of_context_shows_the_values_above_it(void **state)
{
    (void)state;
    const cctx_t *a = cctx_with_value(cctx_background(), &name, &number[0]);
    const cctx_t *line[] = {
        cctx_with_cancel(a),
        cctx_with_timeout(a, CCTX_S(3600)),
        cctx_with_timeout(a, 0),
        cctx_without_cancel(a),
        cctx_with_any((const cctx_t *[]){a, cctx_background()}, 2),
        cctx_with_value(a, &namesake, NULL),
    };
    for (size_t i = 0; i < sizeof line / sizeof *line; i++) {
        assert_ptr_equal(cctx_value(line[i], &name), &number[0]);
        cctx_unref(line[i]);
    }
    cctx_unref(a);
}

/* ---- the cost ---- */

/* C16 */
static void a_lookup_does_not_grow_with_the_contexts_between(void **state)
{
    (void)state;
    int depth = SCALED(1000000);
    const cctx_t **line = calloc((size_t)depth + 1, sizeof *line);
    line[0] = cctx_with_value(cctx_background(), &name, &number[0]);
    for (int i = 1; i <= depth; i++)
        line[i] = i % 100 == 50 ? cctx_without_cancel(line[i - 1]) : cctx_with_cancel(line[i - 1]);
    void *value;
    long near = instructions_of_lookup(line[1], &name, &value);
    assert_ptr_equal(value, &number[0]);
    long far = instructions_of_lookup(line[depth], &name, &value);
    assert_ptr_equal(value, &number[0]);
    assert_int_equal(far, near);
    long missing = instructions_of_lookup(line[depth], &namesake, &value);
    assert_null(value);
    assert_in_range(missing, 1, LOOKUP_BOUND);
    for (int i = 0; i <= depth; i++)
        assert_ptr_equal(cctx_value(line[i], &name), &number[0]);
    for (int i = 0; i <= depth; i++)
        cctx_unref(line[i]);
    free(line);
}

/* C16 */
static void a_lookup_is_bounded_whatever_the_number_of_values(void **state)
{
    (void)state;
    enum { KEYS = 10000 };
    cctx_key_t *key = calloc(KEYS, sizeof *key);
    char *values = calloc(KEYS, 1);
    const cctx_t *ctx = cctx_background();
    for (int i = 0; i < KEYS; i++) {
        const cctx_t *next = cctx_with_value(ctx, &key[i], &values[i]);
        assert_non_null(next);
        /* The context before does not see the key, this one sees it, whatever the number. */
        assert_null(cctx_value(ctx, &key[i]));
        assert_ptr_equal(cctx_value(next, &key[i]), &values[i]);
        cctx_unref(ctx);
        ctx = next;
    }
    long most = 0;
    for (int i = 0; i < KEYS; i++) {
        assert_ptr_equal(cctx_value(ctx, &key[i]), &values[i]);
        if (i % 50 != 0) /* a trap costs microseconds */
            continue;
        void *value;
        long count = instructions_of_lookup(ctx, &key[i], &value);
        assert_ptr_equal(value, &values[i]);
        most = count > most ? count : most;
    }
    assert_in_range(most, 1, LOOKUP_BOUND);
    assert_null(cctx_value(ctx, &name));
    cctx_unref(ctx);
    free(values);
    free(key);
}

/* C16: keys that are far apart, equal in their low bits, or neighbours. */
static void keys_at_regular_addresses_are_told_apart(void **state)
{
    (void)state;
    enum { KEYS = 300 };
    size_t stride[] = {sizeof(cctx_key_t), 64, 4096, 65536};
    for (size_t s = 0; s < sizeof stride / sizeof *stride; s++) {
        size_t bytes = KEYS * stride[s];
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        char *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
        assert_ptr_not_equal(area, MAP_FAILED);
        const cctx_t *ctx = cctx_background();
        for (size_t i = 0; i < KEYS; i++) {
            const cctx_t *next = cctx_with_value(ctx, (cctx_key_t *)(void *)(area + i * stride[s]), area + i);
            cctx_unref(ctx);
            ctx = next;
        }
        for (size_t i = 0; i < KEYS; i++) {
            const cctx_key_t *key = (cctx_key_t *)(void *)(area + i * stride[s]);
            assert_ptr_equal(cctx_value(ctx, key), area + i);
            if (i % 10 != 0)
                continue;
            void *value;
            long count = instructions_of_lookup(ctx, key, &value);
            assert_ptr_equal(value, area + i);
            assert_in_range(count, 1, LOOKUP_BOUND);
        }
        cctx_unref(ctx);
        munmap(area, bytes);
    }
}

/* C16: seeded; every context of a random tree against the plain walk upward. */
static void a_random_tree_answers_as_the_plain_walk_does(void **state)
{
    (void)state;
    enum { NODES = 3000, KEYS = 40 };
    static cctx_key_t key[KEYS];
    static struct {
        const cctx_t *ctx;
        int parent, key;
        void *value;
    } node[NODES];
    rng_t rng = rng_make(test_seed(), 16);
    for (int i = 0; i < NODES; i++) {
        node[i].parent = i == 0 ? -1 : (int)rng_below(&rng, 2) ? i - 1 : (int)rng_below(&rng, (uint64_t)i);
        node[i].key = (int)rng_below(&rng, KEYS + 10);
        node[i].value = rng_below(&rng, 10) ? &number[rng_below(&rng, 16)] : NULL;
        const cctx_t *parent = i == 0 ? cctx_background() : node[node[i].parent].ctx;
        node[i].ctx = node[i].key < KEYS ? cctx_with_value(parent, &key[node[i].key], node[i].value)
                                         : cctx_with_cancel(parent);
        assert_non_null(node[i].ctx);
    }
    for (int i = 0; i < NODES; i++)
        for (int k = 0; k < KEYS; k++) {
            int up = i;
            while (up >= 0 && node[up].key != k)
                up = node[up].parent;
            assert_ptr_equal(cctx_value(node[i].ctx, &key[k]), up >= 0 ? node[up].value : NULL);
        }
    for (int i = 0; i < NODES; i++)
        cctx_unref(node[i].ctx);
}

/* ---- the end of a value ---- */

typedef struct ending {
    int times;
    pthread_t thread;
} ending_t;

static void end_value(void *value)
{
    ending_t *ending = value;
    ending->times++;
    ending->thread = pthread_self();
}

static const cctx_key_t ending_key = {"ending", end_value};

/* C17 */
static void a_value_is_destroyed_once_when_its_context_is_freed(void **state)
{
    (void)state;
    ending_t ending = {0};
    const cctx_t *ctx = cctx_with_value(cctx_background(), &ending_key, &ending);
    cctx_t *child = cctx_with_cancel(ctx);
    const cctx_t *apart = cctx_without_cancel(ctx);
    cctx_ref(ctx);
    cctx_unref(ctx);
    cctx_unref(ctx);
    cctx_cancel(child);
    assert_int_equal(ending.times, 0);
    cctx_unref(child);
    assert_int_equal(ending.times, 0);
    assert_ptr_equal(cctx_value(apart, &ending_key), &ending);
    cctx_unref(apart);
    assert_int_equal(ending.times, 1);
}

/* C17: a NULL value is a value: destroy gets it, as it does any other. */
static void destroy_gets_each_value_of_each_context(void **state)
{
    (void)state;
    ending_t ending[20] = {{0}};
    const cctx_t *ctx = cctx_background();
    for (int i = 0; i < 20; i++) {
        const cctx_t *next = cctx_with_value(ctx, &ending_key, &ending[i]);
        cctx_unref(ctx);
        ctx = next;
    }
    for (int i = 0; i < 20; i++)
        assert_int_equal(ending[i].times, 0);
    cctx_unref(ctx);
    for (int i = 0; i < 20; i++)
        assert_int_equal(ending[i].times, 1);

    /* The same value twice is destroyed for each of its two contexts. */
    const cctx_t *one = cctx_with_value(cctx_background(), &ending_key, &ending[0]);
    const cctx_t *two = cctx_with_value(one, &ending_key, &ending[0]);
    cctx_unref(one);
    cctx_unref(two);
    assert_int_equal(ending[0].times, 3);
}

static void drop(unsigned index, void *arg)
{
    const cctx_t **handle = arg;
    cctx_unref(handle[index]);
}

/* C17 */
static void destroy_runs_on_the_thread_that_drops_the_last_reference(void **state)
{
    (void)state;
    ending_t ending = {0};
    const cctx_t *ctx = cctx_with_value(cctx_background(), &ending_key, &ending);
    cctx_t *leaf = cctx_with_cancel(ctx);
    const cctx_t *handle = leaf;
    cctx_unref(ctx);
    threads_run(1, drop, &handle);
    assert_int_equal(ending.times, 1);
    assert_false(pthread_equal(ending.thread, pthread_self()));

    ctx = cctx_with_value(cctx_background(), &ending_key, &ending);
    handle = cctx_ref(ctx);
    threads_run(1, drop, &handle);
    assert_int_equal(ending.times, 1);
    cctx_unref(ctx);
    assert_int_equal(ending.times, 2);
    assert_true(pthread_equal(ending.thread, pthread_self()));
}

typedef struct shared_value {
    int written[8]; /* each thread writes its own before it drops its reference */
    int times;
} shared_value_t;

static void read_all_written(void *value)
{
    shared_value_t *shared = value;
    for (int i = 0; i < 8; i++)
        CHECK(shared->written[i] == i + 1);
    shared->times++;
}

static const cctx_key_t shared_key = {"shared", read_all_written};
static const cctx_t *shared_ctx[8];

static void write_and_drop(unsigned index, void *arg)
{
    (void)arg;
    shared_value_t *shared = cctx_value(shared_ctx[index], &shared_key);
    shared->written[index] = (int)index + 1;
    cctx_unref(shared_ctx[index]);
}

/* C17: every use by any thread comes before the destructor, which runs once. */
static void all_uses_happen_before_the_destructor(void **state)
{
    (void)state;
    for (int round = 0; round < SCALED(1500); round++) {
        shared_value_t shared = {.times = 0};
        shared_ctx[0] = cctx_with_value(cctx_background(), &shared_key, &shared);
        for (int i = 1; i < 8; i++)
            shared_ctx[i] = i % 2 ? cctx_ref(shared_ctx[0]) : cctx_with_cancel(shared_ctx[0]);
        threads_run(8, write_and_drop, NULL);
        assert_int_equal(shared.times, 1);
    }
}

/* C17, C32: the value of a context that was not made stays the caller's. */
static void a_failed_derivation_destroys_nothing(void **state)
{
    (void)state;
    ending_t ending = {0};
    assert_null(cctx_with_value(NULL, &ending_key, &ending));
    assert_null(cctx_with_value(cctx_background(), NULL, &ending));
    assert_int_equal(ending.times, 0);
}

/* ---- the done word ---- */

/* C18, C31: what is one word cannot cost anything of its own. */
static void a_value_context_shares_the_done_word_of_its_parent(void **state)
{
    (void)state;
    cctx_t *parent = cctx_with_cancel(cctx_background());
    const cctx_t *a = cctx_with_value(parent, &name, &number[0]);
    const cctx_t *b = cctx_with_value(a, &namesake, &number[1]);
    const uint32_t *word = cctx_done(parent);
    assert_ptr_equal(cctx_done(a), word);
    assert_ptr_equal(cctx_done(b), word);
    assert_ptr_equal(*(const uint32_t *const *)(const void *)b, word);
    assert_int_equal(cctx_err(b), 0);
    cctx_cancel(parent);
    assert_int_equal(cctx_err(a), ECANCELED);
    assert_int_equal(cctx_err(b), ECANCELED);
    assert_ptr_equal(cctx_cause(b), &cctx_canceled);
    assert_ptr_equal(cctx_value(b, &name), &number[0]);
    cctx_unref(parent);
    cctx_unref(a);
    cctx_unref(b);

    const cctx_t *root = cctx_with_value(cctx_background(), &name, &number[0]);
    assert_null(cctx_done(root));
    assert_int_equal(cctx_err(root), 0);
    cctx_unref(root);
}

/* C18, C11: it has its parent's deadline, too. */
static void a_value_context_has_its_parents_deadline(void **state)
{
    (void)state;
    cctx_t *parent = cctx_with_timeout(cctx_background(), CCTX_MS(5));
    const cctx_t *value = cctx_with_value(parent, &name, &number[0]);
    cctx_time_t expected, deadline;
    assert_true(cctx_deadline(parent, &expected));
    assert_true(cctx_deadline(value, &deadline));
    assert_true(deadline == expected);
    assert_int_equal(cctx_wait(value), ETIMEDOUT);
    cctx_unref(value);
    cctx_unref(parent);
}

/* ---- without cancel ---- */

static void expect_untouched(const cctx_t *ctx)
{
    cctx_time_t deadline = 77;
    assert_int_equal(cctx_err(ctx), 0);
    assert_false(cctx_is_done(ctx));
    assert_null(cctx_cause(ctx));
    assert_null(cctx_done(ctx));
    assert_false(cctx_deadline(ctx, &deadline));
    assert_true(deadline == 77);
    assert_true(cctx_remaining(ctx) == CCTX_NEVER);
    assert_int_equal(cctx_wait(ctx), EDEADLK);
}

/* C19 */
static void without_cancel_keeps_the_values_and_drops_the_rest(void **state)
{
    (void)state;
    const cctx_t *carrier = cctx_with_value(cctx_background(), &name, &number[3]);
    cctx_t *parent = cctx_with_timeout(carrier, CCTX_S(3600));
    const cctx_t *apart = cctx_without_cancel(parent);
    cctx_t *below = cctx_with_cancel(apart);
    assert_ptr_equal(cctx_value(apart, &name), &number[3]);
    expect_untouched(apart);
    assert_false(cctx_deadline(below, NULL));
    cctx_cancel_causef(parent, 1, "text");
    expect_untouched(apart);
    assert_int_equal(cctx_err(below), 0);
    assert_true(cctx_cancel(below));
    assert_ptr_equal(cctx_cause(below), &cctx_canceled);
    assert_ptr_equal(cctx_value(below, &name), &number[3]);
    expect_untouched(apart);

    /* From parents that are done already, by either way. */
    const cctx_t *after = cctx_without_cancel(parent);
    expect_untouched(after);
    assert_ptr_equal(cctx_value(after, &name), &number[3]);
    cctx_t *late = cctx_with_timeout(carrier, 0);
    const cctx_t *after_late = cctx_without_cancel(late);
    expect_untouched(after_late);

    cctx_unref(after_late);
    cctx_unref(late);
    cctx_unref(after);
    cctx_unref(carrier);
    cctx_unref(parent);
    assert_ptr_equal(cctx_value(apart, &name), &number[3]);
    cctx_unref(below);
    cctx_unref(apart);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_nearest_value_wins_and_a_branch_sees_its_own),
        cmocka_unit_test(a_key_is_its_address_and_names_do_not_matter),
        cmocka_unit_test(a_null_value_hides_an_ancestors),
        cmocka_unit_test(every_kind_of_context_shows_the_values_above_it),
        cmocka_unit_test(a_lookup_does_not_grow_with_the_contexts_between),
        cmocka_unit_test(a_lookup_is_bounded_whatever_the_number_of_values),
        cmocka_unit_test(keys_at_regular_addresses_are_told_apart),
        cmocka_unit_test(a_random_tree_answers_as_the_plain_walk_does),
        cmocka_unit_test(a_value_is_destroyed_once_when_its_context_is_freed),
        cmocka_unit_test(destroy_gets_each_value_of_each_context),
        cmocka_unit_test(destroy_runs_on_the_thread_that_drops_the_last_reference),
        cmocka_unit_test(all_uses_happen_before_the_destructor),
        cmocka_unit_test(a_failed_derivation_destroys_nothing),
        cmocka_unit_test(a_value_context_shares_the_done_word_of_its_parent),
        cmocka_unit_test(a_value_context_has_its_parents_deadline),
        cmocka_unit_test(without_cancel_keeps_the_values_and_drops_the_rest),
    };
    watchdog(110);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
