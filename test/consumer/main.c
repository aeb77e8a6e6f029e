/* SPDX-License-Identifier: BSD-2-Clause
 * The least that a program outside the tree does: derive, cancel, look; and print the version it was built with. */
#include <cctx/cctx.h>
#include <stdio.h>

int main(void)
{
    cctx_t *ctx = cctx_with_timeout(cctx_background(), CCTX_S(3600));

    if (ctx == NULL || cctx_err(ctx) != 0 || !cctx_cancel(ctx) || cctx_err(ctx) != ECANCELED)
        return 1;
    cctx_unref(ctx);
    puts(CCTX_VERSION);
    return 0;
}
