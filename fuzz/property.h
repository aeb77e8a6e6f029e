/* SPDX-License-Identifier: BSD-2-Clause */
/* property: what the fuzz targets share: bytes as a program, and a check that ends the process.
 *
 * Each *_fuzz.c states one property of the library over all programs of its little language, as the function
 * that libFuzzer calls. An input is the program; whatever the bytes, it is a valid one. fuzz/replay.c runs
 * the same functions over the committed corpora, with any compiler. */
#ifndef CCTX_FUZZ_PROPERTY_H
#define CCTX_FUZZ_PROPERTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PROPERTY(expression) ((expression) ? (void)0 : property_failed(__FILE__, __LINE__, #expression))

static unsigned property_step;          /* the step of the program, for the report */

static inline void property_failed(const char *file, int line, const char *expression)
{
    fprintf(stderr, "%s:%d: step %u: this does not hold: %s\n", file, line, property_step, expression);
    abort();
}

/* With PROPERTY_TRACE in the environment a target tells each call that it makes. */
static inline bool property_traces(void)
{
    static int traces = -1;
    if (traces < 0) traces = getenv("PROPERTY_TRACE") != NULL;
    return traces != 0;
}

#define TRACE(...) (property_traces() ? (void)fprintf(stderr, __VA_ARGS__) : (void)0)

struct input {
    const uint8_t *at, *end;
};

static inline bool take_more(const struct input *in) { return in->at < in->end; }

/* The bytes after the end are 0. */
static inline unsigned take(struct input *in) { return take_more(in) ? *in->at++ : 0u; }

static inline unsigned take_below(struct input *in, unsigned n) { return take(in) % n; }

static inline uint64_t take_u64(struct input *in)
{
    uint64_t u = 0;
    for (int i = 0; i < 8; i++) u = u << 8 | take(in);
    return u;
}

/* A duration of any magnitude, from two bytes: a signed mantissa and a power of two. It saturates. */
static inline int64_t take_duration(struct input *in)
{
    int64_t mantissa = (int8_t)take(in), product;
    int64_t scale = (int64_t)1 << take_below(in, 60);
    if (__builtin_mul_overflow(mantissa, scale, &product)) return mantissa < 0 ? INT64_MIN : INT64_MAX;
    return product;
}

#endif
