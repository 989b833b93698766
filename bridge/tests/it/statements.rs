//! The SQL of the workspace, as it stands in the source.

use std::{
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Expr, Lit,
    visit::{self, Visit},
};

/// Statements in a file's string literals, on one line each; those that are built with one row or
/// one value in each list.
pub(crate) fn statements(code: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for text in literals(code) {
        if VERBS.iter().any(|verb| text.starts_with(verb)) {
            found.push(text);
        } else if let Some(last) = found.last_mut()
            && is_open(last)
        {
            if text.starts_with("ON CONFLICT ") {
                *last = format!("{} {text}", closed(std::mem::take(last)));
            } else if text.starts_with("AND ") || text.starts_with(") ") {
                *last = format!("{} {text} IN (", closed(std::mem::take(last)));
            }
        }
    }
    found.into_iter().map(closed).collect()
}

/// Files of these folders, those in their folders too.
pub(crate) fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(path.to_str().unwrap()));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// How statements begin.
const VERBS: [&str; 5] = ["SELECT ", "UPDATE ", "DELETE ", "INSERT ", "WITH "];

/// Whether rows, a value or a list are to follow.
fn is_open(statement: &str) -> bool {
    let rows = statement.starts_with("INSERT ") && statement.ends_with(')');
    rows && !statement.contains(" VALUES ") && !statement.contains(" SELECT ")
        || statement.ends_with('(')
        || statement.ends_with('=')
}

fn closed(statement: String) -> String {
    if !is_open(&statement) {
        return statement;
    }
    if statement.ends_with('(') {
        return statement + "$1)";
    }
    if statement.ends_with('=') {
        return statement + " $1";
    }
    let columns = statement.rsplit('(').next().unwrap().split(',').count();
    let row: Vec<String> = (1..=columns).map(|n| format!("${n}")).collect();
    format!("{statement} VALUES ({})", row.join(", "))
}

/// String literals in their order, on one line each.
fn literals(code: &str) -> Vec<String> {
    struct Literals(Vec<String>);
    impl Visit<'_> for Literals {
        fn visit_lit_str(&mut self, literal: &syn::LitStr) {
            self.0.push(literal.value().split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    let mut literals = Literals(Vec::new());
    literals.visit_file(&syn::parse_file(code).unwrap());
    literals.0
}

/// What is given to sqlx, or to a script, as a statement and is no literal that [`statements`] takes for one.
pub(crate) fn unseen(code: &str) -> Vec<String> {
    struct Calls(Vec<String>);
    impl Visit<'_> for Calls {
        fn visit_expr_call(&mut self, call: &syn::ExprCall) {
            if let Expr::Path(function) = &*call.func
                && let Some(first) = call.args.first()
                && takes_sql(&function.path)
                && !is_statement(first)
            {
                let path = function.path.segments.iter().map(|part| part.ident.to_string());
                self.0.push(path.collect::<Vec<_>>().join("::"));
            }
            visit::visit_expr_call(self, call);
        }

        fn visit_expr_method_call(&mut self, call: &syn::ExprMethodCall) {
            let method = call.method.to_string();
            if is_script(&call.receiver)
                && let Some(at) = SCRIPT.iter().find(|(name, _)| *name == method).map(|(_, at)| *at)
                && !call.args.iter().nth(at).is_some_and(is_statement)
            {
                self.0.push(format!("script.{method}"));
            }
            visit::visit_expr_method_call(self, call);
        }
    }
    let mut calls = Calls(Vec::new());
    calls.visit_file(&syn::parse_file(code).unwrap());
    calls.0
}

/// Where a script's methods take a statement.
const SCRIPT: [(&str, usize); 4] = [("add", 0), ("add_list", 0), ("add_list_of", 0), ("insert", 0)];

fn is_script(receiver: &Expr) -> bool {
    matches!(receiver, Expr::Path(path) if path.path.is_ident("script"))
}

fn takes_sql(path: &syn::Path) -> bool {
    let part = |n: usize| path.segments.iter().nth_back(n).map(|part| part.ident.to_string());
    match (part(1).as_deref(), part(0).as_deref()) {
        (Some("sqlx"), Some(name)) => name.starts_with("query") || name == "raw_sql",
        (Some("QueryBuilder"), Some(name)) => name == "new" || name == "with_arguments",
        _ => false,
    }
}

fn is_statement(argument: &Expr) -> bool {
    let Expr::Lit(literal) = argument else { return false };
    let Lit::Str(text) = &literal.lit else { return false };
    VERBS.iter().any(|verb| text.value().starts_with(verb))
}

#[test]
fn statements_are_read_as_they_are_run() {
    let code = r#"fn f() {
        sqlx::query("SELECT a
             FROM b WHERE c IN (");
        QueryBuilder::<Engine>::new("INSERT INTO t (a, b) ").push(" ON CONFLICT DO NOTHING");
        sqlx::query("DELETE FROM t"); g("ON CONFLICT is no more of it");
        many("SELECT a FROM t WHERE b =", " AND c");
        QueryBuilder::new(head);
        sqlx::raw_sql("VACUUM"); script.add("SELECT a FROM u").bind(b); script.add(head);
        script.insert(conn, head); other.add(head);
    }"#;
    assert_eq!(
        statements(code),
        [
            "SELECT a FROM b WHERE c IN ($1)",
            "INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            "DELETE FROM t",
            "SELECT a FROM t WHERE b = $1 AND c IN ($1)",
            "SELECT a FROM u",
        ]
    );
    assert_eq!(unseen(code), ["QueryBuilder::new", "sqlx::raw_sql", "script.add", "script.insert"]);
}
