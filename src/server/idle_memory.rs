//! Memory that a burst needed and nobody needs any more.
//!
//! Owns the one call into the allocator, and the one about the program's own pages. A password hash takes 19 MiB for a few
//! milliseconds; the allocator gives such pages back only when it is called again, which in an idle server nobody does.
//! Of the program's code a start touches tens of megabytes, most of it once. Code in C (zstd) has an allocator of its own, which
//! by default maps and unmaps whatever is larger than 128 KiB: a read of one cold row would spend a third of its time so.

use std::time::Duration;

/// Long enough that a busy server keeps what it uses, short enough that an idle one is small soon.
const ROUND: Duration = Duration::from_secs(5);

/// Gives freed memory back to the system once after each burst of work, for as long as it is polled. Never while there is
/// work: it takes tens of milliseconds, and whatever allocates meanwhile waits.
pub(super) async fn give_back() {
    let mut rounds = tokio::time::interval(ROUND);
    let mut used_before = Duration::ZERO;
    let mut worked = false;
    loop {
        rounds.tick().await;
        let used = processor_time();
        if used.saturating_sub(used_before) > ROUND / 100 {
            worked = true;
        } else if std::mem::take(&mut worked) {
            collect();
            trim_c();
            unmap_code();
        }
        used_before = processor_time();
    }
}

/// Takes the program's code out of this process's memory. It stays in the system's cache of files, and what is called again
/// is mapped again as it is called: some hundred microseconds for the first requests behind it.
fn unmap_code() {
    let (Ok(maps), Ok(program)) = (std::fs::read_to_string("/proc/self/maps"), std::env::current_exe()) else { return };
    for line in maps.lines() {
        // `from-to permissions offset device inode path`. Code is never written to: there is nothing to lose. Read-only data
        // is left alone, for some of it was written to when the program was loaded.
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some("r-xp"), Some(path)) = (fields.next(), fields.next(), fields.nth(3)) else { continue };
        let bounds =
            range.split_once('-').map(|(from, to)| (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16)));
        if let Some((Ok(from), Ok(to))) = bounds
            && program.as_os_str() == path
        {
            discard(from, to.saturating_sub(from));
        }
    }
}

#[expect(unsafe_code, reason = "there is no safe call for it")]
fn discard(from: usize, length: usize) {
    let address = std::ptr::with_exposed_provenance_mut(from);
    // SAFETY: the range is a mapping of this program's file that the kernel has just told, executable and not writable, so
    // its pages are those of the file, and the kernel reads them again when they are next used.
    let _ = unsafe { libc::madvise(address, length, libc::MADV_DONTNEED) };
}

/// What C code frees is kept for what it asks for next, up to some megabytes. Before there are threads.
pub(super) fn keep_c_memory() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "there is no safe call for it")]
    // SAFETY: sets two numbers of the C library's allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 8 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 20);
    }
}

fn trim_c() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "there is no safe call for it")]
    // SAFETY: may be called at any time on any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Of all threads of this process since its start.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[expect(unsafe_code, reason = "the allocator has no safe call for it")]
fn collect() {
    // SAFETY: takes no pointer and may be called on any thread at any time; without mimalloc as the program's allocator
    // there is nothing to collect.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
