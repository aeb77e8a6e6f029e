// SPDX-License-Identifier: BSD-2-Clause

// What a context costs: to derive and cancel, to look at, to end many at once, to keep.
package main

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

var background = context.Background()

type key int

// What is written here, the compiler must compute.
var (
	sinkErr     error
	sinkBool    bool
	sinkAny     any
	sinkContext context.Context
)

// ---- looking

// Go has two ways to look, Err and a receive from Done that does not block. The figure is that of the faster.
func poll(c context.Context) []figure {
	byErr := timed(func(n int) {
		var err error
		for i := 0; i < n; i += 4 {
			err = c.Err()
			err = c.Err()
			err = c.Err()
			err = c.Err()
		}
		sinkErr = err
	})
	done := c.Done()
	byDone := timed(func(n int) {
		for i := 0; i < n; i++ {
			select {
			case <-done:
				sinkBool = true
			default:
			}
		}
	})
	if byErr[0].value < byDone[0].value {
		return byErr
	}
	return byDone
}

func pollErr() []figure {
	c, cancel := context.WithCancel(background)
	defer cancel()
	return poll(c)
}

func pollDeadline() []figure {
	c, cancel := context.WithTimeout(background, time.Hour)
	defer cancel()
	return poll(c)
}

func pollDoneErr() []figure {
	c, cancel := context.WithCancel(background)
	cancel()
	return poll(c)
}

func lookUp(c context.Context, k key) []figure {
	return timed(func(n int) {
		for i := 0; i < n; i++ {
			sinkAny = c.Value(k)
		}
		if sinkAny == nil {
			broken("the value is not found")
		}
	})
}

func valueDepth(depth int) []figure {
	c := context.WithValue(background, key(1), "value")
	for i := 1; i < depth; i++ {
		c, _ = context.WithCancel(c)
	}
	return lookUp(c, key(1))
}

// The key asked for is the oldest of n.
func valueKeys(n int) []figure {
	c := background
	for i := 0; i < n; i++ {
		c = context.WithValue(c, key(i), "value")
	}
	return lookUp(c, key(0))
}

// ---- deriving and canceling; the collector frees

func lives(parent context.Context) func(int) {
	return func(n int) {
		for i := 0; i < n; i++ {
			_, cancel := context.WithCancel(parent)
			cancel()
		}
	}
}

func timedLives(parent context.Context) func(int) {
	return func(n int) {
		for i := 0; i < n; i++ {
			_, cancel := context.WithTimeout(parent, time.Hour)
			cancel()
		}
	}
}

func under(loop func(context.Context) func(int)) []figure {
	parent, cancel := context.WithCancel(background)
	defer cancel()
	return timed(loop(parent))
}

func createRoot() []figure    { return timed(lives(background)) }
func createChild() []figure   { return under(lives) }
func createTimeout() []figure { return under(timedLives) }

func createSiblings() []figure {
	parent, cancel := context.WithCancel(background)
	defer cancel()
	for i := 0; i < 1000; i++ {
		sinkContext, _ = context.WithCancel(parent)
	}
	return timed(lives(parent))
}

// The others hang below another parent, so that the row shows the timers alone.
func createTimeouts() []figure {
	elsewhere, cancel := context.WithCancel(background)
	defer cancel()
	var random random
	for i := 0; i < 100000; i++ {
		sinkContext, _ = context.WithTimeout(elsewhere, time.Hour+random.below(time.Hour))
	}
	return under(timedLives)
}

func createValue() []figure {
	parent, cancel := context.WithCancel(background)
	defer cancel()
	return timed(func(n int) {
		for i := 0; i < n; i++ {
			sinkContext = context.WithValue(parent, key(1), "value")
		}
	})
}

