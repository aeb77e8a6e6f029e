/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cctx/bridge/curl.h against libcurl and a server of this process on a free loopback port.
 *
 * The server tells when it has read a request, and libcurl calls back where it has got to: so each cancel
 * comes at a known place, and nothing sleeps and hopes.
 */
#include "figure.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <curl/curl.h>

/* A registration with the context can be refused: so this file calls it by another name. */
static int after_func_refused;
static int after_func(const cctx_t *ctx, cctx_callback_t *cb, void (*fn)(void *arg), void *arg)
{
    return after_func_refused ? after_func_refused : cctx_after_func(ctx, cb, fn, arg);
}

/* And a wake may take longer than the poll that it ends. */
static pid_t slow_wake; /* it goes on until this thread sleeps */
static atomic_bool waking;

static CURLMcode wakeup(CURLM *multi)
{
    pid_t sleeper = slow_wake;
    if (!sleeper)
        return (curl_multi_wakeup)(multi);
    atomic_store(&waking, true);
    CURLMcode code = (curl_multi_wakeup)(multi);
    for (int i = 0; i < 1000; i++)
        sched_yield();
    await_sleep(sleeper);
    atomic_store(&waking, false);
    return code;
}
#define cctx_after_func after_func
#define curl_multi_wakeup wakeup
#include <cctx/bridge/curl.h>
#undef cctx_after_func
#undef curl_multi_wakeup

#define HOUR CCTX_S(3600)

/* ---- the server: one thread, one loop ----
 *
 * /hello is answered; /half gets half of an answer; /drip gets an endless one, a byte at a time; /never gets
 * none. */

enum { CONNECTIONS = 64 };

typedef struct server {
    pthread_t thread;
    int listener, stop[2];
    unsigned short port;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned requests, connections, ends; /* read, accepted, and closed by the client */
} server_t;

static server_t server = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void server_count(unsigned *what)
{
    pthread_mutex_lock(&server.lock);
    ++*what;
    pthread_cond_broadcast(&server.changed);
    pthread_mutex_unlock(&server.lock);
}

static unsigned server_counted(const unsigned *what)
{
    pthread_mutex_lock(&server.lock);
    unsigned n = *what;
    pthread_mutex_unlock(&server.lock);
    return n;
}

static void server_await(const unsigned *what, unsigned n)
{
    pthread_mutex_lock(&server.lock);
    while (*what < n)
        pthread_cond_wait(&server.changed, &server.lock);
    pthread_mutex_unlock(&server.lock);
}

static void server_say(int fd, const char *text)
{
    ssize_t n = send(fd, text, strlen(text), MSG_NOSIGNAL);
    (void)n; /* a client that has gone is seen by the next poll */
}

/* True: the answer goes on. */
static bool server_answer(int fd, const char *request)
{
    server_count(&server.requests);
    if (strncmp(request, "GET /hello ", 11) == 0)
        server_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n");
    if (strncmp(request, "GET /half ", 10) == 0)
        server_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhel");
    if (strncmp(request, "GET /drip ", 10) != 0)
        return false;
    server_say(fd, "HTTP/1.1 200 OK\r\n\r\n");
    return true;
}

