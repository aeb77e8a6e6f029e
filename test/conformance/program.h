/* SPDX-License-Identifier: BSD-2-Clause */
/* program: the language of the programs that run both on Go's context and on cctx, and its text.
 *
 * A program has registers that hold contexts and slots that hold callbacks. Register 0 is the background, 1
 * the TODO. A step whose registers or slot are not as it needs them (empty, or in use where it makes
 * something) does nothing, so that any steps can be left out of a program and a program remains. One line
 * each:
 *
 *   @ SEED START KEYS            begins a program at the time START; KEYS is how many keys are read
 *   child R P                    R = with_cancel(P)
 *   deadline R P D C             R = with_deadline(_cause) of P; D counts from START (at 2^62 or more: from 0)
 *   timeout R P T C              R = with_timeout(_cause) of P
 *   value R P K V                R = with_value; V is 0 (NULL) to 9
 *   detach R P                   R = without_cancel(P)
 *   any R P Q S N                R = with_any of the first N of P, Q, S
 *   ref R P                      R = one more handle of P
 *   cancel R C                   ends R
 *   close R, drop R              cancels R and lets go of it; lets go of it
 *   advance T                    lets time pass
 *   after F R A X                leaves a callback in slot F with R. It does A to X, of which it has a handle
 *                                until then: 0 nothing, 1 cancels it with cause 6, 2 derives register
 *                                NESTED + F from it, 3 leaves a callback in slot FIRST + F with it if that
 *                                was never used, 4 stops itself
 *   stop F W                     stops F; W: and waits
 *   wait R T W                   waits for R, then until T is over. W: without a limit, if it ends in T
 *   look R                       what is left of its deadline, and whether it can ever be done
 *
 * Causes: 0 none, 1 to 6 static, 7 to 9 formatted. A line that begins with '=' is what a step was seen to do;
 * it is no part of the program. */
#ifndef CCTX_CONFORMANCE_PROGRAM_H
#define CCTX_CONFORMANCE_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum {
    ROOTS = 2, REGISTERS = 32, NESTED = 26,     /* below NESTED a program's own, above its callbacks' */
    SLOTS = 12, FIRST = 6,                      /* below FIRST a program's own, above its callbacks' */
    KEYS = 12, STEPS = 64, OPERANDS = 5
};
enum op {
    CHILD, DEADLINE, TIMEOUT, VALUE, DETACH, ANY, REF,  /* what makes a context; the rest does something to it */
    CANCEL, CLOSE, DROP, ADVANCE, AFTER, STOP, WAIT, LOOK, OPS
};

struct step {
    enum op op;
    int64_t arg[OPERANDS];
};
struct program {
    uint64_t seed;
    int64_t start;
    int keys, count;
    struct step step[STEPS];
};

extern const struct op_word { const char *word; int operands; } op_words[OPS];

/* Reads the program at *text and moves on behind it. False at the end; a text that is none ends the
 * process. */
bool program_read(struct program *p, const char **text);
void step_write(const struct step *s, FILE *out);
void program_write(const struct program *p, FILE *out);

/* The point in time of a deadline operand, and back. */
int64_t program_time(int64_t start, int64_t operand);
int64_t program_operand(int64_t start, int64_t time);

/* What is known of the times without running it: whether two things are due at one moment, where the order is
 * nobody's promise. */
struct schedule {
    int64_t start, now, deadline[REGISTERS], due[2 * STEPS];
    bool held[REGISTERS];
    int count;
};
void schedule_begin(struct schedule *s, int64_t start);
/* Adds a step; false, with nothing changed, if it is due when something else is. */
bool schedule_step(struct schedule *s, const struct step *step);

#endif
