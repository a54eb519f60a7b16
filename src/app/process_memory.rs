//! Memory that this process takes from the system.

use std::{hint::black_box, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

/// How often freed memory is returned.
const RETURN_INTERVAL: Duration = Duration::from_secs(5);
/// An allocation of this size has pages for itself. They are not used, and take no memory.
const OWN_PAGES_BYTES: usize = 4 * 1024 * 1024;

/// The size of the pages in which this process, and those that it starts, get their memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageSize {
    /// What the system gives: pages of 2 MiB, if the allocator asks for them and they are not forbidden.
    SystemDefault,
    /// Pages of 4 KiB, see `docs/src/performance.md`. The kernel fills a page with zeros when it is used for the first time, and
    /// each thread uses pages for itself: with large ones, that was half of the CPU of a short turn with the filesystem store.
    Small,
}

/// Chooses the size of pages. It has an effect on Linux only.
pub fn choose_page_size(size: PageSize) {
    // A kernel without this call has no large pages.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_thp_disable(size == PageSize::Small);
    #[cfg(not(target_os = "linux"))]
    let _ = size;
}

/// Returns freed memory to the system until the handle is dropped. The allocator, mimalloc, does that one second after it was
/// freed, but only while it frees other pages: without this, a process at rest keeps what closed connections used.
pub(super) fn return_freed_memory() -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async {
        let mut ticks = interval(RETURN_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            drop(black_box(Vec::<u8>::with_capacity(OWN_PAGES_BYTES)));
        }
    }))
}
