//! Compares the memory that models say they hold with what the process grows by when they are loaded.
//!
//! Takes model directories; loads each many times over and prints, per copy: the size of the file, what the model says, how much
//! the resident memory grew, and how much was allocated at most during one load besides the model. Linux only.
#![expect(clippy::print_stdout, reason = "prints its results")]
#![expect(
    unsafe_code,
    reason = "an allocator that counts is an unsafe trait; it forwards to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use coracle_base::SystemClock;
use coracle_formats::{LoadOptions, load, locate};

/// Copies are loaded until the models say that they hold so much.
const BYTES_MIN: usize = 64 << 20;
const COPIES_MAX: usize = 2_000;

/// The system's allocator, counted.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let before = ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        MOST.fetch_max(before + layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract; what it frees came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("| model | file | says | grew by | grew / says | most while loading / file |");
    println!("|---|---|---|---|---|---|");
    for directory in std::env::args().skip(1) {
        measure(Path::new(&directory))?;
    }
    Ok(())
}

fn measure(directory: &Path) -> Result<(), Box<dyn Error>> {
    let (clock, options) = (SystemClock::new(), LoadOptions::default());
    let path = locate(directory)?;
    let file_bytes = usize::try_from(fs::metadata(&path)?.len())?;
    // What the first load leaves behind in the allocator is no part of the copies.
    let before_first = ALLOCATED.load(Ordering::Relaxed);
    MOST.store(before_first, Ordering::Relaxed);
    let says = load(&path, &options, &clock)?.model.memory_bytes().max(1);
    let most = MOST.load(Ordering::Relaxed) - before_first;
    let n_copies = (BYTES_MIN / says).clamp(8, COPIES_MAX);
    let mut models = Vec::with_capacity(n_copies);
    let before = resident_bytes()?;
    for _ in 0..n_copies {
        models.push(load(&path, &options, &clock)?.model);
    }
    let per_copy = resident_bytes()?.saturating_sub(before) / n_copies;
    println!(
        "| {} | {file_bytes} | {says} | {per_copy} | {} % | {} % |",
        directory.display(),
        per_copy * 100 / says,
        most.saturating_sub(says) * 100 / file_bytes.max(1)
    );
    Ok(())
}

/// Returns the resident memory of this process.
fn resident_bytes() -> Result<usize, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(number.ok_or("no VmRSS")?.parse::<usize>()? * 1024)
}
