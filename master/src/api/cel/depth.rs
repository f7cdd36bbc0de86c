//! Room for expressions that are deep. They are walked by functions that call themselves; what goes deeper than any
//! expression that somebody would write does so on a stack of its own, so that no source exhausts that of a worker.

/// Levels for which any stack has room.
const SHALLOW_LEVELS: usize = 40;
/// The size of a stack that has room for as many levels as there can be. Only what is used of it takes memory.
const STACK_BYTES: usize = 64 << 20;

/// Does work that goes down some levels. `None` if there can be no thread for it.
pub fn with_room<T: Send>(levels: usize, work: impl FnOnce() -> T + Send) -> Option<T> {
    if levels <= SHALLOW_LEVELS {
        return Some(work());
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("cel".to_owned()).stack_size(STACK_BYTES);
        thread.spawn_scoped(scope, work).ok()?.join().ok()
    })
}
