//! PostgreSQL comes later, and no statement waits for it: each is written for both engines.
//!
//! The parser knows PostgreSQL's grammar, and more than that; what PostgreSQL refuses beyond it is
//! looked for by name. Types are not inferred, so this is less than a `PREPARE`, which needs a
//! server. Migrations are each engine's own.

use std::{collections::BTreeSet, fs, ops::ControlFlow};

use sqlparser::{
    ast::{
        Assignment, AssignmentTarget, BinaryOperator, Expr, FunctionArg, FunctionArgExpr,
        FunctionArguments, Ident, Insert, LimitClause, OnConflictAction, OnInsert, Query, SetExpr,
        Statement, TableFactor, UnaryOperator, Value, ValueWithSpan, Visit as _, Visitor,
    },
    dialect::{PostgreSqlDialect, SQLiteDialect},
    parser::Parser,
    tokenizer::{Token, Tokenizer},
};

use crate::statements::{files, statements, unseen};

/// Where statements stand, and the migrations of their tables.
const FOLDERS: [(&str, &str); 3] = [
    ("src/storage", "../migrations/bridge/sqlite"),
    ("../homeserver-ext/groups/src/storage", "../migrations/client/sqlite"),
    ("../homeserver-ext/server/src/storage", "../migrations/server/sqlite"),
];

/// Columns that say yes or no: integers to SQLite, whatever they are called there, and BOOLEAN to
/// PostgreSQL, where they neither are nor become numbers.
const FLAGS: [&str; 27] = [
    "acked",
    "closed",
    "encrypted",
    "failed",
    "fallback",
    "fetch_requests",
    "has_left",
    "is_given",
    "is_level",
    "is_opened",
    "is_seen",
    "is_used",
    "joined",
    "listed",
    "made_here",
    "named",
    "owed",
    "own",
    "present",
    "ready",
    "replaces",
    "replayed",
    "retired",
    "revoked",
    "rotate",
    "told_again",
    "wedged",
];

/// Functions that both engines have, with at least and at most so many arguments.
const FUNCTIONS: [(&str, usize, usize); 7] = [
    ("coalesce", 2, usize::MAX),
    ("count", 1, 1),
    ("length", 1, 1),
    ("max", 1, 1),
    ("min", 1, 1),
    ("row_number", 0, 0),
    ("sum", 1, 1),
];

/// What a statement says that PostgreSQL refuses, and why it stays: docs/decisions.md.
const LEFT: [(&str, &str, &str); 2] = [
    (
        "DELETE FROM held_chains WHERE group_id",
        "rowid",
        "says which of two chains of one millisecond came later; an identity column of that name",
    ),
    ("DELETE FROM held_chains WHERE at_ms", "rowid", "as before"),
];

/// Statements that are built of what their callers give, where each caller's is seen.
const BUILT: [(&str, usize); 1] = [("many.rs", 3)];

#[test]
fn every_statement_is_one_for_postgresql_too() {
    let (mut seen, mut refused, mut left) = (0, Vec::new(), BTreeSet::new());
    for (folder, migrations) in FOLDERS {
        let blobs = columns(migrations, "BLOB");
        for file in files(folder) {
            for statement in statements(&fs::read_to_string(&file).unwrap()) {
                seen += 1;
                for complaint in complaints(&statement, &blobs) {
                    let known = LEFT.iter().position(|(begins, says, _)| {
                        statement.starts_with(begins) && complaint.contains(says)
                    });
                    match known {
                        Some(known) => drop(left.insert(known)),
                        None => {
                            refused.push(format!("{}: {complaint}: {statement}", file.display()));
                        }
                    }
                }
            }
        }
    }
    assert!(seen > 270, "only {seen} statements were found");
    assert!(refused.is_empty(), "PostgreSQL refuses these: {refused:#?}");
    assert_eq!(left.len(), LEFT.len(), "some of what was left is mended: {left:?}");
}

