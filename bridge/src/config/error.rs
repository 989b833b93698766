//! Why there is no configuration, in words that name the place, the key and what belongs there.

use std::path::PathBuf;

use causeway_store::small_file::ReadError;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// None of the usual places has one.
    #[error(
        "there is no ./causeway.yaml and no /etc/causeway/config.yaml; `causeway init` makes one"
    )]
    NoFile,
    /// The named file cannot be read.
    #[error("{} cannot be read: {}; {}", .0.display(), .1, unread_remedy(.1))]
    Unreadable(PathBuf, ReadError),
    /// Not YAML, or a value of the wrong kind: where, and what belongs there.
    #[error("{0}: {1}")]
    Malformed(String, String),
    /// A key that does not exist: where, the key, and the nearest one that does.
    #[error("{0}: there is no key `{1}`{2}")]
    UnknownKey(String, String, Hint),
    /// A value that will not do: where it stands, its key included.
    #[error("{0}: {1}")]
    Value(String, String),
}

/// What to do about a configuration that cannot be read.
pub fn unread_remedy(error: &ReadError) -> &'static str {
    match error {
        ReadError::Folder => "name the file in it with `--config FILE`",
        // It is read again on SIGHUP.
        ReadError::Special(_) | ReadError::TooLong => "name the right file with `--config FILE`",
        ReadError::Missing
        | ReadError::InFile
        | ReadError::Denied
        | ReadError::NotText(_)
        | ReadError::Io(_) => error
            .remedy()
            .unwrap_or("name yours with `--config FILE`, or make one with `causeway init`"),
    }
}

/// A value of the right kind that will not do: its key, and why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: {1}")]
pub struct WrongValue(pub String, pub String);

impl WrongValue {
    pub(super) fn new(key: &str, why: impl Into<String>) -> Self {
        Self(key.to_owned(), why.into())
    }
}

/// What was probably meant, if anything.
#[derive(Debug, PartialEq, Eq)]
pub struct Hint(Option<String>, &'static [&'static str]);

impl Hint {
    pub(super) fn new(key: &str, known: &'static [&'static str]) -> Self {
        Self(nearest(key, known), known)
    }
}

impl std::fmt::Display for Hint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self(Some(near), _) => write!(f, "; did you mean `{near}`?"),
            Self(None, known) => write!(f, "; there are: {}", known.join(", ")),
        }
    }
}

/// The known key that is at most a third of its letters away.
fn nearest(key: &str, known: &[&str]) -> Option<String> {
    known
        .iter()
        .map(|candidate| (distance(key, candidate), candidate))
        .min()
        .filter(|(far, candidate)| far * 3 <= candidate.len().max(3))
        .map(|(_, candidate)| (*candidate).to_owned())
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (to, above) in b.iter().zip(row.iter().skip(1)) {
            left = (corner + usize::from(from != *to)).min(above + 1).min(left + 1);
            corner = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distances() {
        for (a, b, far) in [("", "", 0), ("a", "", 1), ("listen", "lisen", 1), ("ab", "ba", 2)] {
            assert_eq!(distance(a, b), far, "{a} {b}");
        }
    }
}
