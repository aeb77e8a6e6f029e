// SPDX-License-Identifier: BSD-2-Clause
//! What the operations share: a clock, two pinned CPUs, order statistics, and the way to report.

use std::sync::LazyLock;
use std::time::Instant;

/// Monotonic nanoseconds.
pub fn now() -> i64 {
    static BASE: LazyLock<Instant> = LazyLock::new(Instant::now);
    BASE.elapsed().as_nanos() as i64
}

pub fn quick() -> bool {
    std::env::var("CCTX_BENCH_QUICK").is_ok_and(|v| v == "1")
}

/// A short run repeats less, and leaves the sizes as they are.
pub fn reps(full: usize, short: usize) -> usize {
    if quick() {
        short
    } else {
        full
    }
}

pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

// ---- figures

pub type Figures = Result<Vec<(&'static str, f64)>, &'static str>;

pub fn value(v: f64) -> Figures {
    Ok(vec![("value", v)])
}

/// By nearest rank.
pub fn percentile(samples: &[f64], p: f64) -> f64 {
    let mut v = samples.to_vec();
    v.sort_by(f64::total_cmp);
    v[(p / 100.0 * (v.len() - 1) as f64 + 0.5) as usize]
}

pub fn median(samples: &[f64]) -> f64 {
    percentile(samples, 50.0)
}

/// Raw samples go to a file of their own, from which distributions are drawn.
pub fn sampled(operation: &str, samples: &[f64]) -> Figures {
    if let Some(folder) = std::env::var_os("CCTX_BENCH_SAMPLES") {
        let text: String = samples.iter().map(|v| format!("{v}\n")).collect();
        let path = std::path::Path::new(&folder).join(format!("{operation}.tokio"));
        std::fs::write(path, text).expect("the samples cannot be written");
    }
    Ok(vec![("p50", median(samples)), ("p99", percentile(samples, 99.0))])
}

pub struct Bench {
    pub min_time: f64,
    pub lines: Vec<String>,
}

impl Bench {
    /// How many operations take the wanted time; the nanoseconds that one of these takes.
    pub fn timed(&self, mut run: impl FnMut(usize)) -> Figures {
        let mut n = 1;
        loop {
            let t0 = now();
            run(n);
            let took = (now() - t0) as f64 / 1e9;
            if took >= self.min_time {
                return Ok(vec![("real_time", took * 1e9 / n as f64)]);
            }
            let times = if took > self.min_time / 10.0 { 1.2 * self.min_time / took } else { 10.0 };
            n = (n as f64 * times) as usize + 1;
        }
    }

    pub fn report(&mut self, operation: &str, figures: Figures) {
        let mut line =
            format!(r#"    {{"name": "{operation}/tokio", "run_type": "iteration", "time_unit": "ns""#);
        match figures {
            Ok(figures) => {
                for (name, v) in &figures {
                    line += &format!(r#", "{name}": {v}"#);
                }
                println!("{operation} {figures:?}");
            }
            Err(why) => {
                line += &format!(r#", "error_occurred": true, "error_message": "{why}""#);
                println!("{operation} {why}");
            }
        }
        self.lines.push(line + "}");
    }

    pub fn json(&self) -> String {
        let library = "tokio, CancellationToken";
        format!(
            "{{\n  \"context\": {{\"library\": \"{library}\"}},\n  \"benchmarks\": [\n{}\n  ]\n}}\n",
            self.lines.join(",\n")
        )
    }
}

// ---- CPUs: two that the process may use, of two cores where the machine tells cores apart

fn allowed() -> libc::cpu_set_t {
    unsafe {
        let mut s: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, std::mem::size_of_val(&s), &mut s);
        s
    }
}

fn set(s: &libc::cpu_set_t) {
    unsafe { libc::sched_setaffinity(0, std::mem::size_of_val(s), s) };
}

/// How many CPUs the process may use.
pub fn cpu_count() -> usize {
    unsafe { libc::CPU_COUNT(&allowed()) as usize }
}

/// One CPU or two; to be asked first by a thread that is not pinned.
pub fn cpus() -> &'static [usize] {
    static CPUS: LazyLock<Vec<usize>> = LazyLock::new(|| {
        let usable = allowed();
        let all: Vec<usize> =
            (0..libc::CPU_SETSIZE as usize).filter(|&c| unsafe { libc::CPU_ISSET(c, &usable) }).collect();
        let siblings = |cpu: usize| {
            std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"))
                .unwrap_or_default()
        };
        let first = all[0];
        let apart = |c: &&usize| siblings(**c).is_empty() || siblings(**c) != siblings(first);
        let second = all[1..].iter().find(apart).or(all.get(1));
        [first].into_iter().chain(second.copied()).collect()
    });
    &CPUS
}

/// Pins the calling thread to the first or the second of the two CPUs.
pub fn pin(which: usize) {
    unsafe {
        let mut s: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpus()[which], &mut s);
        set(&s);
    }
}

/// Pins the calling thread until the object goes.
pub struct Pinned(libc::cpu_set_t);

impl Pinned {
    pub fn to(which: usize) -> Pinned {
        let before = allowed();
        pin(which);
        Pinned(before)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        set(&self.0);
    }
}
