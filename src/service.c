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
    if (!sync_cas_acqrel(&s->taken, &free, 1u, service, service)) return NULL;
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
 * nobody counts on a thread that somebody else then fails to make. */
bool service_start(struct service *s)
{
    if (likely(sync_load_acq(&s->made, service) != 0)) return true;
    int saved = errno;
    bool made = service_create(s);
    errno = saved;
    if (made) sync_store_rel(&s->made, 1u, service);
    return made;
}

void service_forked(struct service *s)
{
    sync_store_rel(&s->taken, 0u, service);
    sync_store_rel(&s->made, 0u, service);
}
