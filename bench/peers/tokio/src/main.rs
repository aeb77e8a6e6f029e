// SPDX-License-Identifier: BSD-2-Clause
//! Measures tokio_util's CancellationToken on a tokio runtime of as many workers as CPUs.
//!
//! It has no values and no callbacks, so those rows stay empty. It has no deadlines either: those rows pair a
//! token with a timer of tokio's by hand, as a user would.

mod harness;
mod life;
mod wake;

use harness::{cpu_count, cpus, Bench};

fn usage() -> ! {
    eprintln!("usage: peer [--benchmark_min_time=S] [--benchmark_out=FILE] [--benchmark_out_format=json]");
    std::process::exit(2);
}

fn main() {
    let mut b = Bench { min_time: 0.1, lines: vec![] };
    let mut out = None;
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("--benchmark_min_time", s)) => {
                b.min_time = s.trim_end_matches('s').parse().unwrap_or_else(|_| usage());
            }
            Some(("--benchmark_out", path)) => out = Some(path.to_owned()),
            Some(("--benchmark_out_format", "json")) => {}
            _ => usage(),
        }
    }

    let two = cpus().len() == 2;
    let rt = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cpu_count())
        .enable_time()
        .build()
        .unwrap();
    life::looks(&mut b, &rt);
    life::creates(&mut b, &rt);
    if two {
        life::two_threads(&mut b);
    }
    life::trees(&mut b);
    if two {
        wake::one_waiter(&mut b);
    }
    wake::crowd(&mut b, &rt);
    wake::load(&mut b, &rt);
    wake::late_wait(&mut b, &rt);
    wake::storm(&mut b, &rt);
    life::counts(&mut b, &rt);
    if let Some(path) = out {
        std::fs::write(path, b.json()).expect("the figures cannot be written");
    }
}
