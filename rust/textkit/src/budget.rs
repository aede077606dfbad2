//! A bound on the memory and the time that one rendering or one grammar's compilation may take.
//!
//! Fuel counts instructions, and one instruction can double a string: forty of them would take a
//! terabyte. Rust offers no way to make an allocation inside a library fail gently, so such work
//! runs on its own thread; one that goes over its budget is stopped for good inside the allocator,
//! with what it holds, and its caller is told. One that goes over its time is stopped in the same
//! way, at its next allocation. The cost of such an attack is one sleeping thread and the budget;
//! callers count them, and refuse from some number on.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::abi::{contain_panics, Failure, Outcome};

/// The system allocator, counting on threads that have a budget.
pub struct CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

trait Stop {
    /// Tells the caller. Must not allocate.
    fn tell_out_of_memory(&self);
    /// Whether the caller waits no more.
    fn is_abandoned(&self) -> bool;
}

#[derive(Clone, Copy)]
struct Budget {
    bytes_left: isize,
    /// Lives as long as its thread, which holds a reference to it.
    owner: Option<*const dyn Stop>,
}

thread_local! {
    static BUDGET: Cell<Budget> = const { Cell::new(Budget { bytes_left: 0, owner: None }) };
}

fn charge(bytes: isize) {
    // Threads that are being torn down have no budget any more.
    let _ = BUDGET.try_with(|cell| {
        let budget = cell.get();
        if let Some(owner) = budget.owner {
            let bytes_left = budget.bytes_left - bytes;
            // SAFETY: the thread that we are on keeps the owner alive.
            let owner_alive = unsafe { &*owner };
            if bytes_left < 0 || (bytes > 0 && owner_alive.is_abandoned()) {
                cell.set(Budget { bytes_left: 0, owner: None });
                if bytes_left < 0 {
                    owner_alive.tell_out_of_memory();
                }
                loop {
                    // SAFETY: has no preconditions; returns only after a signal handler ran.
                    unsafe { libc::pause() };
                }
            }
            cell.set(Budget { bytes_left, owner: budget.owner });
        }
    });
}

// SAFETY: every call goes on to the system allocator unchanged.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        charge(layout.size() as isize);
        System.alloc(layout)
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        charge(layout.size() as isize);
        System.alloc_zeroed(layout)
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        charge(-(layout.size() as isize));
        System.dealloc(pointer, layout)
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        charge(size as isize - layout.size() as isize);
        System.realloc(pointer, layout, size)
    }
}

enum State<T> {
    Running,
    OutOfMemory,
    Done(Outcome<T>),
    Taken,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    abandoned: AtomicBool,
}

impl<T> Shared<T> {
    fn set(&self, state: State<T>) {
        *self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = state;
        self.changed.notify_all();
    }
}

impl<T> Stop for Shared<T> {
    fn tell_out_of_memory(&self) {
        self.set(State::OutOfMemory);
    }
    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }
}

pub enum Ending<T> {
    Done(Outcome<T>),
    OutOfMemory,
    OutOfTime,
}

/// Deep enough for the recursion that the libraries themselves allow.
const STACK_BYTES: usize = 16 << 20;

/// Runs `body` on a thread called `name` of its own with at most `bytes` of live memory. `body` must
/// hold no lock that others need: it may be stopped for good at any allocation.
pub fn run<T: Send + 'static>(
    name: &str,
    bytes: usize,
    limit: Duration,
    body: impl FnOnce() -> Outcome<T> + Send + 'static,
) -> Ending<T> {
    let shared = Arc::new(Shared {
        state: Mutex::new(State::Running),
        changed: Condvar::new(),
        abandoned: AtomicBool::new(false),
    });
    let seen_by_thread = Arc::clone(&shared);
    let started = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(
        move || {
            let owner: *const dyn Stop = &*seen_by_thread;
            BUDGET.with(|cell| {
                cell.set(Budget { bytes_left: bytes as isize, owner: Some(owner) });
            });
            let outcome = contain_panics(body);
            BUDGET.with(|cell| cell.set(Budget { bytes_left: 0, owner: None }));
            seen_by_thread.set(State::Done(outcome));
        },
    );
    let thread = match started {
        Ok(thread) => thread,
        Err(error) => {
            return Ending::Done(Err(Failure::internal(format!("no thread to work on: {error}"))))
        }
    };
    let guard = shared.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (mut guard, _) = shared
        .changed
        .wait_timeout_while(guard, limit, |state| matches!(state, State::Running))
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let state = std::mem::replace(&mut *guard, State::Taken);
    if matches!(state, State::Running) {
        shared.abandoned.store(true, Ordering::Relaxed);
    }
    drop(guard);
    match state {
        State::Done(outcome) => {
            // It has nothing left to do; whoever shuts down finds no thread of ours still ending.
            let _ = thread.join();
            Ending::Done(outcome)
        }
        State::OutOfMemory => Ending::OutOfMemory,
        State::Running | State::Taken => Ending::OutOfTime,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn stops_at_the_budget_and_tells_the_caller() {
        let ending = run("test", 1 << 20, 10 * SECOND, || {
            let mut text = String::from("x");
            loop {
                text.push_str(&text.clone());
                if text.len() > 1 << 40 {
                    return Ok(text.len());
                }
            }
        });
        assert!(matches!(ending, Ending::OutOfMemory));
    }

    #[test]
    fn memory_that_is_given_back_does_not_count() {
        let ending = run("test", 1 << 20, 10 * SECOND, || {
            Ok((0..100).map(|round| vec![round as u8; 500_000].len()).sum::<usize>())
        });
        assert!(matches!(ending, Ending::Done(Ok(50_000_000))));
    }

    #[test]
    fn passes_panics_and_deadlines_on() {
        let panicked: Ending<()> = run("test", 1 << 20, 10 * SECOND, || panic!("on purpose"));
        assert!(matches!(panicked, Ending::Done(Err(f)) if f.message.contains("on purpose")));
        let slow = run("test", 1 << 20, SECOND / 20, || {
            std::thread::sleep(SECOND / 2);
            Ok(())
        });
        assert!(matches!(slow, Ending::OutOfTime));
    }

    #[test]
    fn what_is_late_stops_at_its_next_allocation() {
        let rounds = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counted = Arc::clone(&rounds);
        let late: Ending<()> = run("test", 1 << 20, SECOND / 20, move || loop {
            std::hint::black_box(vec![0u8; 100]);
            counted.fetch_add(1, Ordering::Relaxed);
        });
        assert!(matches!(late, Ending::OutOfTime));
        std::thread::sleep(SECOND / 20);
        let seen = rounds.load(Ordering::Relaxed);
        std::thread::sleep(SECOND / 20);
        assert_eq!(rounds.load(Ordering::Relaxed), seen);
    }
}
