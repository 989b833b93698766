//! `send`: stores a message, then sends it, then prints its id.

use std::{str::FromStr, time::Duration};

use causeway_protocol::{
    content::{Content, MessageRef, Text, TextKind},
    ids::{ClientId, EnvelopeId, GroupId, ParseError},
};
use clap::{Args, ValueEnum};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    exit::Failure,
    flush::{Trouble, is_refused, outbox_of, refused, waiting_for_a_person},
    history,
    home::Home,
    input::{self, Lines},
    line::Message,
    markdown, names,
    outbox::{self, OutboxError, State},
    print::Printer,
    servers::{OfGroup, Unreached},
    span,
};
use crate::sdk::Client;

/// How old a look at the group may be.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long an id waits for who does not get the message now: it is sent.
const A_MOMENT: Duration = Duration::from_secs(2);

/// Arguments of `send`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The group: its name, its id, or the first characters of its id
    #[arg(required_unless_present = "flush", allow_hyphen_values = true)]
    group: Option<String>,
    /// What to say; `-`, or nothing, reads it from stdin
    text: Vec<String>,
    /// Send each line of stdin as a message of its own, and print an id for each, in order
    #[arg(long, conflicts_with = "text")]
    lines: bool,
    /// Name this input: run again with the same name and the same lines, each line is sent once
    #[arg(long, requires = "lines", value_name = "NAME")]
    resume: Option<String>,
    /// Only send what still waits from former runs
    #[arg(long, conflicts_with_all = ["group", "text", "lines"])]
    flush: bool,
    /// How it is meant
    #[arg(long = "as", value_enum, default_value_t = Kind::Text, value_name = "KIND")]
    kind: Kind,
    /// Answer this message: its number (12 for #12), or `<device>/<client_id>`, both as `tail` gives
    /// them
    #[arg(long, allow_hyphen_values = true, value_name = "MESSAGE")]
    reply_to: Option<Answered>,
    /// Send it with markup too: the text is read as Markdown, and stays as it is beside that
    #[arg(long)]
    markdown: bool,
    /// When the message is gone for whoever has not read it: 90s, 15m, 12h or 7d; 0: as the group says.
    /// What a bridge has put into a Matrix room stays there
    #[arg(long, default_value_t = 0, value_parser = span::parse, value_name = "TIME")]
    ttl: u32,
    /// Seconds to keep trying before the message is left for the next run
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    timeout: u64,
}

/// A message that is answered.
#[derive(Debug, Clone, Copy)]
enum Answered {
    /// By its row in this home.
    Row(i64),
    /// By what it is called everywhere.
    Message(MessageRef),
}

impl FromStr for Answered {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let number = text.strip_prefix('#').unwrap_or(text);
        number.parse().map(Self::Row).or_else(|_| text.parse().map(Self::Message))
    }
}

/// How a message is meant.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Something said
    Text,
    /// Something to be noticed, from a program
    Notice,
    /// Something done
    Emote,
}

impl From<Kind> for TextKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text,
            Kind::Notice => Self::Notice,
            Kind::Emote => Self::Emote,
        }
    }
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let patience = Duration::from_secs(arguments.timeout);
    let Some(name) = &arguments.group else {
        return send_waiting(&client, patience, printer).await;
    };
    let roster = names::roster(&client, name).await?;
    if arguments.ttl > 0 && roster.bridge().is_some() {
        printer.remark("--ttl does not reach the Matrix side: what the bridge puts there stays.");
    }
    let group = roster.group();
    let reply_to = match arguments.reply_to {
        Some(Answered::Row(row)) => {
            let Message { device, client_id, .. } = history::message(&client, group, row).await?;
            Some(MessageRef { device, client_id })
        }
        Some(Answered::Message(message)) => Some(message),
        None => None,
    };
    let mut sender = Sender {
        client: &client,
        group,
        arguments: &arguments,
        reply_to,
        patience,
        printer,
        looked_at: None,
        unreached: None,
    };
    if arguments.lines {
        sender.send_lines().await?;
    } else {
        let text = input::text_of(&arguments.text).await?;
        sender.send(vec![(random_id()?, text)], None).await?;
    }
    // The server is there: what waits in other groups goes out too, or goes on waiting.
    let give_up = Instant::now() + patience;
    for other in outbox::waiting(client.db()).await? {
        match timeout_at(give_up, outbox::flush(&client, other)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, group = %other, "messages wait"),
            Err(_) => break,
        }
    }
    Ok(())
}

