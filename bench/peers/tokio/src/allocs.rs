// SPDX-License-Identifier: BSD-2-Clause
//! Counts what tokens allocate, in a program of its own: a counting allocator would slow down what is timed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio_util::sync::CancellationToken;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        System.alloc(layout)
    }
    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        System.realloc(p, layout, size)
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        System.dealloc(p, layout)
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const N: usize = 10_000;

// Prints the allocations per child, kept; and then of one that is canceled and dropped, warm.
fn main() {
    let parent = CancellationToken::new();
    let mut kept = Vec::with_capacity(N);
    let before = ALLOCATIONS.load(Relaxed);
    for _ in 0..N {
        kept.push(parent.child_token());
    }
    let cold = ALLOCATIONS.load(Relaxed) - before;
    drop(kept);

    let lives = || {
        for _ in 0..N {
            parent.child_token().cancel();
        }
    };
    lives();
    let before = ALLOCATIONS.load(Relaxed);
    lives();
    let warm = ALLOCATIONS.load(Relaxed) - before;
    println!("{} {}", cold as f64 / N as f64, warm as f64 / N as f64);
}