static void *server_main(void *arg)
{
    struct pollfd fds[2 + CONNECTIONS] = {{.fd = server.listener, .events = POLLIN},
                                          {.fd = server.stop[0], .events = POLLIN}};
    bool drips[2 + CONNECTIONS] = {false};
    nfds_t n = 2;
    (void)arg;
    for (;;) {
        bool dripping = false;
        for (nfds_t i = 2; i < n; i++)
            dripping |= drips[i];
        CHECK(poll(fds, n, dripping ? 1 : -1) >= 0);
        if (fds[1].revents)
            break;
        if (fds[0].revents) {
            int fd = accept4(server.listener, NULL, NULL, SOCK_CLOEXEC);
            CHECK(fd >= 0 && n < 2 + CONNECTIONS);
            drips[n] = false;
            fds[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
            server_count(&server.connections);
        }
        for (nfds_t i = 2; i < n; i++) {
            char request[4096];
            if (drips[i])
                server_say(fds[i].fd, ".");
            if (!fds[i].revents)
                continue;
            ssize_t got = recv(fds[i].fd, request, sizeof request - 1, 0);
            if (got > 0) {
                request[got] = '\0';
                drips[i] = server_answer(fds[i].fd, request);
            } else {
                close(fds[i].fd);
                n--;
                fds[i] = fds[n];
                drips[i] = drips[n];
                i--;
                server_count(&server.ends);
            }
        }
    }
    for (nfds_t i = 2; i < n; i++)
        close(fds[i].fd);
    return NULL;
}

/* A socket on a free port, which listens. */
static int listener(int backlog, unsigned short *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK(bind(fd, (struct sockaddr *)&address, size) == 0 && listen(fd, backlog) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static int server_start(void **state)
{
    (void)state;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    watchdog(120);
    server.listener = listener(CONNECTIONS, &server.port);
    CHECK(pipe2(server.stop, O_CLOEXEC) == 0);
    server.thread = thread_start(server_main, NULL);
    return 0;
}

static int server_stop(void **state)
{
    (void)state;
    close(server.stop[1]);
    thread_join(server.thread);
    close(server.stop[0]);
    close(server.listener);
    curl_global_cleanup();
    return 0;
}

/* ---- the client ---- */

typedef struct body {
    char text[64];
    size_t size; /* bytes that came, also of those that have no room */
    gate_t *come; /* opened by the first */
} body_t;

static size_t body_take(char *data, size_t size, size_t n, void *arg)
{
    body_t *body = arg;
    for (size_t i = 0; i < size * n && body->size + i < sizeof body->text; i++)
        body->text[body->size + i] = data[i];
    if (body->size == 0 && body->come)
        gate_open(body->come);
    body->size += size * n;
    return size * n;
}

static CURL *client(const char *path, body_t *body)
{
    char url[128];
    CURL *easy = curl_easy_init();
    assert_non_null(easy);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/%s", server.port, path);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, body_take);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, body);
    return easy;
}

static void client_path(CURL *easy, const char *path)
{
    char url[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/%s", server.port, path);
    curl_easy_setopt(easy, CURLOPT_URL, url);
}

static cctx_t *live(void)
{
    cctx_t *ctx = cctx_with_cancel(cctx_background());
    assert_non_null(ctx);
    return ctx;
}

/* Cancels ctx when something has come: a request at the server, or what opens a gate. */
typedef struct canceler {
    pthread_t thread;
    cctx_t *ctx;
    unsigned requests;
    gate_t *gate;
    pid_t sleeper; /* and when this thread sleeps */
    bool apart;    /* on another CPU than that thread: else it hands its own over, and wakes none */
    int cpu;
    int64_t at;
} canceler_t;

static void *canceler_main(void *arg)
{
    canceler_t *c = arg;
    if (c->apart)
        leave_cpu(c->cpu);
    if (c->requests)
        server_await(&server.requests, c->requests);
    if (c->gate)
        gate_wait(c->gate);
    if (c->sleeper)
        await_sleep(c->sleeper);
    c->at = now_ns();
    CHECK(cctx_cancel(c->ctx));
    return NULL;
}

static void cancel_at_next_request(canceler_t *c, cctx_t *ctx)
{
    *c = (canceler_t){.ctx = ctx, .requests = server_counted(&server.requests) + 1, .sleeper = gettid()};
    c->thread = thread_start(canceler_main, c);
}

static void cancel_at_gate(canceler_t *c, cctx_t *ctx, gate_t *gate)
{
    *c = (canceler_t){.ctx = ctx, .gate = gate};
    c->thread = thread_start(canceler_main, c);
}

/* ---- one transfer ---- */

static void a_transfer_that_nobody_ends_is_that_of_curl_easy_perform(void **state)
{
    (void)state;
    body_t body = {.size = 0};
    cctx_t *ctx = live();
    CURL *easy = client("hello", &body);
    long status = 0;
    assert_int_equal(cctx_curl_perform(ctx, NULL, easy), CURLE_OK);
    assert_int_equal(body.size, 6);
    assert_memory_equal(body.text, "hello\n", 6);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    assert_int_equal(status, 200);
    assert_int_equal(cctx_curl_perform(cctx_background(), NULL, easy), CURLE_OK); /* never done */
    curl_easy_cleanup(easy);
    cctx_close(ctx);
}

static void a_cancel_ends_a_transfer_that_waits_for_an_answer(void **state)
{
    (void)state;
    body_t body = {.size = 0};
    cctx_t *ctx = live();
    CURL *easy = client("never", &body);
    canceler_t c;
    unsigned ends = server_counted(&server.ends);
    cancel_at_next_request(&c, ctx);
    CURLcode result = cctx_curl_perform(ctx, NULL, easy);
    thread_join(c.thread);
    assert_int_equal(result, CURLE_ABORTED_BY_CALLBACK);
    assert_int_equal(cctx_curl_errno(result), ECANCELED);
    server_await(&server.ends, ends + 1); /* the connection is closed though easy lives on */
    curl_easy_cleanup(easy);
    cctx_close(ctx);
}

static void a_cancel_ends_a_transfer_in_the_middle_of_the_answer(void **state)
{
    (void)state;
    static const char *const paths[] = {"half", "drip"};
    for (size_t i = 0; i < 2; i++) {
        gate_t come = {0};
        body_t body = {.come = &come};
        cctx_t *ctx = live();
        CURL *easy = client(paths[i], &body);
        canceler_t c;
        cancel_at_gate(&c, ctx, &come);
        assert_int_equal(cctx_curl_perform(ctx, NULL, easy), CURLE_ABORTED_BY_CALLBACK);
        thread_join(c.thread);
        assert_true(body.size > 0);
        curl_easy_cleanup(easy);
        cctx_close(ctx);
    }
}

static void a_deadline_ends_a_transfer_and_never_early(void **state)
{
    (void)state;
    static const char *const paths[] = {"never", "drip"};
    for (size_t i = 0; i < 2; i++) {
        body_t body = {.size = 0};
        int64_t start = cctx_now();
        cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(30));
        CURL *easy = client(paths[i], &body);
        CURLcode result = cctx_curl_perform(ctx, NULL, easy);
        assert_true(cctx_now() - start >= CCTX_MS(30));
        assert_int_equal(result, CURLE_OPERATION_TIMEDOUT);
        assert_int_equal(cctx_curl_errno(result), ETIMEDOUT);
        assert_int_equal(cctx_err(ctx), ETIMEDOUT);
        curl_easy_cleanup(easy);
        cctx_close(ctx);
    }
}

/* A callback that holds up the thread on which those of deadlines run. */
static void hold_up(void *gates)
{
    gate_t *gate = gates;
    gate_open(&gate[0]);
    gate_wait(&gate[1]);
}

static void a_deadline_ends_a_poll_though_callbacks_of_deadlines_are_held_up(void **state)
{
    (void)state;
    gate_t gate[2] = {{0}};
    cctx_callback_t cb = {{0}};
    cctx_t *first = cctx_with_timeout(cctx_background(), CCTX_MS(1));
    assert_int_equal(cctx_after_func(first, &cb, hold_up, gate), 0);
    gate_wait(&gate[0]);
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_MS(20));
    CURLM *multi = curl_multi_init(); /* without a transfer, and so without a time that libcurl waits for */
    CURLMcode code = cctx_curl_multi_poll(ctx, multi, NULL, 0, INT_MAX, NULL);
    gate_open(&gate[1]);
    cctx_stop_wait(&cb);
    assert_int_equal(code, CURLM_ABORTED_BY_CALLBACK);
    curl_multi_cleanup(multi);
    cctx_close(ctx);
    cctx_close(first);
}

static void a_time_out_of_libcurls_own_is_told_as_such(void **state)
{
    (void)state;
    body_t body = {.size = 0};
    cctx_t *ctx = cctx_with_timeout(cctx_background(), HOUR);
    CURL *easy = client("never", &body);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 20L);
    assert_int_equal(cctx_curl_perform(ctx, NULL, easy), CURLE_OPERATION_TIMEDOUT);
    assert_int_equal(cctx_err(ctx), 0);
    curl_easy_cleanup(easy);
    cctx_close(ctx);
}

static void no_connection_is_made_for_a_context_that_is_done(void **state)
{
    (void)state;
    body_t body = {.size = 0};
    unsigned connections = server_counted(&server.connections);
    cctx_t *ctx = live(), *late = cctx_with_timeout(cctx_background(), 0);
    CURL *easy = client("hello", &body);
    cctx_cancel(ctx);
    assert_int_equal(cctx_curl_perform(ctx, NULL, easy), CURLE_ABORTED_BY_CALLBACK);
    assert_int_equal(cctx_curl_perform(late, NULL, easy), CURLE_OPERATION_TIMEDOUT);
    assert_int_equal(cctx_curl_perform(cctx_background(), NULL, easy), CURLE_OK);
    assert_int_equal(server_counted(&server.connections), connections + 1);
    curl_easy_cleanup(easy);
    cctx_close(ctx);
    cctx_close(late);
}

static void a_handle_is_good_for_the_next_transfer_after_a_cancel(void **state)
{
    (void)state;
    CURLM *multi = curl_multi_init();
    body_t body = {.size = 0};
    CURL *easy = client("hello", &body);
    for (int i = 0; i < 20; i++) {
        cctx_t *ctx = live();
        canceler_t c;
        gate_t come = {0};
        body = (body_t){.come = &come};
        client_path(easy, "half");
        cancel_at_gate(&c, ctx, &come);
        assert_int_equal(cctx_curl_perform(ctx, multi, easy), CURLE_ABORTED_BY_CALLBACK);
        thread_join(c.thread);
        cctx_close(ctx);
        body = (body_t){.size = 0};
        client_path(easy, "hello");
        assert_int_equal(cctx_curl_perform(cctx_background(), multi, easy), CURLE_OK);
        assert_int_equal(body.size, 6);
        assert_memory_equal(body.text, "hello\n", 6);
    }
    curl_easy_cleanup(easy);
    curl_multi_cleanup(multi);
}

static void a_multi_handle_keeps_the_connection_for_the_next_transfer(void **state)
{
    (void)state;
    CURLM *multi = curl_multi_init();
    body_t body = {.size = 0};
    cctx_t *ctx = cctx_with_timeout(cctx_background(), HOUR);
    unsigned connections = server_counted(&server.connections);
    for (int i = 0; i < 10; i++) {
        CURL *easy = client("hello", &body);
        assert_int_equal(cctx_curl_perform(ctx, multi, easy), CURLE_OK);
        curl_easy_cleanup(easy);
    }
    assert_int_equal(server_counted(&server.connections), connections + 1);
    curl_multi_cleanup(multi);
    cctx_close(ctx);
}

/* ---- where libcurl is before there is a connection ---- */

static curl_socket_t opening(void *gate, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)purpose;
    gate_open(gate);
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static void a_cancel_ends_a_connect_that_is_not_answered(void **state)
{
    (void)state;
    unsigned short port;
    int full = listener(0, &port), waiting[16], n = 0;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    struct pollfd connected;
    /* The queue is full when a connect over loopback is not over at once. */
    do {
        waiting[n] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        int r = connect(waiting[n], (struct sockaddr *)&address, sizeof address);
        CHECK(r == 0 || errno == EINPROGRESS);
        connected = (struct pollfd){.fd = waiting[n], .events = POLLOUT};
    } while (poll(&connected, 1, 100) > 0 && ++n < 15);
    assert_true(n < 15);

    gate_t open = {0};
    body_t body = {.size = 0};
    cctx_t *ctx = live();
    CURL *easy = client("", &body);
    char url[64];
    canceler_t c;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", port);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, opening);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, &open);
    cancel_at_gate(&c, ctx, &open);
    assert_int_equal(cctx_curl_perform(ctx, NULL, easy), CURLE_ABORTED_BY_CALLBACK);
    thread_join(c.thread);
    curl_easy_cleanup(easy);
    cctx_close(ctx);
    while (n >= 0)
        close(waiting[n--]);
    close(full);
}

/* The lookup of names, for libcurl's threads too: that of slow.invalid takes as long as the test wants. */
static gate_t looking_up, looked_up;
static atomic_int lookups_over;

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
    (void)service, (void)hints;
    *result = NULL;
    if (node && strcmp(node, "slow.invalid") == 0) {
        gate_open(&looking_up);
        gate_wait(&looked_up);
        atomic_fetch_add(&lookups_over, 1);
    }
    return EAI_NONAME;
}

