// SPDX-License-Identifier: BSD-2-Clause
// The Go half of the conformance check: runs programs (program.h) on Go's context and tells what each step did,
// in the words of drive.c. Where the two differ by contract it does as DIFFERENCES says, marked D1, D2 and so on.

package conformance

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	roots, registers, nested = 2, 32, 26
	slots, first             = 12, 6
	maxKeys                  = 12
	never                    = math.MaxInt64
	bubble                   = 500 // programs that share one: a bubble's clock begins anew
)

var (
	file   = flag.String("programs", "", "run the programs of this file")
	out    = flag.String("out", "", "write here")
	hashed = flag.Bool("hash", false, "one number for each program, not all of it")
	number = flag.Int("number", 0, "tell of this program alone")
)

type step struct {
	op  string
	arg [5]int64
}

type program struct {
	header string
	start  int64
	keys   int
	steps  []step
	lines  []string
}

// ---- the text of programs

func read(name string) []program {
	text, err := os.ReadFile(name)
	if err != nil {
		panic(err)
	}
	programs := []program{}
	for line := range bytes.Lines(text) {
		words := bytes.Fields(line)
		switch {
		case line[0] == '=':
		case line[0] == '@':
			p := program{header: string(line), start: parse(words[2]), keys: int(parse(words[3]))}
			programs = append(programs, p)
		default:
			s := step{op: string(words[0])}
			for i, word := range words[1:] {
				s.arg[i] = parse(word)
			}
			p := &programs[len(programs)-1]
			p.steps = append(p.steps, s)
			p.lines = append(p.lines, string(line))
		}
	}
	return programs
}

func parse(word []byte) int64 {
	n, err := strconv.ParseInt(string(word), 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// ---- a merge, which Go does not have (D3)

// A context that ends with the first of several. It holds its cause and its values in a context of Go's, and
// ends by a second one, so that the error can be another than the first one's.
type merged struct {
	parents []context.Context
	holder  context.Context // has the cause and the values
	hold    context.CancelCauseFunc
	signal  context.Context // done when it is
	tell    context.CancelFunc
	stops   []func() bool
	mu      sync.Mutex
	err     error
}

func merge(parents []context.Context) *merged {
	m := &merged{parents: slices.Clone(parents)}
	m.holder, m.hold = context.WithCancelCause(context.WithoutCancel(parents[0]))
	m.signal, m.tell = context.WithCancel(context.Background())
	for _, p := range m.parents {
		if p.Err() != nil {
			m.end(p.Err(), context.Cause(p))
			return m
		}
	}
	for _, p := range m.parents {
		m.stops = append(m.stops, context.AfterFunc(p, func() { m.end(p.Err(), context.Cause(p)) }))
	}
	return m
}

func (m *merged) end(err, cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return
	}
	m.err = err
	m.hold(cause)
	m.tell()
	for _, stop := range m.stops {
		stop()
	}
}

func (m *merged) Deadline() (earliest time.Time, ok bool) {
	for _, p := range m.parents {
		if d, has := p.Deadline(); has && (!ok || d.Before(earliest)) {
			earliest, ok = d, true
		}
	}
	return
}

func (m *merged) Done() <-chan struct{} { return m.signal.Done() }
func (m *merged) Value(key any) any     { return m.holder.Value(key) }
func (m *merged) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// AfterFunc is what context.AfterFunc and a derivation ask for.
func (m *merged) AfterFunc(f func()) func() bool { return context.AfterFunc(m.signal, f) }

// ---- the state of a program

type seen struct {
	set      bool
	err      byte
	cause    byte
	deadline int64
	value    [maxKeys]byte
}

// A context, and how to end it: nil if it cannot be ended.
type handle struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
}

type slot struct {
	used, left bool
	stop       func() bool
	on         context.Context
	x          handle
	what       int64
	runs, told int
	err, cause byte
}

type key int

var keyOf = func() (keys [maxKeys]any) {
	for k := range keys {
		keys[k] = key(k)
	}
	return
}()

var valueOf = [10]any{nil, 1, 2, 3, 4, 5, 6, 7, 8, 9}

var causes = func() (causes [7]error) {
	for i := range causes[1:] {
		causes[i+1] = errors.New(strconv.Itoa(i + 1))
	}
	return
}()

