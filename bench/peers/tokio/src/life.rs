// SPDX-License-Identifier: BSD-2-Clause
//! What a token costs: to derive, cancel and drop, to look at, to end many at once, to keep.
//!
//! Tokens have no deadlines. A timeout is a token beside an armed `Sleep` that no task waits on: less than
//! what a user needs, as nothing cancels the token when the time is up.

use crate::harness::*;
use std::future::Future;
use std::hint::{black_box, spin_loop};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_secs(3600);

// ---- looking: sixteen looks to a turn, so that the loop around them does not hide one

fn poll(b: &Bench, token: &CancellationToken) -> Figures {
    b.timed(|n| {
        for _ in 0..n.div_ceil(16) {
            for _ in 0..16 {
                black_box(black_box(token).is_cancelled());
            }
        }
    })
}

pub fn looks(b: &mut Bench, rt: &Runtime) {
    let token = CancellationToken::new();
    b.report("poll_err", poll(b, &token));
    token.cancel();
    b.report("poll_done_err", poll(b, &token));

    // With a deadline: a task that sleeps, then cancels.
    let token = CancellationToken::new();
    let ending = token.clone();
    let task = rt.spawn(async move {
        tokio::time::sleep(HOUR).await;
        ending.cancel();
    });
    b.report("poll_deadline", poll(b, &token));
    task.abort();
}

// ---- deriving, canceling and dropping

fn lives(parent: &CancellationToken, n: usize) {
    for _ in 0..n {
        let token = parent.child_token();
        token.cancel();
        black_box(&token);
    }
}

// A timer is armed by a first poll.
fn arm(d: Duration) -> Pin<Box<Sleep>> {
    let mut sleep = Box::pin(tokio::time::sleep(d));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(sleep.as_mut().poll(&mut cx), Poll::Pending));
    sleep
}

fn timed_lives(parent: &CancellationToken, n: usize) {
    for _ in 0..n {
        let token = parent.child_token();
        let sleep = arm(HOUR);
        token.cancel();
        drop(sleep);
    }
}

pub fn creates(b: &mut Bench, rt: &Runtime) {
    let roots = |n| {
        for _ in 0..n {
            let token = CancellationToken::new();
            token.cancel();
            black_box(&token);
        }
    };
    b.report("create_root", b.timed(roots));
    let parent = CancellationToken::new();
    b.report("create_child", b.timed(|n| lives(&parent, n)));
    {
        let _siblings: Vec<_> = (0..1000).map(|_| parent.child_token()).collect();
        b.report("create_siblings", b.timed(|n| lives(&parent, n)));
    }
    rt.block_on(async {
        b.report("create_timeout", b.timed(|n| timed_lives(&parent, n)));
        // The others hang below another parent, so that the row shows the timers alone.
        let elsewhere = CancellationToken::new();
        let mut random = Random(1);
        let _others: Vec<_> = (0..100_000)
            .map(|_| (elsewhere.child_token(), arm(HOUR + Duration::from_millis(random.below(3_600_000)))))
            .collect();
        b.report("create_timeouts", b.timed(|n| timed_lives(&parent, n)));
    });
}

/// The same batch by one thread, then by two, one to a CPU: the throughput of both over that of one, and
/// millions of operations per second of both.
pub fn two_threads(b: &mut Bench) {
    const LIVES: usize = 250_000;
    let parent = CancellationToken::new();
    let wall = |threads: usize| {
        let (gate, ready) = (AtomicBool::new(false), AtomicUsize::new(0));
        let run = |which| {
            pin(which);
            ready.fetch_add(1, AcqRel);
            while !gate.load(Acquire) {
                spin_loop();
            }
            lives(&parent, LIVES);
        };
        let run = &run;
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|which| scope.spawn(move || run(which))).collect();
            while ready.load(Acquire) < threads {
                std::thread::sleep(Duration::from_micros(100));
            }
            let t0 = now();
            gate.store(true, Release);
            running.into_iter().for_each(|t| t.join().unwrap());
            (now() - t0) as f64
        })
    };
    let (mut ratios, mut rates) = (vec![], vec![]);
    for _ in 0..reps(5, 3) {
        let (one, two) = (wall(1), wall(2));
        ratios.push(2.0 * one / two);
        rates.push(2e3 * LIVES as f64 / two);
    }
    b.report("two_threads", value(median(&ratios)));
    b.report("two_threads_rate", value(median(&rates)));
}

// ---- ending many at once; dropped in the order opposite to that of allocation

fn trials(n: usize) -> usize {
    match n {
        1_000_000.. => reps(3, 1),
        100_000.. => reps(9, 5),
        10_000.. => reps(31, 15),
        _ => reps(151, 61),
    }
}

fn cancel_and_drop(root: CancellationToken, mut tree: Vec<CancellationToken>) -> f64 {
    let t0 = now();
    root.cancel();
    let each = (now() - t0) as f64 / tree.len() as f64;
    while let Some(token) = tree.pop() {
        assert!(token.is_cancelled(), "a cancel returned while a descendant is live");
    }
    each
}

fn fan_out(n: usize) -> Figures {
    let trial = |_| {
        let root = CancellationToken::new();
        let children = (0..n).map(|_| root.child_token()).collect();
        cancel_and_drop(root, children)
    };
    value(median(&(0..trials(n)).map(trial).collect::<Vec<_>>()))
}

// A cancel lifts grandchildren to the token that it is called on; it does not recurse.
fn chain(n: usize) -> Figures {
    let trial = |_| {
        let root = CancellationToken::new();
        let mut levels: Vec<CancellationToken> = Vec::with_capacity(n);
        for _ in 0..n {
            levels.push(levels.last().unwrap_or(&root).child_token());
        }
        cancel_and_drop(root, levels)
    };
    value(median(&(0..trials(n)).map(trial).collect::<Vec<_>>()))
}

pub fn trees(b: &mut Bench) {
    for n in [1000, 10_000, 100_000, 1_000_000] {
        b.report(&format!("fanout_{n}"), fan_out(n));
        b.report(&format!("chain_{n}"), chain(n));
    }
}

// ---- counted: allocations, by the program beside this one; bytes that malloc has handed out

// The headers of malloc are included.
fn in_use() -> f64 {
    let m = unsafe { libc::mallinfo2() };
    m.uordblks as f64 + m.hblkhd as f64
}

fn bytes_each<T>(mut make: impl FnMut() -> T) -> Figures {
    let n = reps(1_000_000, 200_000);
    let mut kept = Vec::with_capacity(n);
    let before = in_use();
    for _ in 0..n {
        kept.push(make());
    }
    value((in_use() - before) / n as f64)
}

pub fn counts(b: &mut Bench, rt: &Runtime) {
    let program = std::env::current_exe().unwrap().with_file_name("allocs");
    let out = std::process::Command::new(program).output().expect("the program allocs does not run");
    let text = String::from_utf8_lossy(&out.stdout);
    let counts: Vec<f64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    b.report("allocs_cold", value(counts[0]));
    b.report("allocs_warm", value(counts[1]));

    let parent = CancellationToken::new();
    b.report("bytes_child", bytes_each(|| parent.child_token()));
    let _inside = rt.enter();
    let parent = CancellationToken::new();
    b.report("bytes_timeout", bytes_each(|| (parent.child_token(), arm(HOUR))));
}
