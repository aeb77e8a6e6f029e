/* SPDX-License-Identifier: BSD-2-Clause */
/* The bridge's header compiles alone, as C99 and as C11. */
#include <cctx/bridge/sqlite3.h>

int (*header_begin)(cctx_sqlite3_t *, sqlite3 *, const cctx_t *) = cctx_sqlite3_begin;
