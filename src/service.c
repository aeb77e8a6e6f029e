/* Layer 6, mechanism. service: a thread of the library's own, made when it is first needed.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "service.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>

static void *service_main(void *arg)
{
    struct service *s = (struct service *)arg;
    uint32_t free = 0;
    if (!sync_cas_relaxed(&s->taken, &free, 1u, alone)) return NULL;
    pthread_setname_np(pthread_self(), s->name);
    s->main();
    return NULL;
}

static bool service_create(struct service *s)
{
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, NULL, service_main, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed == 0) pthread_detach(thread);
    return failed == 0;
}

/* Several threads that find none make one each, of which the first that runs takes the role and the others end: so
 * nobody counts on a thread that somebody else then fails to make. What a service thread needs of the one that made it,
 * pthread_create orders; what it is told later comes by words of its own. */
bool service_start(struct service *s)
{
    if (likely(sync_load_relaxed(&s->made, alone) != 0)) return true;
    int saved = errno;
    bool made = service_create(s);
    errno = saved;
    if (made) sync_store_relaxed(&s->made, 1u, alone);
    return made;
}

void service_forked(struct service *s)
{
    sync_store_relaxed(&s->taken, 0u, alone);
    sync_store_relaxed(&s->made, 0u, alone);
}
