/* SPDX-License-Identifier: BSD-2-Clause */
/* The C half of the conformance check: makes programs, runs them on the library, leaves steps out of them. */
#include "drive.h"
#include "generate.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int usage(void)
{
    fputs("usage: conformance generate COUNT SEED    random programs\n"
          "       conformance trace FILE [NUMBER]    runs programs, prints them and what each step did; with\n"
          "                                          NUMBER only that one, after all before it have run\n"
          "       conformance hash FILE              the same, as one number a program; counts on stderr\n"
          "       conformance omit FILE STEP         its first program without a step; fails if what is left\n"
          "                                          does not say in which order all of it happens\n",
        stderr);
    return 2;
}

/* The whole of a file, which stays until the end. */
static const char *read_all(const char *name)
{
    static char *text;
    FILE *in = fopen(name, "r");
    if (!in) {
        perror(name);
        exit(2);
    }
    size_t size = 0, room = 1 << 20;
    for (text = malloc(room); text;) {
        size += fread(text + size, 1, room - size - 1, in);
        if (size < room - 1) break;
        char *more = realloc(text, room *= 2);
        if (!more) free(text);
        text = more;
    }
    if (!text || ferror(in)) abort();
    text[size] = 0;
    fclose(in);
    return text;
}

/* ---- what becomes of the lines */

struct output {
    struct drive_sink sink;
    uint64_t hash;
};

static void silent(struct drive_sink *sink, const struct step *s, const char *line)
{
    (void)sink, (void)s, (void)line;
}

static void print(struct drive_sink *sink, const struct step *s, const char *line)
{
    (void)sink;
    step_write(s, stdout);
    fputs(line, stdout);
}

/* FNV-1a. */
static void hash(struct drive_sink *sink, const struct step *s, const char *line)
{
    struct output *o = (struct output *)(void *)sink;
    (void)s;
    for (; *line; line++) o->hash = (o->hash ^ (unsigned char)*line) * 0x100000001b3u;
}

/* ---- commands */

static int command_generate(uint64_t programs, uint64_t seed)
{
    struct program p;
    int64_t now = 1000000000;
    for (uint64_t i = 0; i < programs; i++) {
        now = generate(&p, seed + i, now);
        program_write(&p, stdout);
        if (now > (int64_t)1 << 60) {
            fprintf(stderr, "conformance: the fake clock is at its end after %" PRIu64 " programs\n", i + 1);
            return 2;
        }
    }
    return 0;
}

static int command_trace(const char *file, uint64_t number)
{
    struct program p;
    struct output quiet = {{silent}, 0}, loud = {{print}, 0};
    const char *text = read_all(file);
    for (uint64_t i = 1; program_read(&p, &text); i++) {
        bool tell = number == 0 || number == i;
        if (tell) printf("@ %" PRIu64 " %" PRId64 " %d\n", p.seed, p.start, p.keys);
        drive(&p, tell ? &loud.sink : &quiet.sink);
        fflush(stdout);         /* a crash is then known to be the next program's */
        if (number == i) break;
    }
    return 0;
}

static int command_hash(const char *file)
{
    struct program p;
    const char *text = read_all(file);
    uint64_t programs = 0;
    for (; program_read(&p, &text); programs++) {
        struct output o = {{hash}, 0xcbf29ce484222325u};
        drive(&p, &o.sink);
        printf("%016" PRIx64 "\n", o.hash);
        fflush(stdout);
    }
    return drive_counts(stderr, programs) ? 0 : 3;
}

static int command_omit(const char *file, long omitted)
{
    struct program p;
    struct schedule s;
    const char *text = read_all(file);
    if (!program_read(&p, &text) || omitted < 1 || omitted > p.count) return 1;
    p.count--;
    for (int i = (int)omitted - 1; i < p.count; i++) p.step[i] = p.step[i + 1];
    schedule_begin(&s, p.start);
    for (int i = 0; i < p.count; i++)
        if (!schedule_step(&s, &p.step[i])) return 1;
    program_write(&p, stdout);
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[1] : "";
    if (strcmp(what, "generate") == 0 && argc == 4)
        return command_generate(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    if (strcmp(what, "trace") == 0) return command_trace(argv[2], argc > 3 ? strtoull(argv[3], NULL, 10) : 0);
    if (strcmp(what, "hash") == 0) return command_hash(argv[2]);
    if (strcmp(what, "omit") == 0 && argc == 4) return command_omit(argv[2], strtol(argv[3], NULL, 10));
    return usage();
}
