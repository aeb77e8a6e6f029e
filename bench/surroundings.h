/* SPDX-License-Identifier: BSD-2-Clause */
/* surroundings: in which the operations are done that bench/instructions and bench/lines look at: one parent, alone or
 * done, among siblings, among deadlines. */
#ifndef CCTX_BENCH_SURROUNDINGS_H
#define CCTX_BENCH_SURROUNDINGS_H

#include <cctx/cctx.h>

#include <stdio.h>
#include <stdlib.h>

/* Not inline, since the header's inline functions are looked at, too. */
int look_err(const cctx_t *ctx);
int look_is_done(const cctx_t *ctx);

enum { SIBLINGS = 1000, ARMED = 100000 };
static const int64_t HOUR = CCTX_S(3600);
static cctx_t *parent, *elsewhere, *many[ARMED];

static void broken(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}
static cctx_t *need(const cctx_t *c)
{
    if (!c) broken("a derivation failed");
    return (cctx_t *)(uintptr_t)c;
}
static void life(const cctx_t *c)
{
    cctx_cancel(need(c));
    cctx_unref(c);
}
static void nothing(void *arg) { (void)arg; }

static void make_parent(void) { parent = need(cctx_with_cancel(cctx_background())); }
static void make_ended(void)
{
    make_parent();
    cctx_cancel(parent);
}
static void make_siblings(void)
{
    make_parent();
    for (int i = 0; i < SIBLINGS; i++) many[i] = need(cctx_with_cancel(parent));
}
static void make_armed(void)
{
    uint64_t seed = 1;
    make_parent();
    elsewhere = need(cctx_with_cancel(cctx_background()));
    for (int i = 0; i < ARMED; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        many[i] = need(cctx_with_timeout(elsewhere, HOUR + (int64_t)(seed >> 33) % HOUR));
    }
}
static void free_parent(void) { cctx_close(parent); }
static void free_siblings(void)
{
    for (int i = 0; i < SIBLINGS; i++) cctx_close(many[i]);
    free_parent();
}
static void free_armed(void)
{
    for (int i = 0; i < ARMED; i++) cctx_close(many[i]);
    cctx_close(elsewhere);
    free_parent();
}

#endif