type formatted struct{ code int64 }

func (f *formatted) Error() string { return fmt.Sprint("formatted ", f.code) }

type machine struct {
	p     *program
	epoch time.Time // 0 on the clock of the program
	held  [registers]handle
	last  [registers]seen
	slot  [slots]slot
	queue chan int // callbacks that Go has started
	ends  []func()
	line  []byte
}

func (m *machine) point(t int64) time.Time { return m.epoch.Add(time.Duration(t)) }
func (m *machine) now() int64              { return int64(time.Since(m.epoch)) }

func (m *machine) write(words ...any) {
	for _, w := range words {
		switch w := w.(type) {
		case string:
			m.line = append(m.line, w...)
		case int:
			m.line = strconv.AppendInt(m.line, int64(w), 10)
		case int64:
			m.line = strconv.AppendInt(m.line, w, 10)
		case byte:
			m.line = append(m.line, w)
		}
	}
}

// What Go has as error values, cctx has as numbers and as pointers (D10).
func errSeen(ctx context.Context) byte {
	switch ctx.Err() {
	case nil:
		return '-'
	case context.Canceled:
		return 'C'
	case context.DeadlineExceeded:
		return 'T'
	}
	return '?'
}

func causeSeen(ctx context.Context) byte {
	cause := context.Cause(ctx)
	switch cause {
	case nil:
		return '-'
	case context.Canceled:
		return 'c'
	case context.DeadlineExceeded:
		return 'd'
	}
	if f, ok := cause.(*formatted); ok {
		return '0' + byte(f.code)
	}
	if i := slices.Index(causes[:], cause); i > 0 {
		return '0' + byte(i)
	}
	return '?'
}

// The deadline, as a number; a point in time that no number reaches is none (D2).
func (m *machine) deadline(ctx context.Context) int64 {
	if d, ok := ctx.Deadline(); ok {
		return int64(d.Sub(m.epoch))
	}
	return never
}

func (m *machine) lookRegister(r int) {
	var s seen
	if ctx := m.held[r].ctx; ctx != nil {
		s.set, s.err, s.cause, s.deadline = true, errSeen(ctx), causeSeen(ctx), m.deadline(ctx)
		for k := range m.p.keys {
			s.value[k] = '0'
			if v := ctx.Value(keyOf[k]); v != nil {
				s.value[k] = '0' + byte(v.(int))
			}
		}
	}
	if s == m.last[r] {
		return
	}
	m.last[r] = s
	m.write(" r", r, ":")
	if !s.set {
		return
	}
	m.write(s.err, s.cause, "@")
	if s.deadline == never {
		m.write("-")
	} else {
		m.write(m.operand(s.deadline))
	}
	m.write(":", string(s.value[:m.p.keys]))
}

func (m *machine) lookSlot(f int) {
	if s := &m.slot[f]; s.runs != s.told {
		s.told = s.runs
		m.write(" f", f, ":", s.runs, s.err, s.cause)
	}
}

// ---- callbacks

// Go starts each callback on a goroutine of its own. What it saw is kept, and what it does is done here, in
// the order of their numbers, when all of that moment have been started (D4).
func (m *machine) leave(f int, on context.Context, what int64, x handle) {
	s := &m.slot[f]
	if s.left {
		return
	}
	s.used, s.left, s.on, s.what, s.x = true, true, on, what, x
	s.stop = context.AfterFunc(on, func() { m.queue <- f })
}

func (m *machine) ran(f int) {
	s := &m.slot[f]
	s.runs++
	s.err, s.cause = errSeen(s.on), causeSeen(s.on)
	s.left = false
	switch s.what {
	case 1:
		m.cancel(s.x, causes[6])
	case 2:
		if m.held[nested+f].ctx == nil {
			m.held[nested+f] = m.withCancel(s.x.ctx)
		}
	case 3:
		if !m.slot[first+f].used {
			m.leave(first+f, s.x.ctx, 0, handle{ctx: context.Background()})
		}
	case 4:
		if s.stop() {
			s.err = '!'
		}
	}
}

