//! Several statements in one errand.
//!
//! What a statement costs is mostly to be prepared, where it was not yet, and the errand to the
//! connection's thread and back. So what is asked or changed together goes there together.
//!
//! `SQLite`'s driver takes several statements in one prepared query; should it cease to, this file is
//! where they are sent one after the other.

use std::fmt::Write as _;

use sqlx::{Arguments as _, AssertSqlSafe, Encode, Type, sqlite::SqliteArguments};

use crate::{
    engine::{Conn, Engine, Row},
    tx::Error,
};

/// Rows that one statement puts down at most.
const CHUNK: usize = 128;
/// Rows go down in so many, twice as many, and so on, the rest by itself: of few forms, each prepared
/// once.
const STEP: usize = 8;

/// Statements that are run in this order, in one errand, but for rows that are put down. Nothing is
/// done before [`run`](Self::run).
#[derive(Default)]
pub struct Script {
    sql: String,
    values: SqliteArguments,
    count: usize,
    /// What goes before it in errands of its own: of many rows, most.
    before: Vec<Self>,
    /// Has rows alone: their places have no numbers, since the driver looks each number up among all
    /// of its statement's.
    is_bulk: bool,
    failed: Option<sqlx::error::BoxDynError>,
}

/// Gives the statement that was added last its values, `$1` first.
pub struct Values<'a>(&'a mut Script);

impl Values<'_> {
    /// The next value.
    pub fn bind<'v, T: Encode<'v, Engine> + Type<Engine>>(self, value: T) -> Self {
        self.0.value(value);
        self
    }
}

/// Gives a row its values, in the order of the columns.
pub struct Columns<'a> {
    script: &'a mut Script,
    is_first: bool,
}

impl Columns<'_> {
    /// The next column's.
    pub fn bind<'v, T: Encode<'v, Engine> + Type<Engine>>(&mut self, value: T) -> &mut Self {
        if !std::mem::take(&mut self.is_first) {
            self.script.sql.push_str(", ");
        }
        self.script.place(value);
        self
    }
}

impl Script {
    /// One statement more, whose parameters are numbered as if it were alone.
    pub fn add(&mut self, statement: &'static str) -> Values<'_> {
        self.begin();
        let mut parts = statement.split('$');
        self.sql.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            let (number, rest) = part.split_at(digits);
            let number = number.parse::<usize>().map_or(0, |number| number + self.count);
            _ = write!(self.sql, "${number}{rest}");
        }
        Values(self)
    }

    /// `head a, b, c)`; of the values, of which there must be one, the last comes more than once, so
    /// that there are few forms: who looks for one twice finds it once.
    pub fn add_list<'v, T>(&mut self, head: &'static str, values: Vec<T>)
    where
        T: Encode<'v, Engine> + Type<Engine> + Clone,
    {
        self.begin();
        self.sql.push_str(head);
        self.list(values);
    }

    /// As [`Self::add_list`]; `$1`, once in `head`, is the `owner`.
    pub fn add_list_of<'v, T>(
        &mut self,
        head: &'static str,
        owner: impl Encode<'v, Engine> + Type<Engine>,
        values: Vec<T>,
    ) where
        T: Encode<'v, Engine> + Type<Engine> + Clone,
    {
        self.begin();
        let (before, after) = head.split_once("$1").unwrap_or((head, ""));
        self.sql.push_str(before);
        self.place(owner);
        self.sql.push_str(after);
        self.list(values);
    }

    fn list<'v, T>(&mut self, mut values: Vec<T>)
    where
        T: Encode<'v, Engine> + Type<Engine> + Clone,
    {
        if let Some(last) = values.last().cloned() {
            values.resize(values.len().next_power_of_two(), last);
        }
        let mut columns = Columns { script: self, is_first: true };
        for value in values {
            columns.bind(value);
        }
        self.sql.push(')');
    }

    fn rows<T>(
        &mut self,
        insert: &'static str,
        rows: &[T],
        tail: &'static str,
        push: &impl Fn(&mut Columns<'_>, &T),
    ) {
        if rows.is_empty() {
            return;
        }
        self.begin();
        self.sql.push_str(insert);
        self.sql.push_str("VALUES ");
        for (at, row) in rows.iter().enumerate() {
            self.sql.push_str(if at == 0 { "(" } else { ", (" });
            push(&mut Columns { script: self, is_first: true }, row);
            self.sql.push(')');
        }
        self.sql.push_str(tail);
    }

    /// `insert … VALUES (…), (…) tail`, for any number of rows: most of many go in errands of their own,
    /// before all that is not put down in this way.
    pub fn insert<T>(
        &mut self,
        insert: &'static str,
        rows: &[T],
        tail: &'static str,
        push: impl Fn(&mut Columns<'_>, &T),
    ) {
        for (n, chunk) in rows.chunks(CHUNK).enumerate() {
            let (most, rest) = chunk.split_at(chunk.len() - chunk.len() % STEP);
            if !most.is_empty() {
                if self.before.len() == n {
                    self.before.push(Self { is_bulk: true, ..Self::default() });
                }
                if let Some(before) = self.before.get_mut(n) {
                    before.rows(insert, most, tail, &push);
                }
            }
            self.rows(insert, rest, tail, &push);
        }
    }

    /// Runs them; the rows that they return, one statement's after the other's.
    ///
    /// # Errors
    /// The engine's; what stands before the one that failed is done, as far as the transaction goes.
    pub async fn run(mut self, conn: &mut Conn) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        for script in std::mem::take(&mut self.before) {
            rows.extend(script.errand(conn).await?);
        }
        rows.extend(self.errand(conn).await?);
        Ok(rows)
    }

    async fn errand(self, conn: &mut Conn) -> Result<Vec<Row>, Error> {
        if self.sql.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(error) = self.failed {
            return Err(sqlx::Error::Encode(error).into());
        }
        // Of literals of ours and numbers.
        let query = sqlx::query_with(AssertSqlSafe(self.sql), self.values);
        Ok(query.fetch_all(conn).await?)
    }

    fn begin(&mut self) {
        if !self.sql.is_empty() {
            self.sql.push_str("; ");
        }
        self.count = self.values.len();
    }

    fn place<'v, T: Encode<'v, Engine> + Type<Engine>>(&mut self, value: T) {
        self.value(value);
        if self.is_bulk {
            self.sql.push('?');
        } else {
            _ = write!(self.sql, "${}", self.values.len());
        }
    }

    fn value<'v, T: Encode<'v, Engine> + Type<Engine>>(&mut self, value: T) {
        if let Err(error) = self.values.add(value) {
            self.failed = Some(error);
        }
    }
}
