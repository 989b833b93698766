//! What is asked of the databases of this process: each errand with its statements.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex},
    thread,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    layer::{Context, SubscriberExt as _},
};

/// What sqlx tells of each errand goes to this target, on the thread of its connection.
const TARGET: &str = "sqlx::query";

/// Errands since somebody last looked.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<Errand>>>);

impl Heard {
    /// Listens from now on, in the whole process.
    pub(crate) fn listen() -> Self {
        let heard = Self::default();
        let all = Targets::new().with_target(TARGET, Level::TRACE);
        let listener = Registry::default().with(Ear(heard.clone()).with_filter(all));
        tracing::subscriber::set_global_default(listener).unwrap();
        heard
    }

    /// What was asked since the last time.
    pub(crate) fn take(&self) -> Vec<Errand> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// One errand.
pub(crate) struct Errand {
    /// The thread of a connection, which is called by its file.
    thread: String,
    sql: String,
}

struct Ear(Heard);

impl<S: Subscriber> Layer<S> for Ear {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        let sql = if words.whole.is_empty() { words.beginning } else { words.whole };
        let thread = thread::current().name().unwrap_or_default().to_owned();
        self.0.0.lock().unwrap().push(Errand { thread, sql });
    }
}

/// A statement of a few words is told as its beginning alone.
#[derive(Default)]
struct Words {
    beginning: String,
    whole: String,
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.beginning),
            "db.statement" => value.trim().clone_into(&mut self.whole),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// The errands of one database that were there so often at least: what comes seldom is the clock's, and on a
/// slow machine there is more of it.
pub(crate) struct Asked<'a>(Vec<&'a str>);

impl<'a> Asked<'a> {
    pub(crate) fn of(file: &str, all: &'a [Errand], least: usize) -> Self {
        let own = all.iter().filter(|errand| errand.thread.starts_with(file));
        let own: Vec<&str> = own.map(|errand| &*errand.sql).collect();
        let mut counts = BTreeMap::<&str, usize>::new();
        for sql in &own {
            *counts.entry(sql).or_default() += 1;
        }
        Self(own.into_iter().filter(|sql| counts.get(sql) >= Some(&least)).collect())
    }

    pub(crate) fn errands(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn statements(&self) -> usize {
        self.0.iter().map(|sql| statements(sql).count()).sum()
    }

    pub(crate) fn commits(&self) -> usize {
        self.0.iter().filter(|sql| statements(sql).any(|one| one == "COMMIT")).count()
    }

    /// Each errand with how often it was there, those first that came most often.
    pub(crate) fn most(&self) -> String {
        let mut counts = BTreeMap::<String, usize>::new();
        for sql in &self.0 {
            let words: Vec<&str> = sql.split_whitespace().collect();
            *counts.entry(words.join(" ")).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts.iter().fold(String::new(), |mut text, (sql, count)| {
            let begins: String = sql.chars().take(160).collect();
            _ = writeln!(text, "{count:>6}  {begins}");
            text
        })
    }
}

fn statements(sql: &str) -> impl Iterator<Item = &str> {
    sql.split(';').map(str::trim).filter(|one| !one.is_empty())
}
