// SPDX-License-Identifier: BSD-2-Clause

// Measures Go's own context package, the model of cctx. This file has the harness and the list of operations.
//
// A figure that a loop gives is that of the loop that takes the wanted time; memory that the collector frees
// later is paid for inside the loop, too, as it runs beside it. Whatever blocks here is a goroutine.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

var base = time.Now()

// now is monotonic, in nanoseconds.
func now() int64 { return int64(time.Since(base)) }

var quick = os.Getenv("CCTX_BENCH_QUICK") == "1"

// reps chooses: a short run repeats less, and leaves the sizes as they are.
func reps(full, short int) int {
	if quick {
		return short
	}
	return full
}

func broken(what string) {
	fmt.Fprintln(os.Stderr, "peer:", what)
	os.Exit(1)
}

// ---- figures

type figure struct {
	name  string
	value float64
}

// A benchmark gives figures, or none by failed.
type benchmark struct {
	name string
	run  func() []figure
}

var failure string

// failed says why a benchmark has no figures.
func failed(why string) []figure {
	failure = why
	return nil
}

func value(v float64) []figure { return []figure{{"value", v}} }

// percentile is by nearest rank.
func percentile(samples []float64, p float64) float64 {
	if len(samples) == 0 {
		broken("no sample")
	}
	v := append([]float64(nil), samples...)
	sort.Float64s(v)
	return v[int(p/100*float64(len(v)-1)+0.5)]
}

func median(v []float64) float64 { return percentile(v, 50) }

// keepSamples writes raw samples to a file of their own, from which distributions are drawn.
func keepSamples(operation string, v []float64) {
	folder := os.Getenv("CCTX_BENCH_SAMPLES")
	if folder == "" {
		return
	}
	var text strings.Builder
	for _, x := range v {
		fmt.Fprintf(&text, "%.0f\n", x)
	}
	if os.WriteFile(folder+"/"+operation+".go", []byte(text.String()), 0o666) != nil {
		broken("the samples cannot be written")
	}
}

var minTime = 0.1

// timed finds how many operations take the wanted time, and returns the nanoseconds that one of these takes.
func timed(loop func(n int)) []figure {
	for n := 1; ; {
		t0 := now()
		loop(n)
		took := float64(now()-t0) / 1e9
		if took >= minTime {
			return []figure{{"real_time", took * 1e9 / float64(n)}}
		}
		times := 10.0
		if took > minTime/10 {
			times = 1.2 * minTime / took
		}
		n = int(float64(n)*times) + 1
	}
}

// ---- CPUs: two that the process may use, of two cores where the machine tells cores apart

type cpuSet [16]uint64

func (s *cpuSet) add(cpu int) { s[cpu/64] |= 1 << (cpu % 64) }

func one(cpu int) (s cpuSet) {
	s.add(cpu)
	return
}

// allowed is what the process may use.
var allowed = func() (s cpuSet) {
	syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(s), uintptr(unsafe.Pointer(&s)))
	return
}()

// cpus has one CPU or two.
var cpus = func() (chosen []int) {
	siblings := func(cpu int) string {
		const path = "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list"
		line, _ := os.ReadFile(fmt.Sprintf(path, cpu))
		return string(line)
	}
	for pass := 0; pass < 2; pass++ {
		for cpu := 0; cpu < len(allowed)*64 && len(chosen) < 2; cpu++ {
			if allowed[cpu/64]>>(cpu%64)&1 == 0 || len(chosen) == 1 && cpu == chosen[0] {
				continue
			}
			if len(chosen) == 0 || pass == 1 || siblings(cpu) == "" || siblings(cpu) != siblings(chosen[0]) {
				chosen = append(chosen, cpu)
			}
		}
	}
	return
}()

// pin binds a thread of the process, 0 for the calling one.
func pin(thread int, to cpuSet) {
	syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, uintptr(thread), unsafe.Sizeof(to),
		uintptr(unsafe.Pointer(&to)))
}

// ---- the program

// The walk of a cancel recurses. Where the stack ends, so does the process: deep chains run in one of their
// own.
func inChild(b benchmark) []figure {
	self, _ := os.Executable()
	command := exec.Command(self, "-only", b.name)
	var complaint strings.Builder
	command.Stderr = &complaint
	out, err := command.Output()
	if err != nil {
		if strings.Contains(complaint.String(), "stack overflow") {
			return failed("stack overflow")
		}
		broken(b.name + ": " + complaint.String())
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		broken(b.name + ": " + err.Error())
	}
	return value(v)
}

