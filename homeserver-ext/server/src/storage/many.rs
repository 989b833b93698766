//! Statements over many rows, a chunk at a time: one statement for 64 rows, prepared once.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection, query_builder::Separated};

const CHUNK: usize = 64;

/// `insert … VALUES (…), (…) tail`.
pub(super) async fn insert<T>(
    conn: &mut SqliteConnection,
    insert: &'static str,
    rows: &[T],
    tail: &'static str,
    push: impl Fn(&mut Separated<'_, Sqlite, &'static str>, &T),
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
    conn: &mut SqliteConnection,
    head: &'static str,
    owner: O,
    column: &'static str,
    values: &'v [V],
) -> Result<Vec<R>, sqlx::Error>
where
    O: for<'o> sqlx::Encode<'o, Sqlite> + sqlx::Type<Sqlite> + Copy,
    &'v V: sqlx::Encode<'v, Sqlite> + sqlx::Type<Sqlite>,
    R: for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow> + Send + Unpin,
{
    let mut found = Vec::new();
    for chunk in values.chunks(CHUNK) {
        let mut query = QueryBuilder::<Sqlite>::new(head);
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