// Lets everything that can happen at this moment happen.
func (m *machine) settle(started ...int) {
	for {
		synctest.Wait()
		for len(m.queue) > 0 {
			started = append(started, <-m.queue)
		}
		if len(started) == 0 {
			return
		}
		slices.Sort(started)
		for _, f := range started {
			m.ran(f)
			synctest.Wait()
		}
		started = started[:0]
	}
}

// Lets time pass until t, or until done is closed; then it is true.
func (m *machine) passUntil(t int64, done <-chan struct{}) bool {
	timer := time.NewTimer(time.Duration(t - m.now()))
	defer timer.Stop()
	for {
		select {
		case f := <-m.queue:
			m.settle(f)
		case <-timer.C:
			return false
		case <-done:
			return true
		}
	}
}

// Both of the stops that cctx has (D8).
func (m *machine) stop(f int) bool {
	s := &m.slot[f]
	if !s.used || !s.stop() {
		return false
	}
	s.left = false
	return true
}

// ---- steps

func (m *machine) withCancel(parent context.Context) handle {
	ctx, cancel := context.WithCancelCause(parent)
	m.ends = append(m.ends, func() { cancel(nil) })
	return handle{ctx, cancel}
}

// Go's cancel of a deadline takes no cause: a context above it does (D1). An equal deadline is the parent's
// (D5).
func (m *machine) withDeadline(s *step, parent context.Context) handle {
	a, cause := &s.arg, causes[s.arg[3]]
	d := m.point(m.time(a[2]))
	if s.op == "timeout" {
		d = time.Now().Add(time.Duration(a[2]))
	}
	if above, ok := parent.Deadline(); ok && above.Equal(d) {
		return m.withCancel(parent)
	}
	h := m.withCancel(parent)
	var cancel context.CancelFunc
	switch {
	case s.op == "timeout" && cause != nil:
		h.ctx, cancel = context.WithTimeoutCause(h.ctx, time.Duration(a[2]), cause)
	case s.op == "timeout":
		h.ctx, cancel = context.WithTimeout(h.ctx, time.Duration(a[2]))
	case cause != nil:
		h.ctx, cancel = context.WithDeadlineCause(h.ctx, d, cause)
	default:
		h.ctx, cancel = context.WithDeadline(h.ctx, d)
	}
	m.ends = append(m.ends, cancel)
	above := h.cancel
	h.cancel = func(cause error) {
		if cause == nil {
			cancel()
		}
		above(cause)
	}
	return h
}

func absolute(t int64) bool { return t >= 1<<62 || t <= -1<<62 }

// The point in time of an operand, and back: see program_time.
func (m *machine) time(operand int64) int64 {
	if absolute(operand) {
		return operand
	}
	return m.p.start + operand
}

func (m *machine) operand(t int64) int64 {
	if absolute(t) {
		return t
	}
	return t - m.p.start
}

func (m *machine) derive(s *step) bool {
	a := &s.arg
	parent := m.held[a[1]].ctx
	if m.held[a[0]].ctx != nil || parent == nil {
		return false
	}
	var h handle
	switch s.op {
	case "child":
		h = m.withCancel(parent)
	case "deadline", "timeout":
		h = m.withDeadline(s, parent)
	case "value":
		h.ctx = context.WithValue(parent, keyOf[a[2]], valueOf[a[3]])
	case "detach":
		h.ctx = context.WithoutCancel(parent)
	case "ref":
		h = m.held[a[1]]
	case "any":
		var parents []context.Context
		for _, r := range a[1 : 1+a[4]] {
			if m.held[r].ctx == nil {
				return false
			}
			parents = append(parents, m.held[r].ctx)
		}
		joint := merge(parents)
		h = handle{joint, func(cause error) {
			if cause == nil {
				cause = context.Canceled
			}
			joint.end(context.Canceled, cause)
		}}
		m.ends = append(m.ends, func() { h.cancel(nil) })
	default:
		panic(s.op)
	}
	m.held[a[0]] = h
	return true
}

// Whether it ended the context; Go does not tell (D6), and here nothing else does it meanwhile.
func (m *machine) cancel(h handle, cause error) bool {
	if h.cancel == nil || h.ctx.Err() != nil {
		if h.cancel != nil {
			h.cancel(cause)
		}
		return false
	}
	h.cancel(cause)
	return h.ctx.Err() != nil
}

