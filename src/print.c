/* Layer 11, face. print: how a context was derived, for people.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A context knows its parent, not its children, so the text is made from its end: one pass up the chain adds the
 * lengths, a second one puts each piece where it ends. Neither recurses nor takes memory. */
#include "handler.h"
#include "node.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PIECE = 64 };            /* a piece without the name of a key */

struct piece {
    const char *name;           /* of a key, between head and tail; "" for none */
    char head[PIECE], tail[2];
};

/* "+1.5", "-0.25": seconds without the zeros that say nothing. */
static void print_seconds(char *to, size_t size, int64_t ns)
{
    uint64_t u = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    int n = snprintf(to, size, "%c%" PRIu64 ".%09" PRIu64, ns < 0 ? '-' : '+', u / 1000000000, u % 1000000000);
    while (to[n - 1] == '0') to[--n] = '\0';
    if (to[n - 1] == '.') to[--n] = '\0';
}

/* The numbers, as far as there is room. */
static void print_signals(char *to, uint64_t signals)
{
    const char *before = "(";
    int n = snprintf(to, PIECE, ".WithSignals");
    for (int sig = 1; signals; sig++, signals >>= 1) {
        if (!(signals & 1)) continue;
        if (n > PIECE - (int)sizeof ",64,...)") {
            n += snprintf(to + n, PIECE - (size_t)n, ",...");
            break;
        }
        n += snprintf(to + n, PIECE - (size_t)n, "%s%d", before, sig);
        before = ",";
    }
    snprintf(to + n, PIECE - (size_t)n, ")");
}

/* The piece of n itself. */
static struct piece print_piece(struct cctx *n, int64_t now)
{
    struct piece p = {"", "", ""};
    char seconds[32];
    switch (node_kind(n)) {
    case KIND_BACKGROUND: snprintf(p.head, PIECE, "cctx.Background"); break;
    case KIND_TODO: snprintf(p.head, PIECE, "cctx.TODO"); break;
    case KIND_WITHOUT: snprintf(p.head, PIECE, ".WithoutCancel"); break;
    case KIND_CANCEL: snprintf(p.head, PIECE, ".WithCancel"); break;
    case KIND_DEADLINE:
        if (sync_get(n->deadline) == CCTX_NEVER) {
            snprintf(p.head, PIECE, ".WithDeadline(never)");
            break;
        }
        print_seconds(seconds, sizeof seconds, time_add(sync_get(n->deadline), -now));
        snprintf(p.head, PIECE, ".WithDeadline(%ss)", seconds);
        break;
    case KIND_ANY: snprintf(p.head, PIECE, ".WithAny(%u)", ((struct any *)(void *)n)->legs + 1); break;
    case KIND_SIGNALS: print_signals(p.head, handler_signals(n)); break;
    case KIND_VALUE: {
        const char *name = ((struct value *)(void *)n)->key->name;
        snprintf(p.head, PIECE, ".WithValue(");
        p.name = name ? name : "?";
        snprintf(p.tail, sizeof p.tail, ")");
        break;
    }
    }
    return p;
}

/* Copies text to end at *end, leaving out what is beyond limit. */
static void put_before(char *buf, size_t *end, size_t limit, const char *text)
{
    size_t length = strlen(text);
    *end -= length;
    if (*end < limit) memcpy(buf + *end, text, length < limit - *end ? length : limit - *end);
}

size_t cctx_print(const cctx_t *ctx, char *buf, size_t size)
{
    node_check(ctx, "cctx_print");
    int64_t now = ctx ? node_now(ctx) : 0;
    size_t length = 0, limit = buf && size > 0 ? size - 1 : 0;
    for (struct cctx *n = (struct cctx *)(uintptr_t)ctx; n; n = sync_get(n->parent)) {
        struct piece p = print_piece(n, now);
        length += strlen(p.head) + strlen(p.name) + strlen(p.tail);
    }
    if (!buf || size == 0) return length;
    size_t end = length;
    for (struct cctx *n = (struct cctx *)(uintptr_t)ctx; n; n = sync_get(n->parent)) {
        struct piece p = print_piece(n, now);
        put_before(buf, &end, limit, p.tail);
        put_before(buf, &end, limit, p.name);
        put_before(buf, &end, limit, p.head);
    }
    buf[length < limit ? length : limit] = '\0';
    return length;
}