#[test]
fn no_statement_is_hidden_from_this() {
    for file in FOLDERS.iter().flat_map(|(folder, _)| files(folder)) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let built = BUILT.iter().find(|(file, _)| *file == name).map_or(0, |(_, count)| *count);
        let unseen = unseen(&fs::read_to_string(&file).unwrap());
        assert_eq!(unseen.len(), built, "{}: {unseen:?}", file.display());
    }
}

#[test]
fn flags_are_columns_of_numbers_or_booleans() {
    let of = |kind| FOLDERS.iter().flat_map(|(_, m)| columns(m, kind)).collect::<BTreeSet<_>>();
    let (integers, booleans) = (&of("INTEGER") | &of("BIGINT"), of("BOOLEAN"));
    for flag in FLAGS {
        assert!(integers.contains(flag) || booleans.contains(flag), "{flag}");
    }
    for boolean in booleans {
        assert!(FLAGS.contains(&boolean.as_str()), "{boolean}");
    }
}

#[test]
fn what_postgresql_refuses_is_found() {
    let blobs = BTreeSet::from(["key".to_owned()]);
    for (statement, complaint) in [
        ("SELECT a FROM", "sql parser error"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("SELECT a FROM t ORDER BY ROWID", "rowid"),
        ("SELECT a FROM t WHERE b = ?", "?"),
        ("SELECT a FROM t WHERE b == 1", "=="),
        ("SELECT a FROM t WHERE ($1 IS NULL OR b = $1)", "$1 has no type"),
        ("SELECT a FROM t WHERE b = substr($1, 1, 4)", "$1 has no type"),
        ("UPDATE t SET b = x''", "x''"),
        ("UPDATE t SET b = max(b, $1)", "max with 2"),
        ("SELECT max(key) FROM t", "max of bytes"),
        ("SELECT ifnull(a, b) FROM t", "ifnull"),
        ("DELETE FROM t WHERE changes() = 1", "changes"),
        ("SELECT a FROM (SELECT a FROM t) WHERE a = 1", "without a name"),
        ("SELECT a FROM t LIMIT -1", "LIMIT -1"),
        ("SELECT a FROM t LIMIT 1, 2", "sql parser error"),
        ("INSERT OR IGNORE INTO t (a) VALUES (1)", "INSERT OR"),
        ("REPLACE INTO t (a) VALUES (1)", "REPLACE"),
        ("UPDATE OR IGNORE t SET a = 1", "UPDATE OR"),
        ("SELECT a FROM t WHERE joined = 1", "joined = 1"),
        ("SELECT a FROM t WHERE 0 <> t.joined", "0 <> t.joined"),
        ("SELECT a FROM t WHERE b = TRUE", "b = true"),
        ("SELECT a FROM t WHERE a = 1 AND b", "b is no condition"),
        ("SELECT a FROM t WHERE b", "b is no condition"),
        ("UPDATE t SET joined = 1", "joined = 1"),
        ("UPDATE t SET suspect = EXISTS (SELECT 1 FROM t)", "suspect = EXISTS"),
        ("INSERT INTO t (a, joined) VALUES (1, 0)", "joined = 0"),
        ("INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET joined = 1", "joined = 1"),
        ("INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = b + 1", "which b"),
        ("INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 1 WHERE c < 1", "which c"),
        ("INSERT INTO t (a) VALUES (1) ON CONFLICT DO UPDATE SET b = 1", "whose conflict"),
    ] {
        let found = complaints(statement, &blobs);
        assert!(found.iter().any(|found| found.contains(complaint)), "{statement}: {found:?}");
    }
    for statement in [
        "SELECT a FROM t WHERE (CAST($1 AS BIGINT) IS NULL OR b = $1) AND joined = TRUE",
        "SELECT row FROM t WHERE joined AND NOT closed AND substr(a, 1, 4) = $1 LIMIT $2",
        "UPDATE t SET joined = EXISTS (SELECT 1 FROM t), suspect = suspect + 1, a = coalesce(a, $1)",
        "INSERT INTO t (a, joined) VALUES (1, TRUE) ON CONFLICT (a) DO UPDATE SET a = excluded.a",
    ] {
        assert_eq!(complaints(statement, &blobs), Vec::<String>::new(), "{statement}");
    }
}

/// What PostgreSQL would say against a statement.
fn complaints(statement: &str, blobs: &BTreeSet<String>) -> Vec<String> {
    let dialect = PostgreSqlDialect {};
    let parsed = match Parser::parse_sql(&dialect, statement) {
        Ok(parsed) => parsed,
        Err(error) => return vec![error.to_string()],
    };
    let mut judge = Judge { blobs, found: Vec::new() };
    if parsed.len() != 1 {
        judge.found.push(format!("{} statements", parsed.len()));
    }
    let tokens = Tokenizer::new(&dialect, statement).tokenize().unwrap();
    if tokens.contains(&Token::DoubleEq) {
        judge.found.push("==".to_owned());
    }
    let _ = parsed.visit(&mut judge);
    judge.found
}

struct Judge<'a> {
    blobs: &'a BTreeSet<String>,
    found: Vec<String>,
}

