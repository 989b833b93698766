//! How Causeway keeps rows: one writer, group commit, wake on commit, migrations.
//!
//! No tables live here. A [`Db`] is one SQLite file; a [`Tx`] is one atomic change of it, on disk
//! (`synchronous=FULL`) when [`Tx::commit`] returns; a [`Listener`] hears of changes after they are
//! committed, never before and never of what was rolled back. What is in the file, and in which
//! words, is the business of the crate that brings the [`Schema`].

mod agreed;
pub mod backup;
mod count;
mod db;
mod engine;
mod error;
mod keeper;
mod lock;
mod migrate;
mod open_error;
mod private;
mod readers;
mod room;
mod script;
pub mod small_file;
mod turn;
mod tx;
mod wake;
mod write_probe;
mod writer;

pub use agreed::Agreed;
pub use count::Beside;
pub use db::{Counts, Db, Options, Sizes};
pub use engine::{Conn, Engine, Row};
pub use error::Error;
pub use lock::{Holder, Lock};
pub use migrate::Schema;
pub use open_error::{OpenCause, OpenError};
pub use private::write_for_the_owner_alone;
pub use readers::Read;
pub use script::{Columns, Rows, Script};
pub use tx::Tx;
pub use wake::Listener;
pub use write_probe::WriteProbe;
