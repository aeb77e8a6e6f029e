/* SPDX-License-Identifier: BSD-2-Clause */
/* The bridge's header compiles alone, as C99 and as C11. */
#include <cctx/bridge/rocksdb.h>

int (*header_begin)(cctx_rocksdb_t *, rocksdb_t *, const cctx_t *) = cctx_rocksdb_compact_begin;
