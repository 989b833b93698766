//! Several statements in one errand.
//!
//! What a statement costs is mostly to be prepared, where it was not yet, and the errand to the
//! connection's thread and back. So what is asked or changed together goes there together.
//!
//! `SQLite`'s driver takes several statements in one prepared query; should it cease to, this file is
//! where they are sent one after the other.

use std::{
    collections::VecDeque,
    fmt::{self, Write as _},
    ops::Deref,
};

use futures_util::TryStreamExt as _;
use sqlx::{
    Arguments as _, AssertSqlSafe, Either, Encode, Executor as _, Type, sqlite::SqliteArguments,
};

use crate::{
    engine::{Conn, Engine, Row},
    error::Error,
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
    /// How many it is, and of how many of them rows are not [taken](Rows::take) one by one.
    statements: usize,
    silent: usize,
    values: SqliteArguments,
    count: usize,
    /// What goes before it in errands of its own: of many rows, most.
    before: Vec<Self>,
    /// Has rows alone: their places have no numbers, since the driver looks each number up among all
    /// of its statement's.
    is_bulk: bool,
    failed: Option<sqlx::error::BoxDynError>,
}

/// Why a script that stands between other statements did not come to its end.
pub(crate) enum Broken {
    /// What comes before it failed.
    Before(sqlx::Error),
    Within(Error),
    /// What comes after it failed.
    After(sqlx::Error),
}

/// What a script returned: the rows of all its statements, in their order.
#[derive(Default)]
pub struct Rows {
    all: Vec<Row>,
    /// Where each statement's end.
    ends: VecDeque<usize>,
    taken: usize,
}

// What is in them is nobody's to print.
impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("count", &self.all.len()).finish_non_exhaustive()
    }
}

impl Rows {
    /// The rows of the first statement of which they were not taken yet, but for what many rows were
    /// put down by.
    pub fn take(&mut self) -> Vec<Row> {
        let end = self.ends.pop_front().unwrap_or(self.taken);
        let taken = self.all.drain(..end.saturating_sub(self.taken).min(self.all.len()));
        self.taken = end;
        taken.collect()
    }
}

impl Deref for Rows {
    type Target = [Row];

    fn deref(&self) -> &[Row] {
        &self.all
    }
}

impl IntoIterator for Rows {
    type Item = Row;
    type IntoIter = std::vec::IntoIter<Row>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.into_iter()
    }
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

    /// From here on rows are [taken](Rows::take): what was added before returns none.
    pub const fn asks(&mut self) {
        self.silent = self.statements;
    }

    /// Runs them; the rows that they return, one statement's after the other's.
    ///
    /// # Errors
    /// The engine's; what stands before the one that failed is done, as far as the transaction goes.
    pub async fn run(self, conn: &mut Conn) -> Result<Rows, Error> {
        self.run_between(conn, "", "").await.map_err(|broken| match broken {
            Broken::Before(error) | Broken::After(error) => error.into(),
            Broken::Within(error) => error,
        })
    }

    /// As [`run`](Self::run), after statements without values, and before others: in one errand, but for
    /// rows that are put down.
    pub(crate) async fn run_between(
        mut self,
        conn: &mut Conn,
        before: &'static str,
        after: &'static str,
    ) -> Result<Rows, Broken> {
        let mut errands = std::mem::take(&mut self.before);
        errands.push(self);
        let (last, mut rows) = (errands.len() - 1, Rows::default());
        for (at, errand) in errands.into_iter().enumerate() {
            let before = if at == 0 { before } else { "" };
            let after = if at == last { after } else { "" };
            errand.errand(conn, (before, after), &mut rows).await?;
        }
        Ok(rows)
    }

    async fn errand(
        self,
        conn: &mut Conn,
        (before, after): (&'static str, &'static str),
        rows: &mut Rows,
    ) -> Result<(), Broken> {
        let Self { sql, statements, silent, values, failed, is_bulk, .. } = self;
        // What it comes to is undone by whoever has it stand between others, so they are run.
        let (sql, after) = if failed.is_some() { ("", "") } else { (&*sql, after) };
        let parts = [before, sql, after].into_iter().filter(|part| !part.is_empty());
        let sql = parts.collect::<Vec<_>>().join("; ");
        let within = before.split(';').filter(|one| !one.is_empty()).count();
        if !sql.is_empty() {
            // Of literals of ours and numbers.
            let query = sqlx::query_with(AssertSqlSafe(sql), values);
            let (mut done, mut told) = (0, conn.fetch_many(query));
            loop {
                match told.try_next().await {
                    Ok(Some(Either::Left(_))) => {
                        if !is_bulk && (within + silent..within + statements).contains(&done) {
                            rows.ends.push_back(rows.all.len());
                        }
                        done += 1;
                    }
                    Ok(Some(Either::Right(row))) => rows.all.push(row),
                    Ok(None) => break,
                    Err(error) if done < within => return Err(Broken::Before(error)),
                    Err(error) if done < within + statements => {
                        return Err(Broken::Within(error.into()));
                    }
                    Err(error) => return Err(Broken::After(error)),
                }
            }
        }
        failed.map_or(Ok(()), |error| Err(Broken::Within(sqlx::Error::Encode(error).into())))
    }

    fn begin(&mut self) {
        if !self.sql.is_empty() {
            self.sql.push_str("; ");
        }
        self.statements += 1;
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
