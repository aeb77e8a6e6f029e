/* Layer 12, face. shared: contexts that several processes see: the arena's memory, and what is public of it.
 * SPDX-License-Identifier: BSD-2-Clause */
#include <cctx/shared.h>
#include "alloc.h"
#include "peer.h"
#include "watch.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u      /* since Linux 6.3; before, EINVAL */
#endif

/* Without these a process could take the memory away under another one, which a signal would end then. */
enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW };

static void *fail(int error)
{
    errno = error;
    return NULL;
}

/* What has fd, of size bytes, mapped; NULL with errno. */
static struct cctx_shared *shared_map(int fd, size_t size)
{
    struct cctx_shared *s = (struct cctx_shared *)alloc_get(sizeof *s);
    if (!s) return fail(ENOMEM);
    s->fd = fd;
    s->size = size;
    s->bindings.last = watch_end;
    s->bindings.roster = roster_new(NULL, roster_width(), NULL, NULL, NULL);
    sync_init(&s->bindings.refs, 1u);
    void *memory = s->bindings.roster ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (memory != MAP_FAILED) {
        s->bindings.arena.head = (struct arena_head *)memory;
        return s;
    }
    int error = s->bindings.roster ? errno : ENOMEM;
    roster_free(s->bindings.roster);
    alloc_put(s);
    return fail(error);
}

/* The descriptor, of size bytes of memory that are there for good; -1 with errno. */
static int memory_make(size_t size)
{
    int fd = memfd_create("cctx-shared", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) fd = memfd_create("cctx-shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -1;
    if (fallocate(fd, 0, 0, (off_t)size) == 0 && fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) == 0) return fd;
    int error = errno;
    close(fd);
    errno = error == ENOSPC ? ENOMEM : error;
    return -1;
}

/* The size of the memory behind fd; 0 with errno: nothing that can be an arena, or that is safe to touch. */
static size_t memory_size(int fd)
{
    struct stat file;
    struct statfs system;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || fstatfs(fd, &system) != 0 || fstat(fd, &file) != 0) return 0;
    /* Of huge pages there may be none left at the moment of a touch. */
    if ((seals & SEALS) != SEALS || system.f_type != TMPFS_MAGIC) errno = EINVAL;
    else if (file.st_size <= 0 || (uint64_t)file.st_size > arena_size(ARENA_MOST)) errno = EBADMSG;
    else return (size_t)file.st_size;
    return 0;
}

cctx_shared_t *cctx_shared_create(size_t capacity)
{
    if (capacity == 0 || capacity > CCTX_SHARED_MAX) return fail(EINVAL);
    int fd = memory_make(arena_size((uint32_t)capacity));
    if (fd < 0) return NULL;
    struct cctx_shared *s = shared_map(fd, arena_size((uint32_t)capacity));
    if (s) arena_make(&s->bindings.arena, s->bindings.arena.head, (uint32_t)capacity);
    else {
        int error = errno;
        close(fd);
        errno = error;
    }
    return s;
}

cctx_shared_t *cctx_shared_attach(int fd)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0) return NULL;
    size_t size = memory_size(own);
    struct cctx_shared *s = size > 0 ? shared_map(own, size) : NULL;
    if (!s) {
        int error = errno;
        close(own);
        return fail(error);
    }
    int error = arena_open(&s->bindings.arena, s->bindings.arena.head, size);
    if (error == 0) return s;
    bindings_unref(&s->bindings);
    return fail(error);
}

int cctx_shared_fd(const cctx_shared_t *s)
{
    if (s) return s->fd;
    errno = EINVAL;
    return -1;
}

void cctx_shared_free(cctx_shared_t *s)
{
    if (s) bindings_unref(&s->bindings);
}

cctx_token_t cctx_shared_token(cctx_shared_t *s, cctx_time_t deadline)
{
    uint64_t token = 0;
    int error = s ? arena_claim(&s->bindings.arena, peer_self(), deadline, &token) : EINVAL;
    if (error != 0) errno = error;
    return token;
}

bool cctx_shared_cancel(cctx_shared_t *s, cctx_token_t token) { return s && arena_cancel(&s->bindings.arena, token); }

/* How the token is, when its owner's death will be seen from now on, if it lives. */
static enum arena_state shared_look(struct cctx_shared *s, uint64_t token, struct arena_sight *sight, int *error)
{
    struct arena *a = &s->bindings.arena;
    enum arena_state state = arena_look(a, token, sight);
    if (state != ARENA_LIVE) return state;
    *error = watch_bell(s);
    if (*error != 0 || sight->owner == peer_self()) return state;
    *error = watch_owner(s, sight->owner);
    if (*error != ESRCH) return state;
    *error = 0;
    arena_bury(a, sight->owner);
    return arena_look(a, token, sight);
}

cctx_t *cctx_with_shared(const cctx_t *parent, cctx_shared_t *s, cctx_token_t token)
{
    if (!parent || !s) return fail(EINVAL);
    struct arena_sight sight = {0};
    int error = 0;
    enum arena_state state = shared_look(s, token, &sight, &error);
    if (state == ARENA_NONE) error = EINVAL;
    if (state == ARENA_CORRUPT) error = EBADMSG;
    if (error != 0) return fail(error);
    const cctx_t *below = state == ARENA_LIVE ? binding_new(&s->bindings, token, sight.deadline) : binding_done(state);
    if (!below) return NULL;
    const cctx_t *both[] = {parent, below};
    cctx_t *ctx = cctx_with_any(both, 2);
    cctx_unref(below);
    return ctx;
}
