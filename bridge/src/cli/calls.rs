//! `causeway calls`: the calls that run in native groups, and what an operator does about them.

use std::fmt::Write as _;

use causeway_bridge::{clock, config::Config};
use causeway_groups::cli::local_time;
use causeway_protocol::ids::{CallId, DeviceId, Timestamp};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{
    ConfigArgs, Failure, Output,
    operator::{Admin, runtime},
};

/// What `calls` does.
#[derive(Subcommand)]
pub(super) enum Calls {
    /// Lists the calls that run: where, since when, how many take part, and what carries them.
    List {
        #[command(flatten)]
        config: ConfigArgs,
        /// Begin behind this number: `next` of the page before.
        #[arg(long, value_name = "NUMBER")]
        after: Option<u64>,
        /// How many at most, 1 to 1,000.
        #[arg(long, default_value_t = 100, value_name = "N",
              value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// Shows one that runs: who takes part, by which device, and how each stands.
    Show(One),
    /// Has LiveKit carry a call until it is moved back, or its devices themselves.
    Move {
        #[command(flatten)]
        one: One,
        /// What is to carry it.
        #[arg(long, value_enum)]
        to: Carrier,
    },
    /// Takes a device out of a call. A native one may come back; one of Matrix not for ten minutes.
    Kick(Whom),
    /// Mutes what a device sends through LiveKit; it may unmute itself.
    ///
    /// What devices send to each other nobody else can mute.
    Mute(Whom),
    /// Ends a call for everybody in it.
    End(One),
}

/// One call.
#[derive(Args)]
pub(super) struct One {
    #[command(flatten)]
    config: ConfigArgs,
    /// Its id, as `causeway calls list` has it
    #[arg(value_name = "CALL")]
    call: CallId,
}

/// One device in a call.
#[derive(Args)]
pub(super) struct Whom {
    #[command(flatten)]
    one: One,
    /// Its id, as `causeway calls show` has it; of one of Matrix `@mia:example.org:PHONE`
    #[arg(value_name = "DEVICE", value_parser = Device::of)]
    device: Device,
}

/// A device, as the admin API is asked about it.
#[derive(Clone)]
struct Device {
    key: &'static str,
    id: String,
}

impl Device {
    fn of(text: &str) -> Result<Self, String> {
        if text.starts_with('@') {
            return Ok(Self { key: "guest", id: text.to_owned() });
        }
        let device: DeviceId = text.parse().map_err(|_| {
            "it is neither a device's id nor a Matrix user's device, @mia:example.org:PHONE"
                .to_owned()
        })?;
        Ok(Self { key: "device", id: device.to_string() })
    }
}

/// What may carry a call.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Carrier {
    /// LiveKit
    Sfu,
    /// Its devices themselves, where these are few enough
    Mesh,
}

impl Carrier {
    const fn word(self) -> &'static str {
        match self {
            Self::Sfu => "sfu",
            Self::Mesh => "mesh",
        }
    }
}

impl Calls {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        match self {
            Self::List { config, after, limit } => list(&config.load()?, after, limit, output),
            Self::Show(one) => one.show(output),
            Self::Move { one, to } => {
                let said = match to {
                    Carrier::Sfu => "The call is on its way to LiveKit.",
                    Carrier::Mesh => "The call is on its way back to its devices.",
                };
                one.have("move", Some(("to", to.word().to_owned())), said, output)
            }
            Self::Kick(whom) => whom.have("kick", "The device is out of the call.", output),
            Self::Mute(whom) => whom.have("mute", "The device is muted, until it is not.", output),
            Self::End(one) => one.have("end", None, "The call is over for everybody.", output),
        }
    }
}

impl One {
    fn show(&self, output: Output) -> Result<(), Failure> {
        let admin = Admin::of(&self.config.load()?)?;
        let path = format!("/calls/{}", self.call);
        let call: Value = runtime()?.block_on(admin.get(&path, &[]))?;
        output.show(&in_full(&call, clock::now()), &call)
    }

