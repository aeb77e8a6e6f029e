/* SPDX-License-Identifier: BSD-2-Clause */
/* cctx/bridge/curl.h - libcurl: a transfer, or a wait for many of them, that ends with a context. */
#ifndef CCTX_BRIDGE_CURL_H
#define CCTX_BRIDGE_CURL_H

/*
 * WHAT IT IS FOR
 *
 * curl_easy_perform can be ended from outside by its progress callback alone, and while a transfer waits for
 * the other side that is called about once a second. cctx_curl_perform does the same transfer by a multi
 * handle, and sleeps in curl_multi_poll, which a cancel wakes:
 *
 *     CURLcode result = cctx_curl_perform(ctx, NULL, easy);
 *     int err = cctx_curl_errno(result);      0, ECANCELED, ETIMEDOUT, ..., EIO
 *
 * A program with a multi handle of its own calls cctx_curl_multi_poll in the place of curl_multi_poll.
 *
 * What libcurl does inside of a call of its own, nobody interrupts:
 *
 * - A name that is being looked up by getaddrinfo. The transfer ends at once, but curl_multi_remove_handle
 *   then waits for the lookup, unless CURLOPT_QUICK_EXIT was set to 1 on the handle (7.87.0): then its thread
 *   is left to end by itself. A libcurl that was built with c-ares has no such thread.
 * - file:// is one call, from the first byte to the last, and some steps of SSH, LDAP and SMB block. Where
 *   that matters, set cctx_curl_xferinfo as well.
 *
 * And a program that uses TLS ignores SIGPIPE. libcurl does so for it in some calls, but
 * curl_multi_remove_handle, which says good-bye on the connection of a transfer that is given up, is not
 * among them.
 *
 * Link with libcurl 7.81.0 or newer, and with cctx. The defaults are those of cctx.h.
 */

#include <cctx/cctx.h>
#include <curl/curl.h>
#include <limits.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * cctx_curl_errno - a transfer's result as an errno value.
 *
 * Returns    0, ECANCELED, ETIMEDOUT (the context's deadline or a time-out of libcurl's: cctx_err(ctx)
 *            tells), ENOMEM, EINVAL; EIO for any other failure, of which curl_easy_strerror has the words.
 */
static inline int cctx_curl_errno(CURLcode result)
{
    switch (result) {
    case CURLE_OK: return 0;
    case CURLE_ABORTED_BY_CALLBACK: return ECANCELED;
    case CURLE_OPERATION_TIMEDOUT: return ETIMEDOUT;
    case CURLE_OUT_OF_MEMORY: return ENOMEM;
    case CURLE_BAD_FUNCTION_ARGUMENT: return EINVAL;
    default: return EIO;
    }
}

/*
 * cctx_curl_timeout_ms - the time that is left, for CURLOPT_TIMEOUT_MS: for transfers that others perform.
 *
 * Returns    milliseconds, rounded up; at least 1 even if the time is over, as 0 means "never" to libcurl,
 *            and 0 only where there is no deadline; INT_MAX where it is further off than that.
 */
static inline long cctx_curl_timeout_ms(const cctx_t *ctx)
{
    int64_t left = cctx_remaining(ctx), ms = left / CCTX_MS(1) + (left % CCTX_MS(1) != 0);

    if (left == CCTX_NEVER)
        return 0;
    return ms < 1 ? 1 : ms > INT_MAX ? INT_MAX : (long)ms;
}

/*
 * cctx_curl_xferinfo - a CURLOPT_XFERINFOFUNCTION that ends the transfer with its context.
 *
 * For calls of libcurl that do not return, and for programs that cannot leave curl_easy_perform.
 * CURLOPT_XFERINFODATA is the context, CURLOPT_NOPROGRESS is 0. It is called as data comes and goes, and
 * about once a second while none does. The result is CURLE_ABORTED_BY_CALLBACK, also after a deadline.
 */
static inline int cctx_curl_xferinfo(void *ctx, curl_off_t download, curl_off_t loaded, curl_off_t upload,
                                     curl_off_t sent)
{
    (void)download, (void)loaded, (void)upload, (void)sent;
    return cctx_is_done((const cctx_t *)ctx);
}

/* On the thread that cancels; curl_multi_wakeup is what any thread may call. */
static inline void cctx_curl_private_wake(void *multi)
{
    (void)curl_multi_wakeup((CURLM *)multi);
}

/*
 * cctx_curl_multi_poll - curl_multi_poll that a context ends.
 *
 * Sleeps until a transfer of multi, or one of the n descriptors in fds, wants something, until timeout_ms
 * milliseconds are over, or until ctx is done. As of curl_multi_poll, it may return early. After an end of
 * the context the transfers are where they were: the program takes those that belong to ctx out by
 * curl_multi_remove_handle, which closes their connections, and frees their buffers only then.
 *
 * Returns    CURLM_OK                   *ready, unless NULL, is what curl_multi_poll says.
 *            CURLM_ABORTED_BY_CALLBACK  ctx is done, whatever else there is to tell: cctx_err(ctx).
 * Errors     those of curl_multi_poll; CURLM_OUT_OF_MEMORY: also where a thread of cctx could not be made.
 *            CURLM_BAD_FUNCTION_ARGUMENT: also a NULL ctx.
 * Threads    one at a time for a multi handle, as for all that takes one. When it returns nobody will wake
 *            multi: it may be cleaned up.
 * Blocking   as said. A multi handle that was made when no descriptor was left (EMFILE) cannot be woken: for
 *            it curl_multi_wakeup answers CURLM_WAKEUP_FAILURE; only the deadline ends its poll.
 * Cost       curl_multi_poll, and about 50 ns.
 */
