// SPDX-License-Identifier: BSD-2-Clause
//! When others learn of an end: tasks that wait, after a cancel and after a deadline; a thread that looks.
//!
//! One waiter: the canceler is pinned to one CPU and stays busy until the waiter has run; the waiter, or the
//! runtime that runs it, is pinned to another.

use crate::harness::*;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::*};
use std::sync::{mpsc, Arc};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

fn sleep_us(us: u64) {
    std::thread::sleep(Duration::from_micros(us));
}

// ---- one waiter

#[derive(Default)]
struct Waiter {
    ready: AtomicUsize,
    ran: AtomicUsize,
    seen: AtomicI64,
}

impl Waiter {
    fn is_ready(&self) {
        self.ready.fetch_add(1, AcqRel);
    }
    fn runs(&self) {
        self.seen.store(now(), Release);
        self.ran.fetch_add(1, AcqRel);
    }

    // From just before the cancel to the waiter running, in ns. give(token) hands the token to the waiter.
    fn rounds(&self, rounds: usize, asleep: bool, mut give: impl FnMut(CancellationToken)) -> Vec<f64> {
        let _here = Pinned::to(0);
        let round = |r| {
            let token = CancellationToken::new();
            give(token.clone());
            while self.ready.load(Acquire) <= r {
                spin_loop();
            }
            if asleep {
                sleep_us(200);
            } else {
                let t = now();
                while now() - t < 2000 {
                    spin_loop();
                }
            }
            let t0 = now();
            token.cancel();
            while self.ran.load(Acquire) <= r {
                spin_loop();
            }
            (self.seen.load(Acquire) - t0) as f64
        };
        (0..rounds).map(round).collect()
    }
}

pub fn one_waiter(b: &mut Bench) {
    let rt = Builder::new_multi_thread().worker_threads(1).on_thread_start(|| pin(1)).build().unwrap();
    let waiter = Arc::new(Waiter::default());
    let late = waiter.rounds(reps(1500, 500), true, |token| {
        let waiter = waiter.clone();
        rt.spawn(async move {
            waiter.is_ready();
            token.cancelled().await;
            waiter.runs();
        });
    });
    b.report("wake_parked", sampled("wake_parked", &late));

    let waiter = Waiter::default();
    let (give, take) = mpsc::channel::<CancellationToken>();
    let late = std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            for token in take {
                waiter.is_ready();
                while !token.is_cancelled() {
                    spin_loop();
                }
                waiter.runs();
            }
        });
        let late = waiter.rounds(reps(10_000, 3000), false, |token| give.send(token).unwrap());
        drop(give);
        late
    });
    b.report("wake_spin", sampled("wake_spin", &late));
}

// ---- a thousand waiters, which are tasks

const CROWD: usize = 1000;

// A task for each token: what it returns is when it ran.
fn waiters(rt: &Runtime, tokens: impl Iterator<Item = CancellationToken>) -> Vec<JoinHandle<i64>> {
    let ready = Arc::new(AtomicUsize::new(0));
    let wait = |token: CancellationToken| {
        let ready = ready.clone();
        rt.spawn(async move {
            ready.fetch_add(1, AcqRel);
            token.cancelled().await;
            now()
        })
    };
    let tasks: Vec<_> = tokens.map(wait).collect();
    while ready.load(Acquire) < tasks.len() {
        sleep_us(1000);
    }
    sleep_us(40_000);
    tasks
}

fn when_they_ran(rt: &Runtime, tasks: Vec<JoinHandle<i64>>) -> Vec<i64> {
    rt.block_on(async {
        let mut seen = vec![];
        for task in tasks {
            seen.push(task.await.unwrap());
        }
        seen
    })
}

// From the cancel to the last of the waiters running.
pub fn crowd(b: &mut Bench, rt: &Runtime) {
    let trial = |_| {
        let token = CancellationToken::new();
        let tasks = waiters(rt, std::iter::repeat_n(token.clone(), CROWD));
        let t0 = now();
        token.cancel();
        let seen = when_they_ran(rt, tasks);
        (seen.iter().max().unwrap() - t0) as f64
    };
    b.report("wake_crowd", value(median(&(0..reps(7, 5)).map(trial).collect::<Vec<_>>())));
}

// ---- under load: a tree of 10,000, a waiter at every tenth leaf, and as many busy threads as CPUs

const BRANCHES: usize = 100;
const LEAVES: usize = 10_000;
const LOOKS: usize = 16;

