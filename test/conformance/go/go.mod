// The Go half of the conformance check. It needs nothing but Go's own library, and of that testing/synctest.
module cctx/conformance

go 1.25.0