/// One group, and how to send to it.
struct Sender<'a> {
    client: &'a Client,
    group: GroupId,
    arguments: &'a Arguments,
    reply_to: Option<MessageRef>,
    patience: Duration,
    printer: Printer,
    looked_at: Option<Instant>,
    /// Servers that could not be reached, and when that was looked at.
    unreached: Option<(Instant, Vec<Unreached>)>,
}

impl Sender<'_> {
    async fn send_lines(&mut self) -> Result<(), Failure> {
        let mut input = Lines::of_stdin();
        let mut line_number = 0_u64;
        let mut is_open = true;
        while is_open {
            let lines;
            (lines, is_open) = input.gather().await?;
            let first = line_number + 1;
            let mut texts = Vec::with_capacity(lines.len());
            for line in lines {
                line_number += 1;
                let client_id = match &self.arguments.resume {
                    Some(name) => id_of_line(name, self.group, line_number),
                    None => random_id()?,
                };
                texts.push((client_id, line));
            }
            if !texts.is_empty() {
                self.send(texts, Some(first)).await?;
            }
        }
        Ok(())
    }

    /// Stores the messages in one commit, sends them, and prints an id for each.
    async fn send(
        &mut self,
        texts: Vec<(ClientId, String)>,
        first_line: Option<u64>,
    ) -> Result<(), Failure> {
        let client_ids: Vec<ClientId> = texts.iter().map(|(id, _)| *id).collect();
        self.store(texts, first_line).await?;
        let give_up = Instant::now() + self.patience;
        self.look(give_up).await?;
        let left = give_up.saturating_duration_since(Instant::now());
        let sent = match outbox_of(self.client, self.group, left).await {
            // Refused: what was asked for just now does not go out by itself later.
            Err(Trouble::Outbox(error)) if is_refused(&error) => {
                outbox::take_back(self.client, self.group, &client_ids).await?;
                return Err(refused(&error, self.group));
            }
            sent => sent.map_err(Failure::from),
        };
        if sent.is_ok() {
            self.look_around().await;
        }
        for (line, client_id) in (first_line.unwrap_or(0)..).zip(&client_ids) {
            let line = first_line.map(|_| line);
            match outbox::state(self.client.db(), *client_id).await? {
                Some(State::Accepted(id)) => self.show(id, *client_id, line)?,
                Some(State::Failed(why)) => {
                    let which = line.map_or_else(String::new, |line| format!(" of line {line}"));
                    let what = format!("the message{which} was not sent: {why}");
                    return Err(Failure::failed(what).next(
                        "It is given up, and goes out at no later time. `causeway-client group \
                         show` shows how the group stands.",
                    ));
                }
                Some(State::Queued) | None => break,
            }
        }
        sent
    }

    /// Learns who is in the group now: whoever came since the last look would miss the message. A
    /// server that cannot be asked cannot take the message either, which is found out next.
    async fn look(&mut self, give_up: Instant) -> Result<(), Failure> {
        if self.looked_at.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return Ok(());
        }
        match timeout_at(give_up, self.client.sync_group(self.group)).await {
            Ok(Ok(())) => self.looked_at = Some(Instant::now()),
            Ok(Err(error)) if !error.is_transient() => return Err(OutboxError::Sdk(error).into()),
            Ok(Err(_)) | Err(_) => {}
        }
        Ok(())
    }

    /// Learns who does not get now what was sent, and says it where it was not so before.
    async fn look_around(&mut self) {
        if self.unreached.as_ref().is_some_and(|(at, _)| at.elapsed() < LOOK_AGAIN) {
            return;
        }
        let Ok(roster) = self.client.roster(self.group).await else { return };
        let servers = timeout(A_MOMENT, OfGroup::of(self.client, &roster)).await.ok().flatten();
        let unreached = servers.map_or_else(Vec::new, |servers| servers.unreached(&roster));
        let before = self.unreached.take().map(|(_, before)| before).unwrap_or_default();
        if !unreached.is_empty() && before.is_empty() {
            let lines: Vec<_> = unreached.iter().map(Unreached::to_text).collect();
            self.printer.remark(&format!("note: {}", lines.join("; ")));
        }
        self.unreached = Some((Instant::now(), unreached));
    }

    async fn store(
        &self,
        texts: Vec<(ClientId, String)>,
        first_line: Option<u64>,
    ) -> Result<(), Failure> {
        let Arguments { kind, ttl, markdown, .. } = self.arguments;
        let (vault, now) = (self.client.vault(), self.client.now());
        let mut tx = self.client.db().begin().await?;
        for (line, (client_id, body)) in (first_line.unwrap_or(0)..).zip(texts) {
            let line = first_line.map(|_| line);
            if body.is_empty() {
                return Err(input::empty(line));
            }
            let (kind, reply_to) = ((*kind).into(), self.reply_to);
            let html = if *markdown { markdown::to_html(&body) } else { None };
            let text = Content::Text(Text { kind, body, html, reply_to, mirror: None });
            match outbox::add(&mut tx, vault, now, self.group, client_id, *ttl, text).await {
                Err(OutboxError::TooLarge(takes, _)) => {
                    return Err(input::too_long(line, &takes.to_string()));
                }
                stored => stored?,
            }
        }
        Ok(tx.commit().await?)
    }

    fn show(&self, id: EnvelopeId, client_id: ClientId, line: Option<u64>) -> Result<(), Failure> {
        let mut json = json!({"id": id, "client_id": client_id, "group": self.group});
        if let (Some(line), Some(fields)) = (line, json.as_object_mut()) {
            fields.insert("line".to_owned(), line.into());
        }
        if let (Some((_, unreached)), Some(fields)) = (&self.unreached, json.as_object_mut())
            && !unreached.is_empty()
        {
            fields.insert("unreached".to_owned(), json!(unreached));
        }
        self.printer.show(&id.to_string(), &json)
    }
}

