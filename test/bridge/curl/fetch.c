/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fetch - write what URLs name to the standard output, until the time is up or Ctrl-C comes.
 *
 * usage: fetch MILLISECONDS URL...
 *
 * One context stands for all of them. The multi handle keeps the connection from one transfer to the next.
 */
#include <cctx/bridge/curl.h>
#include <cctx/signal.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

/* [fetch] */
/* 0, or an errno value: ECANCELED and ETIMEDOUT are the context's. */
static int fetch(const cctx_t *ctx, CURLM *multi, const char *url)
{
    CURL *easy = curl_easy_init();
    CURLcode result;

    if (!easy)
        return ENOMEM;
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* a cancel does not wait for the lookup of a name */
    result = cctx_curl_perform(ctx, multi, easy);
    if (result != CURLE_OK)
        fprintf(stderr, "fetch: %s: %s\n", url,
                cctx_err(ctx) ? cctx_cause(ctx)->text : curl_easy_strerror(result));
    curl_easy_cleanup(easy);
    return cctx_curl_errno(result);
}
/* [fetch end] */

int main(int argc, char **argv)
{
    sigset_t signals;
    cctx_t *stop, *ctx;
    CURLM *multi;
    int err = 0;

    if (argc < 3) {
        fputs("usage: fetch MILLISECONDS URL...\n", stderr);
        return 2;
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    signal(SIGPIPE, SIG_IGN); /* libcurl and TLS write to connections that the other side has closed */
    curl_global_init(CURL_GLOBAL_DEFAULT);
    multi = curl_multi_init();
    stop = cctx_with_signals(cctx_background(), &signals);
    ctx = cctx_with_timeout(stop, CCTX_MS(atol(argv[1])));
    if (!multi || !ctx)
        err = ENOMEM;
    for (int i = 2; i < argc && err == 0; i++)
        err = fetch(ctx, multi, argv[i]);
    cctx_close(ctx);
    cctx_close(stop);
    curl_multi_cleanup(multi);
    curl_global_cleanup();
    return err ? 1 : 0;
}
