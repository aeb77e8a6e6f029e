// Go's own context package as a peer of cctx. It needs nothing but Go's standard library, from 1.19 on.
module cctx/peer

go 1.19