func (m *machine) wait(a *[5]int64) {
	ctx := m.held[a[0]].ctx
	from := m.now()
	end := from + a[1]
	if ctx == nil {
		m.write("-")
	} else if ctx.Done() == nil && a[2] != 0 {
		m.write("never") // Go waits for ever (D7)
	} else {
		result := "0+"
		if ctx.Err() != nil || m.passUntil(end, ctx.Done()) {
			result = "1+"
		}
		m.write(result, m.now()-from)
	}
	m.settle()
	m.passUntil(end, nil)
}

func (m *machine) step(s *step) {
	a := &s.arg
	yes := func(is bool, right, wrong string) {
		if is {
			m.write(right)
		} else {
			m.write(wrong)
		}
	}
	switch s.op {
	case "cancel":
		if h := m.held[a[0]]; h.ctx == nil {
			m.write("-")
		} else {
			cause := error(&formatted{a[1]})
			if a[1] <= 6 {
				cause = causes[a[1]]
			}
			yes(m.cancel(h, cause), "1", "0")
		}
	case "close", "drop":
		h := m.held[a[0]] // Go counts no references (D9)
		if h.ctx != nil && a[0] >= roots {
			m.held[a[0]] = handle{}
			if s.op == "close" {
				m.cancel(h, nil)
			}
			m.write("ok")
		} else {
			m.write("-")
		}
	case "advance":
		m.passUntil(m.now()+a[0], nil)
		m.write("ok")
	case "after":
		on, x := m.held[a[1]], m.held[a[3]]
		free := !m.slot[a[0]].left && on.ctx != nil && x.ctx != nil
		if free {
			m.leave(int(a[0]), on.ctx, a[2], x)
		}
		yes(free, "ok", "-")
	case "stop":
		yes(m.stop(int(a[0])), "1", "0")
	case "wait":
		m.wait(a)
	case "look":
		ctx := m.held[a[0]].ctx
		if ctx == nil {
			m.write("-")
			break
		}
		d := m.deadline(ctx)
		switch {
		case ctx.Err() != nil:
			m.write("0")
		case d == never:
			m.write("-")
		default:
			m.write(max(0, d-m.now()))
		}
		yes(ctx.Done() != nil, " done", " never")
	default:
		if m.derive(s) {
			m.write("ok", errSeen(m.held[a[0]].ctx))
		} else {
			m.write("-")
		}
	}
}

func drive(p *program, tell func(line string, seen []byte)) {
	m := &machine{p: p, queue: make(chan int, slots)}
	m.epoch = time.Now().Add(-time.Duration(p.start))
	m.held[0].ctx, m.held[1].ctx = context.Background(), context.TODO()
	for i := range p.steps {
		m.line = append(m.line[:0], "= "...)
		m.step(&p.steps[i])
		m.settle()
		for r := range registers {
			m.lookRegister(r)
		}
		for f := range slots {
			m.lookSlot(f)
		}
		m.write("\n")
		tell(p.lines[i], m.line)
	}
	for f := range slots {
		m.stop(f)
	}
	for _, end := range m.ends {
		end()
	}
	m.settle()
}

func run(programs []program, base int, w io.Writer) {
	for i := range programs {
		p := &programs[i]
		h := fnv.New64a()
		only := *number == 0 || *number == base+i+1
		if !*hashed && only {
			io.WriteString(w, p.header)
		}
		drive(p, func(line string, seen []byte) {
			if *hashed {
				h.Write(seen)
			} else if only {
				io.WriteString(w, line)
				w.Write(seen)
			}
		})
		if *hashed {
			fmt.Fprintf(w, "%016x\n", h.Sum64())
		}
	}
}

func TestConformance(t *testing.T) {
	if *file == "" {
		t.Skip("no programs: this is run by test/conformance/run")
	}
	f, err := os.Create(*out)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<16)
	programs := read(*file)
	for base := 0; base < len(programs); base += bubble {
		batch := programs[base:min(base+bubble, len(programs))]
		synctest.Test(t, func(*testing.T) { run(batch, base, w) })
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		t.Fatal(err)
	}
}