static void a_cancel_does_not_wait_for_the_lookup_of_a_name_that_may_end_by_itself(void **state)
{
    (void)state;
    body_t body = {.size = 0};
    cctx_t *ctx = live();
    CURL *easy = client("", &body);
    canceler_t c;
    curl_easy_setopt(easy, CURLOPT_URL, "http://slow.invalid/");
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    cancel_at_gate(&c, ctx, &looking_up);
    assert_int_equal(cctx_curl_perform(ctx, NULL, easy), CURLE_ABORTED_BY_CALLBACK);
    thread_join(c.thread);
    assert_int_equal(atomic_load(&lookups_over), 0);
    gate_open(&looked_up);
    curl_easy_cleanup(easy);
    cctx_close(ctx);
}

/* ---- refusals ---- */

static void what_is_refused_is_told_and_leaves_the_handle_free(void **state)
{
    (void)state;
    body_t body = {.size = 0};
    cctx_t *ctx = live();
    CURL *easy = client("hello", &body);
    CURLM *multi = curl_multi_init();
    assert_int_equal(cctx_curl_perform(NULL, NULL, easy), CURLE_BAD_FUNCTION_ARGUMENT);
    assert_int_equal(cctx_curl_perform(ctx, NULL, NULL), CURLE_BAD_FUNCTION_ARGUMENT);
    assert_int_equal(cctx_curl_multi_poll(NULL, multi, NULL, 0, 0, NULL), CURLM_BAD_FUNCTION_ARGUMENT);
    static const int refusals[] = {ENOMEM, EAGAIN};
    for (size_t i = 0; i < 2; i++) {
        after_func_refused = refusals[i];
        assert_int_equal(cctx_curl_perform(ctx, multi, easy), CURLE_OUT_OF_MEMORY);
        after_func_refused = 0;
        assert_int_equal(cctx_curl_errno(CURLE_OUT_OF_MEMORY), ENOMEM);
    }
    curl_multi_add_handle(multi, easy);
    assert_int_equal(cctx_curl_perform(ctx, NULL, easy), CURLE_BAD_FUNCTION_ARGUMENT);
    curl_multi_remove_handle(multi, easy);
    assert_int_equal(cctx_curl_perform(ctx, multi, easy), CURLE_OK);
    client_path(easy, "hello");
    curl_easy_setopt(easy, CURLOPT_PORT, 1L);
    assert_int_equal(cctx_curl_errno(cctx_curl_perform(ctx, multi, easy)), EIO);
    curl_easy_cleanup(easy);
    curl_multi_cleanup(multi);
    cctx_close(ctx);
}