async fn send_waiting(
    client: &Client,
    patience: Duration,
    printer: Printer,
) -> Result<(), Failure> {
    let groups = outbox::waiting(client.db()).await?;
    let mut undecided = None;
    for group in &groups {
        match outbox_of(client, *group, patience).await {
            Ok(()) => {}
            // Other groups do not wait for a person's decision about this one.
            Err(Trouble::Outbox(error)) if error.waits_for_a_person() => {
                undecided = undecided.or(Some(waiting_for_a_person(error, *group)));
            }
            Err(trouble) => return Err(trouble.into()),
        }
    }
    if let Some(failure) = undecided {
        return Err(failure);
    }
    let text = match groups.len() {
        0 => "nothing was waiting".to_owned(),
        1 => "sent what was waiting in 1 group".to_owned(),
        n => format!("sent what was waiting in {n} groups"),
    };
    printer.show(&text, &json!({"groups": groups}))
}

pub(super) fn random_id() -> Result<ClientId, Failure> {
    let mut bytes = [0; ClientId::LEN];
    getrandom::fill(&mut bytes).map_err(|e| {
        Failure::failed(format!("this machine has no randomness: {e}")).next("Try again later.")
    })?;
    Ok(ClientId::new(bytes))
}

/// The same line of the same input always has the same id.
fn id_of_line(name: &str, group: GroupId, line: u64) -> ClientId {
    let mut hash = Sha256::new();
    hash.update(b"causeway-client/line\0");
    hash.update(group.as_bytes());
    hash.update(line.to_be_bytes());
    hash.update(name.as_bytes());
    let mut bytes = [0; ClientId::LEN];
    bytes.iter_mut().zip(hash.finalize()).for_each(|(byte, of_hash)| *byte = of_hash);
    ClientId::new(bytes)
}