// twoOverOne runs the same batch by one goroutine, then by two, each with a thread and a CPU of its own: the
// throughput of both over that of one, and millions of operations per second of both.
func twoOverOne() (ratio, rate float64) {
	const n = 250000
	parent, cancel := context.WithCancel(background)
	defer cancel()
	var ratios, rates []float64
	for k := 0; k < reps(5, 3); k++ {
		var wall [2]float64
		for threads := 1; threads <= 2; threads++ {
			runtime.GC()
			var gate, ready int32
			var all sync.WaitGroup
			for i := 0; i < threads; i++ {
				all.Add(1)
				go func(cpu int) {
					defer all.Done()
					runtime.LockOSThread() // The thread, pinned as it is, ends with the goroutine.
					pin(0, one(cpu))
					atomic.AddInt32(&ready, 1)
					for atomic.LoadInt32(&gate) == 0 {
						runtime.Gosched()
					}
					lives(parent)(n)
				}(cpus[i])
			}
			for atomic.LoadInt32(&ready) < int32(threads) {
				time.Sleep(100 * time.Microsecond)
			}
			t0 := now()
			atomic.StoreInt32(&gate, 1)
			all.Wait()
			wall[threads-1] = float64(now() - t0)
		}
		ratios = append(ratios, 2*wall[0]/wall[1])
		rates = append(rates, 2*n/wall[1]*1e3)
	}
	return median(ratios), median(rates)
}

var theRate float64

func twoThreads() []figure {
	ratio, rate := twoOverOne()
	theRate = rate
	return value(ratio)
}

// twoThreadsRate comes from the same trials, which are the ones before.
func twoThreadsRate() []figure { return value(theRate) }

// ---- ending many at once

func trials(n int) int {
	switch {
	case n >= 1000000:
		return 1
	case n >= 100000:
		return reps(5, 3)
	case n >= 10000:
		return reps(31, 15)
	}
	return reps(101, 61)
}

// The collector is done with what the derivations left before the clock starts.
func fanOut(n int) []figure {
	var v []float64
	c := make([]context.Context, n)
	for k := 0; k < trials(n); k++ {
		root, cancel := context.WithCancel(background)
		for i := range c {
			c[i], _ = context.WithCancel(root)
		}
		runtime.GC()
		t0 := now()
		cancel()
		v = append(v, float64(now()-t0)/float64(n))
		for i := range c {
			if c[i].Err() == nil {
				broken("a cancel returned while a descendant is live")
			}
		}
	}
	return value(median(v))
}

// A cancel walks its chain by recursion, here on the stack of a fresh goroutine: its growth is part of the
// price.
func chain(n int) []figure {
	var v []float64
	for k := 0; k < trials(n); k++ {
		root, cancel := context.WithCancel(background)
		leaf := root
		for i := 0; i < n; i++ {
			leaf, _ = context.WithCancel(leaf)
		}
		runtime.GC()
		took := make(chan int64)
		go func() {
			t0 := now()
			cancel()
			took <- now() - t0
		}()
		v = append(v, float64(<-took)/float64(n))
		if leaf.Err() == nil {
			broken("a cancel returned while a descendant is live")
		}
	}
	return value(median(v))
}

// ---- counted: allocations, and bytes of heap when the collector has run

func heap() runtime.MemStats {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m
}

func allocs(loop func(context.Context) func(int)) []figure {
	const n = 10000
	parent, cancel := context.WithCancel(background)
	defer cancel()
	f := loop(parent)
	f(n)
	before := heap()
	f(n)
	after := heap()
	return value(float64(after.Mallocs-before.Mallocs) / n)
}

func allocsWarm() []figure    { return allocs(lives) }
func allocsTimeout() []figure { return allocs(timedLives) }

// Kept are a context and what cancels it, as a user must keep both.
type kept struct {
	context context.Context
	cancel  context.CancelFunc
}

func keep(n int, derive func(context.Context) (context.Context, context.CancelFunc)) (allocs, bytes float64) {
	parent, cancel := context.WithCancel(background)
	defer cancel()
	all := make([]kept, n)
	before := heap()
	for i := range all {
		all[i].context, all[i].cancel = derive(parent)
	}
	after := heap()
	runtime.KeepAlive(all)
	return float64(after.Mallocs-before.Mallocs) / float64(n),
		(float64(after.HeapAlloc) - float64(before.HeapAlloc)) / float64(n)
}

func allocsCold() []figure {
	allocs, _ := keep(10000, context.WithCancel)
	return value(allocs)
}

func bytesChild() []figure {
	_, bytes := keep(reps(1000000, 200000), context.WithCancel)
	return value(bytes)
}

func bytesTimeout() []figure {
	derive := func(parent context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeout(parent, time.Hour)
	}
	_, bytes := keep(reps(1000000, 200000), derive)
	return value(bytes)
}