/* By libcurl's own word such a handle has nothing that wakes it: a cancel would be slept through. */
static void a_multi_handle_that_cannot_be_woken_is_refused(void **state)
{
    (void)state;
    struct rlimit limit, none;
    body_t body = {.size = 0};
    CURL *easy = client("never", &body);
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none = limit;
    none.rlim_cur = 3;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CURLM *multi = curl_multi_init();
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    assert_non_null(multi);
    assert_int_equal(cctx_curl_perform(cctx_background(), multi, easy), CURLE_OUT_OF_MEMORY);
    curl_easy_cleanup(easy);
    curl_multi_cleanup(multi);
}

/* ---- many transfers ---- */

static void a_poll_of_many_transfers_ends_with_the_context(void **state)
{
    (void)state;
    enum { MANY = 8 };
    CURLM *multi = curl_multi_init();
    CURL *easy[MANY];
    body_t body[MANY];
    cctx_t *ctx = live();
    canceler_t c = {.ctx = ctx, .requests = server_counted(&server.requests) + MANY, .sleeper = gettid()};
    CURLMcode code;
    int running;
    memset(body, 0, sizeof body);
    for (int i = 0; i < MANY; i++) {
        easy[i] = client("never", &body[i]);
        assert_int_equal(curl_multi_add_handle(multi, easy[i]), CURLM_OK);
    }
    c.thread = thread_start(canceler_main, &c);
    do {
        assert_int_equal(curl_multi_perform(multi, &running), CURLM_OK);
        assert_int_equal(running, MANY);
        code = cctx_curl_multi_poll(ctx, multi, NULL, 0, INT_MAX, NULL);
    } while (code == CURLM_OK);
    thread_join(c.thread);
    assert_int_equal(code, CURLM_ABORTED_BY_CALLBACK);
    assert_int_equal(cctx_curl_multi_poll(ctx, multi, NULL, 0, INT_MAX, NULL), CURLM_ABORTED_BY_CALLBACK);
    for (int i = 0; i < MANY; i++) {
        curl_multi_remove_handle(multi, easy[i]);
        curl_easy_cleanup(easy[i]);
    }
    curl_multi_cleanup(multi);
    cctx_close(ctx);
}

