/* SPDX-License-Identifier: BSD-2-Clause */
/* replay: a fuzz target without a fuzzer: runs the property over files, and over those of folders.
 *
 * It runs the whole of what was found once, with any compiler, in a moment. */
#include "property.h"

#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static unsigned files;
static const char *present;

/* Tells which file it was that ended the process. */
static void replay_failed(int sig)
{
    ssize_t written = write(STDERR_FILENO, present, strlen(present));
    written = write(STDERR_FILENO, " shows it\n", 10);
    (void)written;
    signal(sig, SIG_DFL);
    raise(sig);
}

static void replay_file(const char *path)
{
    static uint8_t data[1 << 16];
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(2);
    }
    size_t size = fread(data, 1, sizeof data, file);
    fclose(file);
    present = path;
    uint8_t *exact = malloc(size + !size);      /* of its very size, so that a read beyond it is seen */
    if (!exact) abort();
    memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    files++;
}

static void replay(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder) {
        replay_file(path);
        return;
    }
    for (struct dirent *e; (e = readdir(folder)) != NULL;) {
        char name[4096];
        if (e->d_name[0] == '.') continue;
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        replay(name);
    }
    closedir(folder);
}

int main(int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "--help") == 0) {
        printf("usage: %s FILE-OR-FOLDER...\n", argv[0]);
        return argc < 2 ? 2 : 0;
    }
    signal(SIGABRT, replay_failed);
    for (int i = 1; i < argc; i++) replay(argv[i]);
    printf("%u inputs, each with the property\n", files);
    return files > 0 ? 0 : 1;
}
