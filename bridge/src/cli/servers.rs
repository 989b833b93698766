//! `causeway servers`: the other servers with which groups are shared.

use std::fmt::Write as _;

use anyhow::anyhow;
use causeway_bridge::{clock, config::Config};
use causeway_groups::cli::local_time;
use causeway_protocol::ids::{GroupId, Timestamp, is_server_name};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    ConfigArgs, Failure, Output,
    operator::{Admin, runtime},
};

/// What `servers` does.
#[derive(Subcommand)]
pub(super) enum Servers {
    /// Lists the other servers that something is known of, and how the links with them stand.
    List {
        #[command(flatten)]
        config: ConfigArgs,
        /// Begin behind this name.
        #[arg(long, value_name = "SERVER")]
        after: Option<String>,
        /// How many at most, 1 to 1,000.
        #[arg(long, default_value_t = 100, value_name = "N",
              value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// Shows one: its state, what waits for it, what was wrong with it, and what is shared with it.
    Show {
        #[command(flatten)]
        one: One,
        /// Begin the relay rooms behind this group.
        #[arg(long, value_name = "GROUP", allow_hyphen_values = true)]
        after: Option<GroupId>,
        /// How many relay rooms at most, 1 to 1,000.
        #[arg(long, default_value_t = 100, value_name = "N",
              value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// Lets nothing pass to and from it until `resume`, also after a restart.
    ///
    /// What is for it waits for as long as its group keeps it; who asks for its people is told.
    Pause(One),
    /// Lets it pass again.
    Resume(One),
    /// Begins the link with it anew, as a restart does: what it has not taken goes again at once, and it
    /// is listened to again where too much of what it sent made no sense.
    Reset(One),
    /// Asks it something small over the way that everything takes, and shows step by step how far that came.
    ///
    /// It takes 20 s at most. Exit code 1 where it does not answer. Ask from both servers: each sees its own half.
    Ping(One),
}

/// One server.
#[derive(Args)]
pub(super) struct One {
    #[command(flatten)]
    config: ConfigArgs,
    /// Its name, as it stands in its accounts
    #[arg(value_name = "SERVER", value_parser = server_name)]
    name: String,
}

fn server_name(text: &str) -> Result<String, String> {
    let small = text.to_ascii_lowercase();
    if is_server_name(text) {
        Ok(text.to_owned())
    } else if is_server_name(&small) {
        Err(format!("names of servers are in lower case: {small}"))
    } else {
        Err("that is no name of a server, like b.example or b.example:8448".to_owned())
    }
}

impl Servers {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        match self {
            Self::List { config, after, limit } => list(&config.load()?, after, limit, output),
            Self::Show { one, after, limit } => {
                let after = after.map(|after| ("after", after.to_string()));
                let page: Vec<_> =
                    after.into_iter().chain([("limit", limit.to_string())]).collect();
                one.ask(async |admin, path| admin.get(path, &page).await, output)
            }
            Self::Pause(one) => one.has("pause", output),
            Self::Resume(one) => one.has("resume", output),
            Self::Reset(one) => one.has("reset", output),
            Self::Ping(one) => one.ping(output),
        }
    }
}

impl One {
    /// Has something done about it.
    fn has(&self, done: &str, output: Output) -> Result<(), Failure> {
        self.ask(async |admin, path| admin.post(&format!("{path}/{done}")).await, output)
    }

    fn ping(&self, output: Output) -> Result<(), Failure> {
        let admin = Admin::of(&self.config.load()?)?;
        let (mut ping, health) = runtime()?.block_on(async {
            let ping: Value = admin.post(&format!("/servers/{}/ping", self.name)).await?;
            // What only the Matrix side knows of the way.
            let health: Value = admin.get("/health", &[]).await.unwrap_or_default();
            Ok::<_, anyhow::Error>((ping, health))
        })?;
        let is_answered = ping.get("answered").and_then(Value::as_bool).unwrap_or_default();
        let troubles: Vec<Value> = on_the_way(&health).cloned().collect();
        if let Some(ping) = ping.as_object_mut().filter(|_| !is_answered) {
            ping.insert("troubles".to_owned(), troubles.into());
        }
        output.show(&steps(&ping, clock::now()), &ping)?;
        if is_answered {
            return Ok(());
        }
        Err(anyhow!("{} does not answer", self.name).into())
    }

