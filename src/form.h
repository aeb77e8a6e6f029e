/* Layer 1, machine. form: a line of a dump in each of its forms; knows nothing of contexts.
 * SPDX-License-Identifier: BSD-2-Clause */
#ifndef CCTXI_FORM_H
#define CCTXI_FORM_H

#include "base.h"
#include <stdio.h>

enum form { FORM_TEXT, FORM_DOT, FORM_JSON, FORMS };

struct pen {                    /* what is written with; after a failure it writes no more */
    FILE *out;
    enum form form;
    bool began;                 /* a line was written */
    int error;                  /* 0, or the errno of the write that failed */
};

struct line {                   /* what is told of one context */
    const void *id, *parent;    /* parent NULL: none */
    size_t depth;
    const char *kind;
    const char *state;          /* NULL: a reference to a context that stands elsewhere */
    bool done;
    bool has_deadline;
    int64_t deadline, left;
    unsigned waiters;
    bool callbacks;
    const char *key;            /* of a value on the way; NULL: none. Names and texts are any bytes */
    bool has_cause;
    int code;
    const char *text;           /* of the cause; may be NULL */
    const char *name, *call, *place;    /* NULL: not known */
};

void form_begin(struct pen *p);
void form_line(struct pen *p, const struct line *line);
void form_end(struct pen *p);

#endif
