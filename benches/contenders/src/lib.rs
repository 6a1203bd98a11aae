//! What the benchmarks share: a table to print at the end of a run, timings to fill it, and an
//! allocator that counts.

mod counting;
mod table;
mod timings;

pub use counting::{Counting, allocations};
pub use table::Table;
pub use timings::Timings;
