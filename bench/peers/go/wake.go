// SPDX-License-Identifier: BSD-2-Clause

// When others learn of an end: waiters after a cancel, and after a deadline.
//
// The waiters are goroutines. The canceler stays busy until the waiter has run, so that the waiter needs a
// CPU of its own.
package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type random uint64

func (r *random) below(d time.Duration) time.Duration {
	*r = *r*6364136223846793005 + 1442695040888963407
	return time.Duration(*r>>33) % d
}

// pinOthers binds every thread that the process has, other than the calling one.
func pinOthers(to cpuSet) {
	threads, _ := os.ReadDir("/proc/self/task")
	for _, t := range threads {
		if id, err := strconv.Atoi(t.Name()); err == nil && id != syscall.Gettid() {
			pin(id, to)
		}
	}
}

// ---- one waiter

// The canceler has a thread and a CPU of its own. Those threads of the runtime that it does not need are left
// to themselves where the waiter sleeps: bound to the other CPU, Go wakes more slowly.
func oneWaiter(rounds int, asleep bool) (late []float64) {
	runtime.LockOSThread()
	pin(0, one(cpus[0]))
	// A thread that the runtime makes meanwhile starts on the canceler's CPU, which never comes free: so the others
	// are bound anew now and then, and where a goroutine does not come to run.
	bind := func() {
		if !asleep {
			pinOthers(one(cpus[1]))
		}
	}
	await := func(word *int32) {
		for i := 1; atomic.LoadInt32(word) == 0; i++ {
			if i%(1<<22) == 0 {
				bind()
			}
		}
	}
	// Now and then Go is left with one running thread, and the waiter comes when the canceler is preempted: tens of
	// milliseconds a round, for thousands of rounds. What was seen in two seconds has to do then.
	began := now()
	for r := 0; r < rounds && (asleep || now()-began < 2e9); r++ {
		if r%64 == 0 {
			bind()
		}
		c, cancel := context.WithCancel(background)
		var ready, ran int32
		var seen int64
		go func() {
			atomic.StoreInt32(&ready, 1)
			if asleep {
				<-c.Done()
			} else {
				for c.Err() == nil {
				}
			}
			seen = now()
			atomic.StoreInt32(&ran, 1)
		}()
		await(&ready)
		if asleep {
			time.Sleep(200 * time.Microsecond)
		} else {
			for t := now(); now()-t < 2000; {
			}
		}
		t0 := now()
		cancel()
		await(&ran)
		late = append(late, float64(seen-t0))
	}
	return
}

func wakeParked() []figure {
	late := oneWaiter(reps(1500, 500), true)
	keepSamples("wake_parked", late)
	return []figure{{"p50", median(late)}, {"p99", percentile(late, 99)}}
}

func wakeSpin() []figure {
	defer pinOthers(allowed)
	// A collection amid these rounds is one way there: so it collects before them and not within.
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	late := oneWaiter(reps(10000, 3000), false)
	keepSamples("wake_spin", late)
	return []figure{{"p50", median(late)}, {"p99", percentile(late, 99)}}
}

// ---- a thousand waiters

const crowd = 1000

// From the cancel to the last of the waiters running.
func wakeCrowd() []figure {
	var v []float64
	for k := 0; k < reps(7, 5); k++ {
		c, cancel := context.WithCancel(background)
		seen := make([]int64, crowd)
		var ready, ran sync.WaitGroup
		ready.Add(crowd)
		ran.Add(crowd)
		for i := range seen {
			go func(i int) {
				ready.Done()
				<-c.Done()
				seen[i] = now()
				ran.Done()
			}(i)
		}
		ready.Wait()
		time.Sleep(40 * time.Millisecond)
		t0 := now()
		cancel()
		ran.Wait()
		last := t0
		for _, t := range seen {
			if t > last {
				last = t
			}
		}
		v = append(v, float64(last-t0))
	}
	return value(median(v))
}

// ---- under load: a tree of 10,000, a waiter at every tenth leaf, and as many busy workers as CPUs

const branches, leaves, polls = 100, 100, 16

func loadOnce() (late []float64) {
	root, cancel := context.WithCancel(background)
	var branch [branches]context.Context
	seen := make([]int64, crowd)
	var ready, ran, working sync.WaitGroup
	ready.Add(crowd)
	ran.Add(crowd)
	for i := 0; i < branches*leaves; i++ {
		if i%leaves == 0 {
			branch[i/leaves], _ = context.WithCancel(root)
		}
		leaf, _ := context.WithCancel(branch[i/leaves])
		if i%(branches*leaves/crowd) == 0 {
			go func(seen *int64) {
				ready.Done()
				<-leaf.Done()
				*seen = now()
				ran.Done()
			}(&seen[i/(branches*leaves/crowd)])
		}
	}
	ready.Wait()
	var stop int32
	for w := 0; w < runtime.GOMAXPROCS(0); w++ {
		working.Add(1)
		go func(parent context.Context) {
			defer working.Done()
			var sink error
			defer func() { runtime.KeepAlive(sink) }()
			for atomic.LoadInt32(&stop) == 0 {
				c, cancel := context.WithCancel(parent)
				for i := 0; i < polls; i++ {
					sink = c.Err()
				}
				cancel()
			}
		}(branch[w%branches])
	}
	time.Sleep(30 * time.Millisecond)
	t0 := now()
	cancel()
	ran.Wait()
	atomic.StoreInt32(&stop, 1)
	working.Wait()
	for _, t := range seen {
		late = append(late, float64(t-t0))
	}
	return
}

func load() []figure {
	var late []float64
	for k := 0; k < reps(10, 3); k++ {
		late = append(late, loadOnce()...)
	}
	keepSamples("load", late)
	return []figure{{"p50", median(late)}, {"p99", percentile(late, 99)}, {"p999", percentile(late, 99.9)},
		{"max", percentile(late, 100)}}
}

// ---- deadlines

// Deadlines 1 to 4 ms off, one after the other.
func lateWait() []figure {
	var late []float64
	random := random(12345)
	for i := 0; i < reps(400, 200); i++ {
		deadline := time.Now().Add(time.Millisecond + random.below(3*time.Millisecond))
		c, cancel := context.WithDeadline(background, deadline)
		<-c.Done()
		late = append(late, float64(time.Since(deadline)))
		cancel()
	}
	keepSamples("late_wait", late)
	return []figure{{"p50", median(late)}, {"p99", percentile(late, 99)}}
}

func cpuTime() float64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Nano() + u.Stime.Nano())
}

// 100,000 deadlines spread over one second: CPU time of the whole process.
func storm() []figure {
	c := make([]context.Context, 100000)
	start := time.Now().Add(500 * time.Millisecond)
	random := random(7)
	for i := range c {
		c[i], _ = context.WithDeadline(background, start.Add(random.below(time.Second)))
	}
	runtime.GC()
	if time.Until(start) < 0 {
		return failed("making 100,000 contexts took longer than 500 ms")
	}
	time.Sleep(time.Until(start))
	before := cpuTime()
	time.Sleep(time.Until(start.Add(1050 * time.Millisecond)))
	spent := cpuTime() - before
	for i := range c {
		if c[i].Err() == nil {
			return failed("a deadline is more than 50 ms late")
		}
	}
	return value(spent)
}
