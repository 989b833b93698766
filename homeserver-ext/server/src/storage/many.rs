//! Statements over many rows, a chunk at a time: one statement for 64 rows, prepared once.

use causeway_store::{Conn, Engine, Row};
use sqlx::{QueryBuilder, query_builder::Separated};

const CHUNK: usize = 64;

/// `insert … VALUES (…), (…) tail`.
pub(super) async fn insert<T>(
    conn: &mut Conn,
    insert: &'static str,
    rows: &[T],
    tail: &'static str,
    push: impl Fn(&mut Separated<'_, Engine, &'static str>, &T),
) -> Result<(), sqlx::Error> {
    for chunk in rows.chunks(CHUNK) {
        let mut query = QueryBuilder::new(insert);
        query.push_values(chunk, |mut values, row| push(&mut values, row));
        query.push(tail);
        query.build().persistent(chunk.len() == CHUNK).execute(&mut *conn).await?;
    }
    Ok(())
}

/// `head owner column IN (…)` for each chunk of `values`; all rows that it returns.
pub(super) async fn fetch_in<'v, O, V, R>(
    conn: &mut Conn,
    head: &'static str,
    owner: O,
    column: &'static str,
    values: &'v [V],
) -> Result<Vec<R>, sqlx::Error>
where
    O: for<'o> sqlx::Encode<'o, Engine> + sqlx::Type<Engine> + Copy,
    &'v V: sqlx::Encode<'v, Engine> + sqlx::Type<Engine>,
    R: for<'r> sqlx::FromRow<'r, Row> + Send + Unpin,
{
    let mut found = Vec::new();
    for chunk in values.chunks(CHUNK) {
        let mut query = QueryBuilder::<Engine>::new(head);
        query.push_bind(owner).push(column).push(" IN (");
        let mut list = query.separated(", ");
        for value in chunk {
            list.push_bind(value);
        }
        query.push(")");
        let rows = query.build_query_as::<R>().persistent(chunk.len() == CHUNK);
        found.extend(rows.fetch_all(&mut *conn).await?);
    }
    Ok(found)
}

/// `head owner column IN (…)` for each chunk of `values`, which returns nothing.
pub(super) async fn run_in<'v, O, V>(
    conn: &mut Conn,
    head: &'static str,
    owner: O,
    column: &'static str,
    values: &'v [V],
) -> Result<(), sqlx::Error>
where
    O: for<'o> sqlx::Encode<'o, Engine> + sqlx::Type<Engine> + Copy,
    &'v V: sqlx::Encode<'v, Engine> + sqlx::Type<Engine>,
{
    for chunk in values.chunks(CHUNK) {
        let mut query = QueryBuilder::<Engine>::new(head);
        query.push_bind(owner).push(column).push(" IN (");
        let mut list = query.separated(", ");
        for value in chunk {
            list.push_bind(value);
        }
        query.push(")");
        query.build().persistent(chunk.len() == CHUNK).execute(&mut *conn).await?;
    }
    Ok(())
}
