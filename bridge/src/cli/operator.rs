//! `causeway events` and `causeway stats`, and what asks for them: the admin API of the running process, in words.
//!
//! Nothing here opens a database: what runs is asked, over its own listener and with its own token.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use causeway_bridge::{
    clock,
    config::Config,
    init::{ADMIN_TOKEN, read_token},
};
use causeway_groups::{
    cli::{event_line, gone_line, stopped},
    sdk::{CallError, EventFeed, Followed},
};
use causeway_protocol::{
    api::{EventPage, GroupEvent},
    ids::{GroupId, Seq},
};
use clap::Args;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{ConfigArgs, Failure, Output};

/// For a connection, and for an answer that has an end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments of `events`.
#[derive(Args)]
pub(super) struct Events {
    #[command(flatten)]
    config: ConfigArgs,
    /// Of this group only, by its id.
    #[arg(long, allow_hyphen_values = true, value_name = "GROUP")]
    group: Option<GroupId>,
    /// Begin behind the event with this number; else with the oldest, and with --follow now.
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// How many at most, 1 to 1,000.
    #[arg(long, default_value_t = 100, value_name = "N", conflicts_with = "follow",
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// Go on with what happens from then on, until Ctrl-C.
    #[arg(long)]
    follow: bool,
}

/// The admin API of the process that runs with this configuration.
pub(super) struct Admin {
    client: Client,
    base: String,
    token: String,
}

impl Admin {
    pub(super) fn of(config: &Config) -> Result<Self, Failure> {
        let token = read_token(&config.data_file(ADMIN_TOKEN))?.expose().to_owned();
        let mut address = config.appservice.listen;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().connect_timeout(PATIENCE).build();
        let client = client.context("no connection can be made")?;
        Ok(Self { client, base: format!("http://{address}/_causeway/admin/v1"), token })
    }

    fn request(&self, path: &str, query: &[(&str, String)]) -> RequestBuilder {
        let request = self.client.get(format!("{}{path}", self.base));
        request.query(query).bearer_auth(&self.token)
    }

    pub(super) async fn get<A: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<A> {
        self.answered(self.request(path, query)).await
    }

    /// Has something done.
    pub(super) async fn post<A: DeserializeOwned>(&self, path: &str) -> anyhow::Result<A> {
        let request = self.client.post(format!("{}{path}", self.base)).bearer_auth(&self.token);
        self.answered(request).await
    }

    /// Has something done to which there is nothing to answer.
    pub(super) async fn done(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<()> {
        let request = self.client.post(format!("{}{path}", self.base)).query(query);
        self.taken(request.bearer_auth(&self.token)).await.map(drop)
    }

    async fn answered<A: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<A> {
        let answer = self.taken(request).await?;
        answer.json().await.context("what answers is no Causeway of this version")
    }

    /// The answer, where it is none of a refusal.
    async fn taken(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let answer = request.timeout(PATIENCE).send().await;
        let answer = answer.with_context(|| {
            format!("nobody answers at {} (appservice.listen): is Causeway running?", self.base)
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body: Value = answer.json().await.unwrap_or_default();
        let why = body.get("detail").and_then(Value::as_str).unwrap_or("no reason is given");
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => anyhow!(
                "{why}: the process that runs at {} began with another {ADMIN_TOKEN} than the one in \
                 data_dir",
                self.base
            ),
            StatusCode::NOT_FOUND if why == "no such endpoint" => anyhow!(
                "the process at {} has no native server: ask with the configuration of the one that \
                 runs it",
                self.base
            ),
            _ => anyhow!("{why} (HTTP {status} from {})", self.base),
        })
    }
}

pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("nothing can be asked")
}

impl Events {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let admin = Admin::of(&self.config.load()?)?;
        runtime()?.block_on(async {
            if self.follow {
                self.follow(&admin, output).await
            } else {
                self.page(&admin, output).await
            }
        })
    }

    fn query(&self, after: Option<u64>, limit: u32) -> Vec<(&'static str, String)> {
        let group = self.group.map(|group| ("group", group.to_string()));
        let after = after.map(|after| ("after", after.to_string()));
        group.into_iter().chain(after).chain([("limit", limit.to_string())]).collect()
    }

    async fn page(&self, admin: &Admin, output: Output) -> Result<(), Failure> {
        let page: EventPage = admin.get("/events", &self.query(self.after, self.limit)).await?;
        if let Some(gone) = page.gone {
            show_gone(gone, output)?;
        }
        page.events.iter().try_for_each(|event| show(event, output))?;
        if let Some(next) = page.next {
            let after = next.0.saturating_sub(1);
            let more = json!({"kind": "more", "after": after});
            return output.show(&format!("More with --after {after}"), &more);
        }
        if page.events.is_empty() && page.gone.is_none() && output == Output::Text {
            return output.show("Nothing that the server keeps.", &Value::Null);
        }
        Ok(())
    }

    /// Until it is stopped. A refusal is final, whenever it comes; what is away is waited for.
    async fn follow(&self, admin: &Admin, output: Output) -> Result<(), Failure> {
        let mut stop = pin!(stopped().context("signals cannot be heard")?);
        // In the words of this API, which the feed does not know.
        let _: EventPage = admin.get("/events", &self.query(None, 1)).await?;
        let query: Vec<_> = self.group.iter().map(|group| ("group", group.to_string())).collect();
        let mut feed = EventFeed::new(admin.request("/events/stream", &query), self.after.map(Seq));
        loop {
            let followed = tokio::select! {
                () = &mut stop => return Ok(()),
                followed = feed.next() => followed,
            };
            match followed {
                Ok(Followed::Event(event)) => show(&event, output)?,
                Ok(Followed::Gone(until)) => show_gone(until, output)?,
                Err(error) if is_final(&error) => {
                    // Asked anew for its words.
                    let _: EventPage = admin.get("/events", &self.query(None, 1)).await?;
                    return Err(anyhow::Error::new(error).into());
                }
                Err(error) => {
                    let _ = writeln!(io::stderr(), "causeway: {error}; trying again");
                }
            }
        }
    }
}

/// The feed takes a refusal of the admin API, whose words it does not know, for somebody else's.
fn is_final(error: &CallError) -> bool {
    match error {
        CallError::Foreign { status, .. } => status.is_client_error(),
        error => !error.is_transient(),
    }
}

fn show(event: &GroupEvent, output: Output) -> Result<(), Failure> {
    let json = serde_json::to_value(event).map_err(anyhow::Error::from)?;
    output.show(&event_line(event, &event.group.to_string(), clock::now()), &json)
}

fn show_gone(until: Seq, output: Output) -> Result<(), Failure> {
    output.show(&gone_line(until), &json!({"kind": "gone", "until": until}))
}

/// `causeway stats`.
pub(super) fn stats(config: &Config, output: Output) -> Result<(), Failure> {
    let admin = Admin::of(config)?;
    let stats: Value = runtime()?.block_on(admin.get("/stats", &[]))?;
    let lately = stats.get("last_24_hours").cloned().unwrap_or_default();
    let mut text = format!("{:<20} {:>12} {:>14}\n", "", "in all", "last 24 hours");
    for (name, value) in stats.as_object().into_iter().flatten() {
        // Whatever a later server counts is shown too.
        let Some(value) = value.as_u64() else { continue };
        let _ = match lately.get(name).and_then(Value::as_u64) {
            Some(lately) => writeln!(text, "{name:<20} {value:>12} {lately:>14}"),
            None => writeln!(text, "{name:<20} {value:>12}            now"),
        };
    }
    output.show(&text, &stats)
}
