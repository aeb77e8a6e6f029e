/* Layer 6, mechanism. service: a thread of the library's own, made when it is first needed.
 * SPDX-License-Identifier: BSD-2-Clause */
#include "service.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>

enum { NONE, MADE };

static void *service_main(void *arg)
{
    struct service *s = (struct service *)arg;
    pthread_setname_np(pthread_self(), s->name);
    s->main();
    return NULL;
}

static bool service_create(struct service *s)
{
    sigset_t all, before;
    pthread_attr_t attr;
    pthread_t thread;
    if (pthread_attr_init(&attr) != 0) return false;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, &attr, service_main, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return failed == 0;
}

bool service_start(struct service *s)
{
    uint32_t none = NONE;
    if (likely(sync_load_acq(&s->state, service) == MADE)) return true;
    if (!sync_cas_acqrel(&s->state, &none, (uint32_t)MADE, service, service)) return true;
    int saved = errno;
    bool made = service_create(s);
    errno = saved;
    if (!made) sync_store_rel(&s->state, (uint32_t)NONE, service);
    return made;
}

void service_forked(struct service *s) { sync_store_rel(&s->state, (uint32_t)NONE, service); }
