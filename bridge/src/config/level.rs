//! What of the log is wanted (`logging.level`), and whether that is anything.

use tracing::Level;
use tracing_subscriber::{
    EnvFilter,
    filter::{LevelFilter, Targets},
};

use super::error::Hint;

/// What belongs there.
const KNOWN: &str = "`error`, `warn`, `info`, `debug`, `trace`, or `info,causeway_bridge=debug`";
/// Those of our crates that log.
const OURS: [&str; 4] = ["causeway_bridge", "causeway_server", "causeway_groups", "causeway_store"];

/// A bare word that is no level is taken for the name of a module, and silences all others; so does a
/// module that is not there.
pub(super) fn check(level: &str) -> Result<(), String> {
    let wrong = |what: &str| format!("`{what}` is no level: write {KNOWN}");
    if level.parse::<EnvFilter>().is_err() || level.trim().is_empty() {
        return Err(wrong(level));
    }
    let parts = || level.split(',').map(str::trim);
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    if let Some(part) = parts().find(|part| !part.contains(['=', '[']) && !is_level(part)) {
        return Err(wrong(part));
    }
    // What is said within a span alone is not what is said.
    let plain: Vec<&str> =
        parts().filter(|part| !part.is_empty() && !part.contains(['[', ']', '{', '}'])).collect();
    let named = || plain.iter().filter_map(|part| part.split_once('=')).map(|(name, _)| name);
    for name in named().filter(|name| name.starts_with("causeway")) {
        let (krate, _) = name.split_once("::").unwrap_or((name, ""));
        if !OURS.iter().any(|ours| *ours == krate || ours.starts_with(name)) {
            return Err(format!("nothing is logged as `{name}`{}", Hint::new(krate, &OURS)));
        }
    }
    let targets: Targets = plain.join(",").parse().map_err(|_| wrong(level))?;
    let says_something = |target: &str| targets.would_enable(target, &Level::ERROR);
    if plain.is_empty() || !OURS.into_iter().any(says_something) {
        return Err(format!(
            "with `{level}` Causeway logs nothing, not even its own errors: write {KNOWN}"
        ));
    }
    // Of the crate itself: what is asked for of a module in it may be asked for of none.
    match OURS.into_iter().find(|krate| !says_something(krate)) {
        Some(krate) => Err(format!(
            "with `{level}` nothing is logged as `{krate}`, not even its errors: write {KNOWN}"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{OURS, check};

    #[test]
    fn what_logs_nothing_of_ours_is_no_level() {
        for good in [
            "info",
            "info,",
            "warn,causeway_bridge=debug",
            "5",
            "causeway=debug",
            "warn,causeway_store::db=trace",
            "off,causeway=error,causeway_bridge::services=warn",
            "info,hyper=off,nonsense=5",
            "info,[request]=trace",
            "error,causeway_bridge[request{path=/x}]=trace",
        ] {
            check(good).unwrap();
        }
        for (wrong, said) in [
            ("loud", "`loud` is no level"),
            ("nonsense=5,", "with `nonsense=5,` Causeway logs nothing"),
            ("", "`` is no level"),
            ("nonsense=5", "with `nonsense=5` Causeway logs nothing, not even its own errors: "),
            ("off", "with `off` Causeway logs nothing"),
            (
                "off,causeway_bridge::nosuch=debug",
                "with `off,causeway_bridge::nosuch=debug` Causeway logs nothing",
            ),
            ("causeway_store::db=trace", "with `causeway_store::db=trace` Causeway logs nothing"),
            (
                "info,causeway_server=off",
                "with `info,causeway_server=off` nothing is logged as `causeway_server`, not even",
            ),
            ("causeway_bridge=debug", "with `causeway_bridge=debug` nothing is logged as"),
            ("0", "with `0` Causeway logs nothing"),
            ("info,causeway=off", "with `info,causeway=off` Causeway logs nothing"),
            ("hyper=debug,sqlx=warn", "with `hyper=debug,sqlx=warn` Causeway logs nothing"),
            ("[request]=trace", "with `[request]=trace` Causeway logs nothing"),
            (
                "info,causeway_brigde=debug",
                "nothing is logged as `causeway_brigde`; did you mean `causeway_bridge`?",
            ),
            (
                "causeway-server::http=debug",
                "nothing is logged as `causeway-server::http`; did you mean `causeway_server`?",
            ),
        ] {
            let error = check(wrong).expect_err(wrong);
            assert!(error.starts_with(said), "{wrong}: {error}");
        }
    }

    #[test]
    fn each_of_our_crates_that_logs_is_known() {
        fn logs(path: &Path) -> bool {
            let mut entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
            entries.any(|path| {
                if path.is_file() {
                    fs::read_to_string(&path).unwrap().contains("tracing::")
                } else {
                    logs(&path)
                }
            })
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (name, folder) in [
            ("causeway_bridge", "bridge"),
            ("causeway_server", "homeserver-ext/server"),
            ("causeway_groups", "homeserver-ext/groups"),
            ("causeway_store", "homeserver-ext/store"),
            ("causeway_protocol", "homeserver-ext/protocol"),
        ] {
            assert_eq!(logs(&root.join(folder).join("src")), OURS.contains(&name), "{name}");
        }
    }
}