static void a_poll_ends_with_its_time_and_with_a_descriptor_of_the_callers(void **state)
{
    (void)state;
    CURLM *multi = curl_multi_init();
    cctx_t *ctx = cctx_with_timeout(cctx_background(), HOUR);
    int ends[2], ready = -1;
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    struct curl_waitfd fd = {.fd = ends[0], .events = CURL_WAIT_POLLIN};
    assert_int_equal(cctx_curl_multi_poll(ctx, multi, &fd, 1, 1, &ready), CURLM_OK);
    assert_int_equal(ready, 0);
    CHECK(write(ends[1], "x", 1) == 1);
    assert_int_equal(cctx_curl_multi_poll(ctx, multi, &fd, 1, INT_MAX, &ready), CURLM_OK);
    assert_int_equal(ready, 1);
    assert_int_equal(fd.revents, CURL_WAIT_POLLIN);
    close(ends[0]);
    close(ends[1]);
    curl_multi_cleanup(multi);
    cctx_close(ctx);
}

/* The multi handle is freed right after each poll: a wake that went on, or came later, would touch it. */
static void nobody_wakes_a_multi_handle_after_its_poll_has_returned(void **state)
{
    (void)state;
    for (int i = 0; i < SCALED(1000); i++) {
        CURLM *multi = curl_multi_init();
        cctx_t *ctx = live();
        canceler_t c = {.ctx = ctx, .sleeper = gettid()};
        slow_wake = i % 2 ? gettid() : 0; /* before there is a canceler */
        c.thread = thread_start(canceler_main, &c);
        assert_int_equal(cctx_curl_multi_poll(ctx, multi, NULL, 0, INT_MAX, NULL), CURLM_ABORTED_BY_CALLBACK);
        assert_false(atomic_load(&waking));
        curl_multi_cleanup(multi);
        thread_join(c.thread);
        cctx_close(ctx);
    }
    slow_wake = 0;
}