    fn have(
        &self,
        doing: &str,
        with: Option<(&'static str, String)>,
        said: &str,
        output: Output,
    ) -> Result<(), Failure> {
        let admin = Admin::of(&self.config.load()?)?;
        let path = format!("/calls/{}/{doing}", self.call);
        let query: Vec<_> = with.into_iter().collect();
        runtime()?.block_on(admin.done(&path, &query))?;
        let mut json = json!({"done": doing, "call": self.call});
        for (key, value) in query {
            if let Some(json) = json.as_object_mut() {
                json.insert(key.to_owned(), value.into());
            }
        }
        output.show(said, &json)
    }
}

impl Whom {
    fn have(&self, doing: &str, said: &str, output: Output) -> Result<(), Failure> {
        self.one.have(doing, Some((self.device.key, self.device.id.clone())), said, output)
    }
}

fn list(config: &Config, after: Option<u64>, limit: u32, output: Output) -> Result<(), Failure> {
    let admin = Admin::of(config)?;
    let after = after.map(|after| ("after", after.to_string()));
    let query: Vec<_> = after.into_iter().chain([("limit", limit.to_string())]).collect();
    let page: Value = runtime()?.block_on(admin.get("/calls", &query))?;
    let calls = page.get("calls").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut text = String::new();
    for call in calls {
        let _ = writeln!(
            text,
            "{}  {:<12} {:>3} in it, {} lost; {} by {}, in {}",
            word(call, "call"),
            word(call, "topology"),
            count(call, "participants"),
            count(call, "lost"),
            time(call, "started_ms"),
            word(call, "started_by"),
            word(call, "group"),
        );
    }
    if calls.is_empty() {
        text.push_str("No call runs.");
    }
    if let Some(next) = page.get("next") {
        let _ = write!(text, "More with --after {next}");
    }
    output.show(&text, &page)
}

/// One call, for people.
fn in_full(call: &Value, now: Timestamp) -> String {
    let by = match word(call, "topology") {
        "mesh" => "each talks to each",
        "prepare" | "dual" => "on its way to LiveKit",
        "sfu" => "carried by LiveKit",
        "shrink" => "on its way back from LiveKit",
        "reconnecting" => "LiveKit is away",
        other => other,
    };
    let since = call.get("started_ms").and_then(Value::as_u64).map(Timestamp);
    let since = since.map(|at| local_time(at, now)).unwrap_or_default();
    let starter = call.get("started_by").map_or("", |by| word(by, "account"));
    let mut text = format!(
        "{}\n  in {}\n  begun {since} by {starter}; {by}, step {}\n",
        word(call, "call"),
        word(call, "group"),
        count(call, "epoch"),
    );
    let those = call.get("participants").and_then(Value::as_array);
    for it in those.map_or(&[][..], Vec::as_slice) {
        let is_matrix = word(it, "via") == "matrix";
        let is = |key: &str| it.get(key).and_then(Value::as_bool).unwrap_or_default();
        let connected = it.get("connected").and_then(Value::as_array).map_or(0, Vec::len);
        let _ = writeln!(
            text,
            "  {}  {}: {connected} connected{}{}{}",
            if is_matrix {
                format!("{}:{}", word(it, "mirror"), word(it, "device"))
            } else {
                word(it, "device").to_owned()
            },
            if is_matrix { word(it, "name") } else { word(it, "account") },
            if is("muted") { ", muted" } else { "" },
            if is("hand") { ", hand up" } else { "" },
            if is("lost") { ", lost" } else { "" },
        );
    }
    text
}

fn word<'a>(of: &'a Value, key: &str) -> &'a str {
    of.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn count(of: &Value, key: &str) -> u64 {
    of.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn time(of: &Value, key: &str) -> String {
    let at = of.get(key).and_then(Value::as_u64).map(Timestamp);
    at.map(|at| local_time(at, clock::now())).unwrap_or_default()
}