// Each runs in a goroutine of its own, as a user's code does, with what the one before left collected.
func run(b benchmark) (figures []figure) {
	debug.FreeOSMemory()
	done := make(chan bool)
	go func() {
		figures = b.run()
		close(done)
	}()
	<-done
	return
}

func init() { runtime.LockOSThread() }

func main() {
	minTimeText := flag.String("benchmark_min_time", "0.1", "seconds that a loop takes at least")
	path := flag.String("benchmark_out", "", "the file for the figures")
	format := flag.String("benchmark_out_format", "json", "json")
	only := flag.String("only", "", "print the figure of this operation alone")
	flag.Parse()
	seconds, err := strconv.ParseFloat(strings.TrimSuffix(*minTimeText, "s"), 64)
	if err != nil || flag.NArg() != 0 || *format != "json" {
		flag.Usage()
		os.Exit(2)
	}
	minTime = seconds

	var lines []string
	for _, b := range benchmarks() {
		if *only != "" {
			if b.name == *only {
				fmt.Println(run(b)[0].value)
			}
			continue
		}
		began := now()
		var figures []figure
		failure = ""
		if b.name == "chain_100000" || b.name == "chain_1000000" {
			figures = inChild(b)
		} else {
			figures = run(b)
		}
		line := fmt.Sprintf(`    {"name": "%s/go", "run_type": "iteration", "time_unit": "ns"`, b.name)
		if failure != "" {
			line += fmt.Sprintf(`, "error_occurred": true, "error_message": "%s"`, failure)
		}
		shown := b.name
		for _, f := range figures {
			line += fmt.Sprintf(`, "%s": %.6g`, f.name, f.value)
			shown += fmt.Sprintf("  %s %.6g", f.name, f.value)
		}
		lines = append(lines, line+"}")
		fmt.Printf("%s  (%.1f s) %s\n", shown, float64(now()-began)/1e9, failure)
	}
	text := "{\n  \"context\": {\"library\": \"" + runtime.Version() + "\"},\n  \"benchmarks\": [\n" +
		strings.Join(lines, ",\n") + "\n  ]\n}\n"
	if *path != "" && os.WriteFile(*path, []byte(text), 0o666) != nil {
		broken("cannot write " + *path)
	}
}

func benchmarks() []benchmark {
	list := []benchmark{
		{"poll_err", pollErr},
		{"poll_deadline", pollDeadline},
		{"poll_done_err", pollDoneErr},
		{"create_root", createRoot},
		{"create_child", createChild},
		{"create_siblings", createSiblings},
		{"create_timeout", createTimeout},
		{"create_timeouts", createTimeouts},
		{"create_value", createValue},
	}
	if len(cpus) == 2 {
		list = append(list, benchmark{"two_threads", twoThreads},
			benchmark{"two_threads_rate", twoThreadsRate})
	}
	for _, n := range []int{1000, 10000, 100000, 1000000} {
		n := n
		list = append(list, benchmark{fmt.Sprint("fanout_", n), func() []figure { return fanOut(n) }},
			benchmark{fmt.Sprint("chain_", n), func() []figure { return chain(n) }})
	}
	for _, depth := range []int{1, 16, 64, 1000000} {
		depth := depth
		list = append(list, benchmark{fmt.Sprint("value_depth_", depth),
			func() []figure { return valueDepth(depth) }})
	}
	for _, n := range []int{8, 64, 1000} {
		n := n
		list = append(list, benchmark{fmt.Sprint("value_keys_", n), func() []figure { return valueKeys(n) }})
	}
	list = append(list, afterFuncs...)
	if len(cpus) == 2 {
		list = append(list, benchmark{"wake_parked", wakeParked}, benchmark{"wake_spin", wakeSpin})
	}
	return append(list, []benchmark{
		{"wake_crowd", wakeCrowd},
		{"load", load},
		{"late_wait", lateWait},
		{"storm", storm},
		{"allocs_cold", allocsCold},
		{"allocs_warm", allocsWarm},
		{"allocs_timeout", allocsTimeout},
		{"bytes_child", bytesChild},
		{"bytes_timeout", bytesTimeout},
	}...)
}