/* ---- for those who call curl_easy_perform ---- */

static void the_time_that_is_left_is_what_libcurl_takes_it_for(void **state)
{
    (void)state;
    cctx_t *over = cctx_with_timeout(cctx_background(), 0);
    cctx_t *soon = cctx_with_timeout(cctx_background(), HOUR);
    cctx_t *far = cctx_with_timeout(cctx_background(), CCTX_S(5000000));
    assert_int_equal(cctx_curl_timeout_ms(cctx_background()), 0);
    assert_int_equal(cctx_curl_timeout_ms(over), 1);
    for (int i = 0; i < 100; i++) {
        long ms = cctx_curl_timeout_ms(soon);
        assert_in_range(ms, 3000000, 3600000);
        assert_true(CCTX_MS(ms) >= cctx_remaining(soon)); /* the context ends first */
    }
    assert_int_equal(cctx_curl_timeout_ms(far), INT_MAX);
    cctx_close(over);
    cctx_close(soon);
    cctx_close(far);
}

static void a_call_that_does_not_return_ends_by_the_progress_callback(void **state)
{
    (void)state;
    gate_t come = {0};
    body_t body = {.come = &come};
    cctx_t *ctx = live();
    CURL *easy = client("", &body);
    canceler_t c;
    curl_easy_setopt(easy, CURLOPT_URL, "file:///dev/zero");
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, cctx_curl_xferinfo);
    curl_easy_setopt(easy, CURLOPT_XFERINFODATA, ctx);
    cancel_at_gate(&c, ctx, &come);
    assert_int_equal(cctx_curl_perform(ctx, NULL, easy), CURLE_ABORTED_BY_CALLBACK);
    thread_join(c.thread);
    curl_easy_cleanup(easy);
    cctx_close(ctx);
}

/* ---- the program ---- */