fn turn(branch: &CancellationToken) {
    let token = branch.child_token();
    for _ in 0..LOOKS {
        std::hint::black_box(token.is_cancelled());
    }
    token.cancel();
}

// What keeps a CPU busy without waiting belongs on a thread of its own, as it would hold up a worker.
fn load_round(rt: &Runtime) -> Vec<f64> {
    let root = CancellationToken::new();
    let branches: Vec<_> = (0..BRANCHES).map(|_| root.child_token()).collect();
    let leaves: Vec<_> = (0..LEAVES).map(|i| branches[i / (LEAVES / BRANCHES)].child_token()).collect();
    let tasks = waiters(rt, leaves.iter().step_by(LEAVES / CROWD).cloned());
    let (stop, busy) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let work = |worker: usize| {
        let (stop, busy, branch) = (stop.clone(), busy.clone(), branches[worker % BRANCHES].clone());
        rt.spawn_blocking(move || {
            turn(&branch);
            busy.fetch_add(1, AcqRel);
            while !stop.load(Acquire) {
                turn(&branch);
            }
        })
    };
    let workers: Vec<_> = (0..cpu_count()).map(work).collect();
    while busy.load(Acquire) < workers.len() {
        sleep_us(1000);
    }
    sleep_us(20_000);
    let t0 = now();
    root.cancel();
    let seen = when_they_ran(rt, tasks);
    stop.store(true, Release);
    rt.block_on(async {
        for worker in workers {
            worker.await.unwrap();
        }
    });
    seen.iter().map(|t| (t - t0) as f64).collect()
}

pub fn load(b: &mut Bench, rt: &Runtime) {
    let late: Vec<f64> = (0..reps(10, 3)).flat_map(|_| load_round(rt)).collect();
    let figures = sampled("load", &late).map(|mut figures| {
        figures.push(("p999", percentile(&late, 99.9)));
        figures.push(("max", percentile(&late, 100.0)));
        figures
    });
    b.report("load", figures);
}

// ---- deadlines, by hand: a task that sleeps until then and cancels the token

fn deadline(token: &CancellationToken, d: Instant) {
    let token = token.clone();
    tokio::spawn(async move {
        tokio::time::sleep_until(d.into()).await;
        token.cancel();
    });
}

// Deadlines 1 to 4 ms off, one after the other, seen by a task that waits on the token.
pub fn late_wait(b: &mut Bench, rt: &Runtime) {
    let waiting = async {
        let mut random = Random(12345);
        let mut late = vec![];
        for _ in 0..reps(400, 200) {
            let d = Instant::now() + Duration::from_nanos(1_000_000 + random.below(3_000_000));
            let token = CancellationToken::new();
            deadline(&token, d);
            token.cancelled().await;
            late.push(Instant::now().duration_since(d).as_nanos() as f64);
        }
        late
    };
    // The task is one of the runtime's workers', as a user's is.
    let late = rt.block_on(async { tokio::spawn(waiting).await.unwrap() });
    b.report("late_wait", sampled("late_wait", &late));
}

fn cpu_time() -> f64 {
    unsafe {
        let mut u: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut u);
        let ns = |t: libc::timeval| t.tv_sec as f64 * 1e9 + t.tv_usec as f64 * 1e3;
        ns(u.ru_utime) + ns(u.ru_stime)
    }
}

// 100,000 deadlines spread over one second: CPU time of the whole process.
pub fn storm(b: &mut Bench, rt: &Runtime) {
    let start = Instant::now() + Duration::from_millis(500);
    let mut random = Random(7);
    let _inside = rt.enter();
    let each = |_| {
        let token = CancellationToken::new();
        deadline(&token, start + Duration::from_nanos(random.below(1_000_000_000)));
        token
    };
    let tokens: Vec<_> = (0..100_000).map(each).collect();
    let figures = match start.checked_duration_since(Instant::now()) {
        None => Err("making 100,000 deadlines took longer than 500 ms"),
        Some(rest) => {
            std::thread::sleep(rest);
            let before = cpu_time();
            let end = start + Duration::from_millis(1050);
            std::thread::sleep(end.saturating_duration_since(Instant::now()));
            let spent = cpu_time() - before;
            let all = tokens.iter().all(CancellationToken::is_cancelled);
            if all {
                value(spent)
            } else {
                Err("a deadline is more than 50 ms late")
            }
        }
    };
    b.report("storm", figures);
}
