// SPDX-License-Identifier: BSD-2-Clause

//go:build !go1.21

// A Go without callbacks on contexts.
package main

var afterFuncs []benchmark