/* Its exit status; -1: a signal ended it. What it says on both outputs is in text. */
static int fetch(const char *ms, const char *path, unsigned requests, int sig, char *text, size_t size)
{
    char url[64];
    int ends[2], status;
    size_t got = 0;
    ssize_t n;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/%s", server.port, path);
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    requests += server_counted(&server.requests);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        execl(FETCH, "fetch", ms, url, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    if (sig) {
        server_await(&server.requests, requests);
        CHECK(kill(pid, sig) == 0);
    }
    while ((n = read(ends[0], text + got, size - 1 - got)) > 0)
        got += (size_t)n;
    text[got] = '\0';
    close(ends[0]);
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void the_program_fetches_and_ends_with_its_time_and_with_a_signal(void **state)
{
    (void)state;
    char text[512];
    setenv("no_proxy", "*", 1);
    assert_int_equal(fetch("60000", "hello", 1, 0, text, sizeof text), 0);
    assert_string_equal(text, "hello\n");
    assert_int_equal(fetch("50", "never", 1, 0, text, sizeof text), 1);
    assert_non_null(strstr(text, "context deadline exceeded"));
    assert_int_equal(fetch("60000", "never", 1, SIGINT, text, sizeof text), 1);
    assert_non_null(strstr(text, "interrupt signal received"));
}

/* ---- the figure ---- */

static void the_figure_of_a_cancel_until_the_transfer_has_stopped(void **state)
{
    (void)state;
    enum { ROUNDS = 500 };
    static int64_t ns[ROUNDS];
    CURLM *multi = curl_multi_init();
    int rounds = SCALED(ROUNDS);
    for (int i = 0; i < rounds; i++) {
        body_t body = {.size = 0};
        cctx_t *ctx = live();
        CURL *easy = client("never", &body);
        canceler_t c = {.ctx = ctx,
                        .requests = server_counted(&server.requests) + 1,
                        .sleeper = gettid(),
                        .apart = true,
                        .cpu = sched_getcpu()};
        c.thread = thread_start(canceler_main, &c);
        assert_int_equal(cctx_curl_perform(ctx, multi, easy), CURLE_ABORTED_BY_CALLBACK);
        ns[i] = now_ns();
        thread_join(c.thread);
        ns[i] -= c.at;
        curl_easy_cleanup(easy);
        cctx_close(ctx);
    }
    curl_multi_cleanup(multi);
    figure_report("cancel to transfer stopped", ns, (size_t)rounds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_transfer_that_nobody_ends_is_that_of_curl_easy_perform),
        cmocka_unit_test(a_cancel_ends_a_transfer_that_waits_for_an_answer),
        cmocka_unit_test(a_cancel_ends_a_transfer_in_the_middle_of_the_answer),
        cmocka_unit_test(a_deadline_ends_a_transfer_and_never_early),
        cmocka_unit_test(a_deadline_ends_a_poll_though_callbacks_of_deadlines_are_held_up),
        cmocka_unit_test(a_time_out_of_libcurls_own_is_told_as_such),
        cmocka_unit_test(no_connection_is_made_for_a_context_that_is_done),
        cmocka_unit_test(a_handle_is_good_for_the_next_transfer_after_a_cancel),
        cmocka_unit_test(a_multi_handle_keeps_the_connection_for_the_next_transfer),
        cmocka_unit_test(a_cancel_ends_a_connect_that_is_not_answered),
        cmocka_unit_test(a_cancel_does_not_wait_for_the_lookup_of_a_name_that_may_end_by_itself),
        cmocka_unit_test(what_is_refused_is_told_and_leaves_the_handle_free),
        cmocka_unit_test(a_multi_handle_that_cannot_be_woken_is_refused),
        cmocka_unit_test(a_poll_of_many_transfers_ends_with_the_context),
        cmocka_unit_test(a_poll_ends_with_its_time_and_with_a_descriptor_of_the_callers),
        cmocka_unit_test(nobody_wakes_a_multi_handle_after_its_poll_has_returned),
        cmocka_unit_test(the_time_that_is_left_is_what_libcurl_takes_it_for),
        cmocka_unit_test(a_call_that_does_not_return_ends_by_the_progress_callback),
        cmocka_unit_test(the_program_fetches_and_ends_with_its_time_and_with_a_signal),
        cmocka_unit_test(the_figure_of_a_cancel_until_the_transfer_has_stopped),
    };
    return cmocka_run_group_tests_name("curl", tests, server_start, server_stop);
}
