//! Checks files of test vectors against this implementation: derives, seals where nonce and salt
//! are given, opens, and refuses what is to be refused for the reason given.
//!
//! `cargo run -q -p causeway-groups --example check_vectors -- FILE…`
//!
//! One line for each file, `FILE: N checked, 0 failed`; exit code 1 on any failure, on a file in
//! which nothing was checked, and where a section's subject is not built yet.

mod accounts;
mod chains;
mod fanouts;
mod histories;
mod invites;
mod judged;
mod linear;
mod opus;
mod ren;
mod report;
mod secirc;
mod shared;
mod travels;

use std::path::Path;

use report::{Failure, Fields as _, Report, Vectors};
use serde_json::Value;

#[cfg(not(test))]
fn main() -> std::process::ExitCode {
    let files: Vec<_> = std::env::args_os().skip(1).collect();
    let (mut lines, mut right) = (Vec::new(), !files.is_empty());
    for file in &files {
        let report = check(Path::new(file));
        right &= report.is_right();
        lines.extend(report.lines());
    }
    if files.is_empty() {
        lines.push("usage: check_vectors FILE…".to_owned());
    }
    println!("{}", lines.join("\n"));
    if right { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

/// Checks one file, of whichever shape it is.
pub(crate) fn check(path: &Path) -> Report {
    let mut report = Report::new(path);
    match read(path) {
        Ok(file)
            if file.get("format").is_some_and(|format| format == "causeway/native-vectors/2") =>
        {
            native(&mut report, &file);
        }
        Ok(file)
            if file.get("roster").is_some_and(Value::is_object)
                && file.get("chains").is_some_and(Value::is_array) =>
        {
            chains::published(&mut report, &file);
        }
        Ok(file) if file.get("master_secret_derivation").is_some() => {
            opus::published(&mut report, &file);
        }
        Ok(file) if file.get("messages_B").is_some() => ren::published(&mut report, &file),
        Ok(file) if file.get("rotation_script").is_some() => {
            secirc::published(&mut report, &file);
        }
        Ok(Value::Object(file)) if !file.is_empty() => {
            report.skip_unknown(&Value::Object(file), &[]);
        }
        Ok(_) => report.failed("file", &Failure("no vectors of a known shape".to_owned())),
        Err(failure) => report.failed("file", &failure),
    }
    report
}

fn read(path: &Path) -> Result<Value, Failure> {
    let text = std::fs::read(path)?;
    Ok(serde_json::from_slice(&text)?)
}

/// `native.json`: everything of the protocol but the chains.
fn native(report: &mut Report, file: &Value) {
    let vectors = Vectors(file);
    report.section("people", || file.items("people"), |person| accounts::person(person));
    report.section("accounts", || file["accounts"].items("items"), |item| accounts::account(item));
    report.section(
        "safety numbers",
        || file["accounts"].items("safety_numbers"),
        |item| accounts::safety_number(item),
    );
    report.section("ops", || histories::ops(file), histories::op);
    report.section(
        "op_negatives",
        || file["op_negatives"].items("items"),
        |item| histories::negative(file, item),
    );
    report.section(
        "op size limit",
        || file["op_negatives"].items("size_limit"),
        |item| histories::size_limit(file, item),
    );
    report.section(
        "second_histories",
        || histories::orders(file),
        |order| histories::second(file, order),
    );
    report.section(
        "same op",
        || file["second_histories"].items("same_op"),
        |item| histories::same_op(file, item),
    );
    report.section("invites", || file["invites"].items("items"), |item| invites::invite(item));
    report.section(
        "links",
        || file["invites"].items("link_cases"),
        |case| invites::link(file, case),
    );
    report.section(
        "joins",
        || file["invites"].items("join_cases"),
        |case| invites::join(file, case),
    );
    report.section(
        "admissions",
        || file["invites"].items("admission_cases"),
        |case| invites::admission(file, case),
    );
    report.section(
        "envelopes",
        || file["envelopes"].items("items"),
        |item| travels::envelope(item),
    );
    report.section(
        "submissions",
        || file["envelopes"].items("submissions"),
        |item| travels::submission(file, item),
    );
    report.section(
        "plaintexts",
        || file["plaintexts"].items("items"),
        |item| travels::plaintext(item),
    );
    report.section(
        "olm_plaintexts",
        || file["olm_plaintexts"].items("items"),
        |item| travels::olm_plaintext(&file["olm_plaintexts"], item),
    );
    report.section(
        "distribution_cases",
        || file["distribution_cases"].items("items"),
        |case| judged::distribution(&vectors, case),
    );
    report.section(
        "receive_rules",
        || judged::rows(file),
        |(table, row)| judged::row(&vectors, table, row),
    );
    report.section("fanout", || file["fanout"].items("items"), |item| fanouts::item(item));
    report.section(
        "fanout cases",
        || file["fanout"].items("cases"),
        |case| fanouts::case(&vectors, case),
    );
    shared_keys(report, &vectors);
    report.skip_unknown(file, NATIVE);
}

fn shared_keys(report: &mut Report, vectors: &Vectors<'_>) {
    let file = vectors.0;
    report.section("shared_key", || file["shared_key"].items("keys"), |item| shared::key(item));
    report.section(
        "shared_key cases",
        || file["shared_key"].items("cases"),
        |case| shared::case(vectors, case),
    );
    report.section(
        "shared_key replay_window",
        || Ok(vec![file.field("shared_key")?.field("replay_window")?]),
        |_| shared::replay_window(file),
    );
    report.section(
        "k_cases",
        || file["k_cases"].items("items"),
        |case| shared::given(vectors, case),
    );
    report.section(
        "k_cases send_choice",
        || file["k_cases"].items("send_choice"),
        |case| shared::send_choice(case),
    );
    report.section(
        "k_cases new_key",
        || file["k_cases"].items("new_key"),
        |case| shared::new_key(file, case),
    );
}

/// Sections of `native.json` that are checked, and what stands in those that are objects.
const NATIVE: &[(&str, &[&str])] = &[
    ("people", &[]),
    ("accounts", &["items", "safety_numbers"]),
    ("ops", &["groups"]),
    ("op_negatives", &["histories", "items", "size_limit"]),
    ("second_histories", &["histories", "items", "same_op"]),
    ("invites", &["history", "items", "records", "link_cases", "join_cases", "admission_cases"]),
    ("envelopes", &["items", "submissions"]),
    ("plaintexts", &["items"]),
    ("olm_plaintexts", &["history", "shared_history", "items"]),
    ("distribution_cases", &["history", "recipient", "items"]),
    ("fanout", &["history", "items", "cases"]),
    ("shared_key", &["histories", "keys", "cases", "replay_window"]),
    ("k_cases", &["history", "recipient", "items", "send_choice", "new_key"]),
    ("receive_rules", &["history", "op_seq", "recipient", "roster_hashes", "rows", "more"]),
];
