//! Looks for many secrets at once, however they are spelled, in everything that lies below a folder: in each
//! file as it is, and in each cell of each database.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use causeway_protocol::ids::text_of;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, sqlite::SqliteConnectOptions,
};

/// What must not be found, and what it is.
pub(crate) type Secret = (String, Vec<u8>);

/// No needle is shorter: what begins like one is looked up by so many bytes.
const SHORTEST: usize = 8;

/// Everything that a leak of `bytes` could look like.
pub(crate) fn spellings(what: &str, bytes: &[u8]) -> Vec<Secret> {
    let listed = |between: &str| {
        let numbers: Vec<String> = bytes.iter().map(ToString::to_string).collect();
        numbers.join(between)
    };
    let mut texts = vec![hex::encode(bytes), hex::encode_upper(bytes), listed(", "), listed(",")];
    // In the middle of something that is base64 as a whole it looks like one of three.
    for from in 0..3 {
        let bytes = bytes.get(from..).unwrap_or_default();
        let text = text_of(&bytes[..bytes.len() - bytes.len() % 3]);
        texts.push(text.replace('-', "+").replace('_', "/"));
        texts.push(text);
    }
    let texts = texts.into_iter().filter(|text| text.len() >= SHORTEST);
    let texts = texts.map(|text| (format!("{what} in letters"), text.into_bytes()));
    [(what.to_owned(), bytes.to_vec())].into_iter().chain(texts).collect()
}

/// What is looked for.
pub(crate) struct Needles {
    all: Vec<Secret>,
    /// Which of them begin so.
    by_begin: HashMap<[u8; SHORTEST], Vec<usize>>,
    /// Whether any begins with these two bytes.
    may_begin: Vec<bool>,
}

impl Needles {
    /// These, in all their spellings.
    pub(crate) fn of(secrets: &[Secret]) -> Self {
        let mut all: Vec<Secret> =
            secrets.iter().flat_map(|(what, bytes)| spellings(what, bytes)).collect();
        all.sort();
        all.dedup();
        let (mut by_begin, mut may_begin) = (HashMap::<_, Vec<_>>::new(), vec![false; 1 << 16]);
        for (nth, (what, bytes)) in all.iter().enumerate() {
            let begin = *bytes.first_chunk().unwrap_or_else(|| panic!("{what} is too short"));
            by_begin.entry(begin).or_default().push(nth);
            may_begin[usize::from(u16::from_be_bytes([begin[0], begin[1]]))] = true;
        }
        Self { all, by_begin, may_begin }
    }

    /// Those that are in these bytes.
    pub(crate) fn within(&self, bytes: &[u8]) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        for (at, begin) in bytes.array_windows::<SHORTEST>().enumerate() {
            if !self.may_begin[usize::from(u16::from_be_bytes([begin[0], begin[1]]))] {
                continue;
            }
            for nth in self.by_begin.get(begin).into_iter().flatten() {
                let (what, needle) = &self.all[*nth];
                if bytes[at..].starts_with(needle) {
                    found.insert(what.as_str());
                }
            }
        }
        found
    }

    /// Those that are below a folder, each with where; and how many files and cells were looked at.
    pub(crate) async fn below<'a>(
        &'a self,
        folder: &Path,
    ) -> (BTreeMap<PathBuf, BTreeSet<&'a str>>, Looked) {
        let (mut found, mut looked) = (BTreeMap::<_, BTreeSet<_>>::new(), Looked::default());
        let (all, mut databases) = (files(folder), Vec::new());
        let mut add = |file: &Path, here: BTreeSet<&'a str>| {
            if !here.is_empty() {
                found.entry(file.to_path_buf()).or_default().extend(here);
            }
        };
        for file in all {
            let bytes = fs::read(&file).unwrap();
            looked.files += 1;
            looked.bytes += bytes.len();
            add(&file, self.within(&bytes));
            if bytes.starts_with(b"SQLite format 3\0") {
                databases.push(file);
            }
        }
        // A cell may be cut in pieces in its file; and whoever opens one puts its log into it.
        for file in databases {
            for cell in cells(&file).await {
                looked.cells += 1;
                add(&file, self.within(&cell));
            }
        }
        (found, looked)
    }
}

/// How much was looked at.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    pub(crate) files: usize,
    pub(crate) bytes: usize,
    pub(crate) cells: usize,
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

async fn cells(database: &Path) -> Vec<Vec<u8>> {
    let mut conn = SqliteConnectOptions::new().filename(database).connect().await.unwrap();
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table'
                  AND sql NOT LIKE 'CREATE VIRTUAL%' AND name NOT LIKE 'sqlite_%'";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut conn).await.unwrap();
    let mut cells = Vec::new();
    for table in tables {
        let columns = AssertSqlSafe(format!("SELECT name FROM pragma_table_info('{table}')"));
        let columns: Vec<String> = sqlx::query_scalar(columns).fetch_all(&mut conn).await.unwrap();
        let columns = columns.iter().map(|name| format!("CAST(\"{name}\" AS BLOB)"));
        let columns: Vec<_> = columns.collect();
        let all = AssertSqlSafe(format!("SELECT {} FROM \"{table}\"", columns.join(", ")));
        for row in sqlx::query(all).fetch_all(&mut conn).await.unwrap() {
            let in_row = (0..row.len()).filter_map(|nth| row.get::<Option<Vec<u8>>, _>(nth));
            cells.extend(in_row.filter(|cell| cell.len() >= SHORTEST));
        }
    }
    conn.close().await.unwrap();
    cells
}