static inline CURLMcode cctx_curl_multi_poll(const cctx_t *ctx, CURLM *multi, struct curl_waitfd *fds,
                                             unsigned n, int timeout_ms, int *ready)
{
    cctx_callback_t callback = {{0}};
    long left = cctx_curl_timeout_ms(ctx);
    CURLMcode code;
    int err;

    if (cctx_is_done(ctx))
        return CURLM_ABORTED_BY_CALLBACK;
    err = cctx_after_func(ctx, &callback, cctx_curl_private_wake, multi);
    if (err)
        return err == EINVAL ? CURLM_BAD_FUNCTION_ARGUMENT : CURLM_OUT_OF_MEMORY;
    /* The deadline ends the sleep even if the thread that wakes at deadlines is held up. */
    if (left > 0 && left < timeout_ms)
        timeout_ms = (int)left;
    code = curl_multi_poll(multi, fds, n, timeout_ms, ready);
    cctx_stop_wait(&callback);
    /* This look fires a deadline that has passed: else the caller turns round until another thread does. */
    return cctx_wait_for(ctx, 0) ? CURLM_ABORTED_BY_CALLBACK : code;
}

/* Is the transfer over? */
static inline bool cctx_curl_private_over(CURLM *multi, CURL *easy, CURLcode *result)
{
    CURLMsg *message;
    int queued;

    while ((message = curl_multi_info_read(multi, &queued)) != NULL) {
        if (message->msg == CURLMSG_DONE && message->easy_handle == easy) {
            *result = message->data.result;
            return true;
        }
    }
    return false;
}

/*
 * cctx_curl_perform - curl_easy_perform that a context ends.
 *
 * multi is a multi handle without transfers, which keeps the connections for the next call, or NULL for one
 * that lives as long as the call. All options of easy stay as they are; a time-out of its own ends the
 * transfer as ever. With the end of the context the transfer is given up, its connection closed, and easy is
 * the caller's again, to be reused or cleaned up.
 *
 * Returns    what curl_easy_perform does; and
 *            CURLE_ABORTED_BY_CALLBACK  ctx was canceled. If it was so before, no connection is made.
 *            CURLE_OPERATION_TIMEDOUT   the deadline of ctx has passed.
 *            Of a transfer that is complete the result is told even if ctx is done. The end of a context
 *            writes no text to CURLOPT_ERRORBUFFER.
 * Errors     CURLE_OUT_OF_MEMORY: also where a thread of cctx could not be made, or no descriptor is left by
 *            which multi could be woken. CURLE_BAD_FUNCTION_ARGUMENT: ctx or easy is NULL, or easy is in a
 *            multi handle already.
 * Threads    easy and multi are used by this call alone.
 * Blocking   until the transfer is over, or ctx is done; see above for what is not ended at once.
 * Cost       curl_easy_perform, and some microseconds. With a NULL multi, a connection, its TLS handshake and
 *            the name's lookup each time.
 */
static inline CURLcode cctx_curl_perform(const cctx_t *ctx, CURLM *multi, CURL *easy)
{
    CURLM *own = NULL;
    CURLcode result = CURLE_OK;
    CURLMcode code;
    int running;

    if (!ctx || !easy)
        return CURLE_BAD_FUNCTION_ARGUMENT;
    if (!multi)
        multi = own = curl_multi_init();
    /* A multi handle that cannot be woken would sleep through a cancel. */
    code = multi && curl_multi_wakeup(multi) == CURLM_OK ? CURLM_OK : CURLM_OUT_OF_MEMORY;
    if (code == CURLM_OK && cctx_is_done(ctx))
        code = CURLM_ABORTED_BY_CALLBACK;
    else if (code == CURLM_OK && (code = curl_multi_add_handle(multi, easy)) == CURLM_OK) {
        do
            code = curl_multi_perform(multi, &running);
        while (code == CURLM_OK && !cctx_curl_private_over(multi, easy, &result) &&
               (code = cctx_curl_multi_poll(ctx, multi, NULL, 0, INT_MAX, NULL)) == CURLM_OK);
        curl_multi_remove_handle(multi, easy);
    }
    if (own)
        curl_multi_cleanup(own);
    if (code == CURLM_OK)
        return result;
    if (code == CURLM_ABORTED_BY_CALLBACK && cctx_is_done(ctx))
        return cctx_err(ctx) == ETIMEDOUT ? CURLE_OPERATION_TIMEDOUT : CURLE_ABORTED_BY_CALLBACK;
    return code == CURLM_OUT_OF_MEMORY ? CURLE_OUT_OF_MEMORY : CURLE_BAD_FUNCTION_ARGUMENT;
}

#ifdef __cplusplus
}
#endif

#endif