    fn ask(
        &self,
        asking: impl AsyncFnOnce(&Admin, &str) -> anyhow::Result<Value>,
        output: Output,
    ) -> Result<(), Failure> {
        let admin = Admin::of(&self.config.load()?)?;
        let path = format!("/servers/{}", self.name);
        let server = runtime()?.block_on(asking(&admin, &path))?;
        output.show(&in_full(&server, clock::now()), &server)
    }
}

fn list(config: &Config, after: Option<String>, limit: u32, output: Output) -> Result<(), Failure> {
    let admin = Admin::of(config)?;
    let after = after.map(|after| ("after", after));
    let query: Vec<_> = after.into_iter().chain([("limit", limit.to_string())]).collect();
    let page: Value = runtime()?.block_on(admin.get("/servers", &query))?;
    let servers = page.get("servers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut text = String::new();
    for server in servers {
        let heard = time(server, "heard_ms").map_or_else(
            || "nothing was heard of it".to_owned(),
            |heard| format!("heard {}", local_time(heard, clock::now())),
        );
        let _ = writeln!(
            text,
            "{:<32} {:<7} {:<25} {heard}; {} waiting",
            word(server, "name"),
            word(server, "state"),
            was_refused(server),
            count(server, "waiting")
        );
    }
    if servers.is_empty() {
        text.push_str("No other server is known.");
    }
    if let Some(next) = page.get("next").and_then(Value::as_str) {
        let _ = write!(text, "More with --after {next}");
    }
    output.show(&text, &page)
}

/// What of it was not taken, as it stands in a list.
fn was_refused(server: &Value) -> String {
    let all = [("refused", "refused"), ("limited", "limited"), ("malformed", "senseless")];
    let all = all.map(|(key, word)| (count(server, key), word));
    let all = all.iter().filter(|(count, _)| *count > 0);
    let all: Vec<_> = all.map(|(count, word)| format!("{count} {word}")).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}

/// What stands between this server and its homeserver.
fn on_the_way(health: &Value) -> impl Iterator<Item = &Value> {
    let troubles = health.get("troubles").and_then(Value::as_array).into_iter().flatten();
    troubles.filter(|trouble| matches!(word(trouble, "kind"), "agent" | "homeserver" | "native"))
}

/// How far a ping came, for people.
fn steps(ping: &Value, now: Timestamp) -> String {
    let mut text = String::new();
    for step in ping.get("steps").and_then(Value::as_array).into_iter().flatten() {
        let outcome = match word(step, "outcome") {
            "ok" => "ok",
            "failed" => "FAIL",
            _ => "-",
        };
        let _ = writeln!(text, "{outcome:<5} {:<9} {}", word(step, "step"), word(step, "what"));
    }
    for trouble in ping.get("troubles").and_then(Value::as_array).into_iter().flatten() {
        let since = time(trouble, "since").map(|at| local_time(at, now)).unwrap_or_default();
        let (kind, why) = (word(trouble, "kind"), word(trouble, "why"));
        let _ = writeln!(text, "FAIL  {kind:<9} since {since}: {why}");
    }
    text
}

/// All that is known of one, for people.
fn in_full(server: &Value, now: Timestamp) -> String {
    let state = match word(server, "state") {
        "open" => "open: what is for it is taken",
        "silent" => "silent: something has waited for it for more than a minute",
        "paused" => "paused: nothing passes until `causeway servers resume`",
        "denied" => "denied: native.servers in the configuration does not let it be spoken with",
        "shut" => {
            "shut out: too much of what it sent made no sense; `causeway servers reset` listens again"
        }
        other => other,
    };
    let mut text = format!("{}\n  {state}\n", word(server, "name"));
    let since = |key: &str| time(server, key).map(|at| local_time(at, now));
    let rows = [
        ("heard", since("heard_ms")),
        ("paused", since("paused_ms")),
        ("waits since", since("waits_since_ms")),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            let _ = writeln!(text, "  {name:<12} {value}");
        }
    }
    let _ = writeln!(
        text,
        "  {:<12} {} on their way, {} messages to single devices stored",
        "waiting",
        count(server, "waiting"),
        count(server, "rows")
    );
    let _ = writeln!(
        text,
        "  {:<12} {} groups, {} devices there",
        "shared",
        count(server, "groups"),
        count(server, "devices")
    );
    let _ = writeln!(
        text,
        "  {:<12} {} without sense, {} refused, {} times at a limit",
        "of what came",
        count(server, "malformed"),
        count(server, "refused"),
        count(server, "limited")
    );
    let kept = count(server, "kept_bytes").div_ceil(1_024);
    let gaps = count(server, "gaps");
    let gaps =
        if gaps > 0 { format!("; {gaps} times more was lost than is kept") } else { String::new() };
    let _ = writeln!(text, "  {:<12} {kept} KiB of what it took, to give again{gaps}", "kept");
    for room in server.get("relay_rooms").and_then(Value::as_array).into_iter().flatten() {
        let is = |key: &str| room.get(key).and_then(Value::as_bool).unwrap_or_default();
        let how = match (is("in_room"), is("by_room")) {
            (true, true) => "messages go by it",
            (true, false) => "it missed some; messages go by the link",
            (false, _) => "it is not there; messages go by the link",
        };
        let (of, group) = (word(room, "room"), word(room, "group"));
        let _ = writeln!(text, "  {:<12} {of} of group {group}: {how}", "room");
    }
    if let Some(next) = server.get("next").and_then(Value::as_str) {
        let _ = writeln!(text, "  {:<12} more with --after {next}", "");
    }
    if let Some(last) = server.get("last_error") {
        let at = time(last, "at_ms").map(|at| local_time(at, now)).unwrap_or_default();
        let _ = writeln!(text, "  {:<12} {at}: {}", "last wrong", word(last, "why"));
    }
    text
}

fn word<'a>(of: &'a Value, key: &str) -> &'a str {
    of.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn count(of: &Value, key: &str) -> u64 {
    of.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn time(of: &Value, key: &str) -> Option<Timestamp> {
    Some(Timestamp(of.get(key)?.as_u64()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_in_lower_case_and_who_writes_another_is_told() {
        assert_eq!(server_name("b.example:8448").as_deref(), Ok("b.example:8448"));
        let told = server_name("B.Example").unwrap_err();
        assert!(told.contains("lower case: b.example"), "{told}");
        assert!(server_name("b_example").unwrap_err().contains("no name of a server"));
    }

    #[test]
    fn a_list_says_what_was_not_taken() {
        for (server, expected) in [
            (json!({"refused": 0, "limited": 0, "malformed": 0}), "-"),
            (json!({"refused": 3, "limited": 0}), "3 refused"),
            (
                json!({"refused": 3, "limited": 2, "malformed": 1}),
                "3 refused, 2 limited, 1 senseless",
            ),
        ] {
            assert_eq!(was_refused(&server), expected, "{server}");
        }
    }

    #[test]
    fn a_ping_is_shown_step_by_step_with_what_stands_on_the_way() {
        let health = json!({"troubles": [
            {"kind": "agent", "name": "send", "since": 0, "why": "refused"},
            {"kind": "room", "name": "!r:a.example", "since": 0, "why": "no"},
        ]});
        let troubles: Vec<_> = on_the_way(&health).collect();
        assert_eq!(troubles.len(), 1);
        let ping = json!({
            "steps": [
                {"step": "allowed", "outcome": "ok", "what": "yes"},
                {"step": "agent", "outcome": "failed", "what": "nobody fetched it"},
                {"step": "taken", "outcome": "unknown", "what": "not come to"},
            ],
            "troubles": troubles,
        });
        let shown = steps(&ping, Timestamp(0));
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "ok    allowed   yes",
                "FAIL  agent     nobody fetched it",
                "-     taken     not come to",
            ]
        );
        assert!(lines[3].starts_with("FAIL  agent     since ") && lines[3].ends_with(": refused"));
    }
}
