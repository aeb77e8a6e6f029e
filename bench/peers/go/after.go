// SPDX-License-Identifier: BSD-2-Clause

//go:build go1.21

// Callbacks, which Go has from 1.21 on.
package main

import (
	"context"
	"sync"
)

var afterFuncs = []benchmark{{"after_stop", afterStop}, {"callbacks", callbacks}}

func afterStop() []figure {
	c, cancel := context.WithCancel(background)
	defer cancel()
	return timed(func(n int) {
		for i := 0; i < n; i++ {
			if stop := context.AfterFunc(c, func() {}); !stop() {
				broken("a callback is not stopped")
			}
		}
	})
}

// Go runs each callback in a goroutine of its own. The clock stops when all have run.
func callbacks() []figure {
	const n = 1000
	var v []float64
	for k := 0; k < trials(n); k++ {
		c, cancel := context.WithCancel(background)
		var all sync.WaitGroup
		all.Add(n)
		for i := 0; i < n; i++ {
			context.AfterFunc(c, all.Done)
		}
		t0 := now()
		cancel()
		all.Wait()
		v = append(v, float64(now()-t0)/n)
	}
	return value(median(v))
}
