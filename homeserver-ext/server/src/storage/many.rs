//! Statements over many rows, a chunk at a time: of few forms, each prepared once.

use causeway_store::{Columns, Conn, Engine, Row, Script};
use sqlx::{Encode, FromRow, Type};

use super::Error;

pub(super) const CHUNK: usize = 64;

/// `insert … VALUES (…), (…) tail`.
pub(super) async fn insert<T>(
    conn: &mut Conn,
    insert: &'static str,
    rows: &[T],
    tail: &'static str,
    push: impl Fn(&mut Columns<'_>, &T),
) -> Result<(), causeway_store::Error> {
    let mut script = Script::default();
    script.insert(insert, rows, tail, push);
    script.run(conn).await.map(drop)
}

/// `head …)`, which begins a list, for each chunk of `values`; all rows that it returns. `$1` is the
/// `owner`.
pub(super) async fn fetch_in<R>(
    conn: &mut Conn,
    head: &'static str,
    owner: impl for<'o> Encode<'o, Engine> + Type<Engine> + Copy,
    values: &[impl for<'v> Encode<'v, Engine> + Type<Engine> + Clone],
) -> Result<Vec<R>, Error>
where
    R: for<'r> FromRow<'r, Row>,
{
    let mut found = Vec::new();
    for chunk in values.chunks(CHUNK) {
        let mut script = Script::default();
        script.add_list_of(head, owner, chunk.to_vec());
        for row in script.run(&mut *conn).await? {
            found.push(R::from_row(&row)?);
        }
    }
    Ok(found)
}

/// As [`fetch_in`], of a statement that returns nothing.
pub(super) async fn run_in(
    conn: &mut Conn,
    head: &'static str,
    owner: impl for<'o> Encode<'o, Engine> + Type<Engine> + Copy,
    values: &[impl for<'v> Encode<'v, Engine> + Type<Engine> + Clone],
) -> Result<(), Error> {
    for chunk in values.chunks(CHUNK) {
        let mut script = Script::default();
        script.add_list_of(head, owner, chunk.to_vec());
        script.run(&mut *conn).await?;
    }
    Ok(())
}