impl Visitor for Judge<'_> {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        match statement {
            Statement::Insert(insert) => self.insert(insert),
            Statement::Update(update) => {
                if update.or.is_some() {
                    self.found.push("UPDATE OR".to_owned());
                }
                self.assignments(&update.assignments);
                self.condition(update.selection.as_ref());
            }
            Statement::Delete(delete) => self.condition(delete.selection.as_ref()),
            Statement::Query(_) => {}
            other => self.found.push(format!("not a statement on rows: {other}")),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(LimitClause::LimitOffset { limit: Some(limit), .. }) = &query.limit_clause
            && matches!(limit, Expr::UnaryOp { op: UnaryOperator::Minus, .. })
        {
            self.found.push(format!("LIMIT {limit}"));
        }
        if let SetExpr::Select(select) = &*query.body {
            self.condition(select.selection.as_ref());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Derived { alias: None, .. } = table {
            self.found.push("a table without a name".to_owned());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_ident(&mut self, ident: &Ident) -> ControlFlow<()> {
        if ["rowid", "_rowid_", "oid"].contains(&ident.value.to_lowercase().as_str()) {
            self.found.push(format!("{} is not a column", ident.value.to_lowercase()));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        match &value.value {
            Value::HexStringLiteral(hex) => self.found.push(format!("x'{hex}' is of bits")),
            Value::Placeholder(name) if !name.starts_with('$') => {
                self.found.push(format!("{name} is not a parameter"));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::IsNull(of) | Expr::IsNotNull(of) | Expr::Substring { expr: of, .. }
                if is_parameter(of) =>
            {
                self.found.push(format!("{of} has no type"));
            }
            Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
                self.condition(Some(left));
                self.condition(Some(right));
            }
            Expr::BinaryOp { left, op, right } => {
                let pairs = [(column(left), right), (column(right), left)];
                for (column, value) in pairs {
                    if column.is_some_and(|column| !fits(column, value)) {
                        self.found.push(format!("{left} {op} {right}"));
                    }
                }
            }
            Expr::Function(function) => {
                let name = function.name.to_string().to_lowercase();
                let arguments = match &function.args {
                    FunctionArguments::List(list) => list.args.as_slice(),
                    FunctionArguments::None | FunctionArguments::Subquery(_) => &[],
                };
                let known = FUNCTIONS.iter().any(|(function, least, most)| {
                    *function == name && (*least..=*most).contains(&arguments.len())
                });
                if !known {
                    self.found.push(format!("{name} with {} arguments", arguments.len()));
                }
                if ["max", "min"].contains(&name.as_str())
                    && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(of))] = arguments
                    && column(of).is_some_and(|column| self.blobs.contains(column))
                {
                    self.found.push(format!("{name} of bytes"));
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Judge<'_> {
    fn insert(&mut self, insert: &Insert) {
        if insert.or.is_some() {
            self.found.push("INSERT OR".to_owned());
        }
        if insert.replace_into {
            self.found.push("REPLACE".to_owned());
        }
        if let Some(SetExpr::Values(values)) = insert.source.as_ref().map(|source| &*source.body) {
            for row in &values.rows {
                for (name, value) in insert.columns.iter().zip(row.iter()) {
                    if !fits(&name.to_string(), value) {
                        self.found.push(format!("{name} = {value}"));
                    }
                }
            }
        }
        if let Some(OnInsert::OnConflict(conflict)) = &insert.on
            && let OnConflictAction::DoUpdate(update) = &conflict.action
        {
            if conflict.conflict_target.is_none() {
                self.found.push("whose conflict".to_owned());
            }
            self.assignments(&update.assignments);
            let values = update.assignments.iter().map(|assignment| &assignment.value);
            for expr in values.chain(&update.selection) {
                let mut bare = Bare(&mut self.found);
                let _ = expr.visit(&mut bare);
            }
        }
    }

    fn assignments(&mut self, assignments: &[Assignment]) {
        for Assignment { target, value } in assignments {
            let AssignmentTarget::ColumnName(name) = target else { continue };
            if !fits(&name.to_string(), value) {
                self.found.push(format!("{name} = {value}"));
            }
        }
    }

    /// A column alone is a condition only if it says yes or no.
    fn condition(&mut self, condition: Option<&Expr>) {
        if let Some(name) = condition.and_then(column).filter(|name| !FLAGS.contains(name)) {
            self.found.push(format!("{name} is no condition"));
        }
    }
}

/// Columns without their table, of which there are two after a conflict.
struct Bare<'a>(&'a mut Vec<String>);

impl Visitor for Bare<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Identifier(name) = expr {
            self.0.push(format!("which {name}"));
        }
        ControlFlow::Continue(())
    }
}

/// Whether a value may stand in or beside a column: a number not where yes or no is said, and yes or
/// no nowhere else. What is not literal is not judged.
fn fits(column: &str, value: &Expr) -> bool {
    let is_flag = FLAGS.contains(&column);
    match value {
        Expr::Value(value) => match value.value {
            Value::Number(..) => !is_flag,
            Value::Boolean(_) => is_flag,
            _ => true,
        },
        Expr::Exists { .. } => is_flag,
        _ => true,
    }
}

/// The name of the column that this is.
fn column(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Identifier(name) => Some(&name.value),
        Expr::CompoundIdentifier(names) => names.last().map(|name| name.value.as_str()),
        Expr::Nested(inner) => column(inner),
        _ => None,
    }
}

fn is_parameter(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => matches!(value.value, Value::Placeholder(_)),
        Expr::Nested(inner) => is_parameter(inner),
        _ => false,
    }
}

/// Columns of one type, in the tables of these migrations.
fn columns(migrations: &str, kind: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in files(migrations) {
        let sql = fs::read_to_string(&file).unwrap();
        for statement in Parser::parse_sql(&SQLiteDialect {}, &sql).unwrap() {
            let columns = match statement {
                Statement::CreateTable(table) => table.columns,
                Statement::AlterTable(table) => {
                    let added = |operation| match operation {
                        sqlparser::ast::AlterTableOperation::AddColumn { column_def, .. } => {
                            Some(column_def)
                        }
                        _ => None,
                    };
                    table.operations.into_iter().filter_map(added).collect()
                }
                _ => continue,
            };
            let of_kind = columns.into_iter().filter(|c| c.data_type.to_string() == kind);
            found.extend(of_kind.map(|column| column.name.value));
        }
    }
    found
}
