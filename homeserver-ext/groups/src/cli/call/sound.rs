//! What one says and hears in a call, and how it is connected, as arguments.
//!
//! `--audio-in` and `--audio-out`, since `--output` is the form of results everywhere here.

use std::{
    fs,
    net::{IpAddr, UdpSocket},
    path::PathBuf,
};

use clap::Args;

use super::super::{exit::Failure, span};
use crate::{
    calling::Wish,
    calls::{IceServer, Settings, Sink, Source},
};

/// A password is a line.
const MAX_PASSWORD: usize = 1_024;

/// How to take part in a call.
#[derive(Debug, Args)]
pub(crate) struct Sound {
    /// What you say: mic, tone:HERTZ, a WAV file (at its end you are silent), or silence
    #[arg(long, default_value = "silence", value_name = "WHAT")]
    audio_in: String,
    /// Where goes what you hear: speaker, a WAV file, which is made or emptied, or none
    #[arg(long, default_value = "none", value_name = "WHERE")]
    pub(super) audio_out: String,
    /// Leave after so long, like 90s or 15m
    #[arg(long = "for", value_parser = span::parse, value_name = "TIME")]
    pub(super) seconds: Option<u32>,
    /// Come in with the microphone off
    #[arg(long)]
    muted: bool,
    /// Stay where the server can hear the call, as where Matrix users are in it; otherwise this device
    /// does not go there. And be put out where it cannot follow the others
    #[arg(long, env = "CAUSEWAY_MAY_DEGRADE", value_parser = clap::builder::BoolishValueParser::new(),
          num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    may_degrade: bool,
    /// Tell nobody your addresses: sound goes by a TURN server alone [default: as your server says]
    #[arg(long, env = "CAUSEWAY_RELAY_ONLY", value_parser = clap::builder::BoolishValueParser::new(),
          num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    relay_only: Option<bool>,
    /// Go to a server for calls in your own network, and without TLS, also where another homeserver than
    /// yours names it: it could have your device knock at machines there
    #[arg(long, env = "CAUSEWAY_PRIVATE_SERVERS", value_parser = clap::builder::BoolishValueParser::new(),
          num_args = 0..=1, default_value = "false", default_missing_value = "true", value_name = "BOOL")]
    private_servers: bool,
    /// Servers that say which address you are seen at: stun:host:port, several by commas [default:
    /// those that your server names]
    #[arg(long, env = "CAUSEWAY_STUN", value_delimiter = ',', value_name = "URL")]
    stun: Vec<String>,
    /// A server that relays sound where there is no direct way: turn:host:port?transport=udp
    /// [default: the one that your server names]
    #[arg(
        long,
        env = "CAUSEWAY_TURN",
        requires = "turn_user",
        requires = "turn_password_file",
        value_name = "URL"
    )]
    turn: Option<String>,
    /// The user name there
    #[arg(long, env = "CAUSEWAY_TURN_USER", value_name = "NAME")]
    turn_user: Option<String>,
    /// A file with the password there
    #[arg(long, env = "CAUSEWAY_TURN_PASSWORD_FILE", value_name = "FILE")]
    turn_password_file: Option<PathBuf>,
    /// Bits a second of your voice, before what carries it
    #[arg(long, default_value_t = 24_000, value_name = "BITS",
          value_parser = clap::value_parser!(u32).range(6_000..=128_000))]
    pub(super) bitrate: u32,
    /// Send and take sound at this address alone [default: all of this machine but loopback]
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<IpAddr>,
}

impl Sound {
    /// What a device brings into the call.
    pub(super) fn wish(&self) -> Result<Wish, Failure> {
        let settings = self.settings()?;
        let (source, sink) = (self.source()?, self.sink()?);
        let (muted, may_degrade) = (self.muted, self.may_degrade);
        Ok(Wish { settings, source, sink, muted, may_degrade })
    }

    fn source(&self) -> Result<Source, Failure> {
        let said = self.audio_in.as_str();
        let unusable = |error: &dyn std::fmt::Display| {
            Failure::usage(format!("--audio-in {said}: {error}"))
                .next("It is mic, tone:440, a WAV file, or silence.")
        };
        match said.strip_prefix("tone:").map(str::parse::<u32>) {
            _ if said == "silence" => Ok(Source::Silence),
            _ if said == "mic" => microphone().map_err(|why| unusable(&why)),
            Some(Ok(hertz)) => Source::tone(hertz).map_err(|error| unusable(&error)),
            Some(Err(_)) => Err(unusable(&"a tone is a number of hertz")),
            None => Source::wav(said.as_ref()).map_err(|error| unusable(&error)),
        }
    }

    fn sink(&self) -> Result<Sink, Failure> {
        match self.audio_out.as_str() {
            "none" => Ok(Sink::Nowhere),
            "speaker" => speaker().map_err(|why| {
                Failure::usage(format!("--audio-out speaker: {why}"))
                    .next("It is speaker, a WAV file that can be made, or none.")
            }),
            path => Sink::wav(path.as_ref()).map_err(|error| {
                Failure::usage(format!("--audio-out {path}: {error}"))
                    .next("It is speaker, a WAV file that can be made, or none.")
            }),
        }
    }

    fn settings(&self) -> Result<Settings, Failure> {
        let of = |url: &String, username: String, credential: String| {
            let urls = vec![url.clone()];
            IceServer { urls, username, credential }
        };
        let mut servers = Vec::new();
        for url in &self.stun {
            known(url, &["stun:", "stuns:"])?;
            servers.push(of(url, String::new(), String::new()));
        }
        if let (Some(url), Some(user), Some(file)) =
            (&self.turn, &self.turn_user, &self.turn_password_file)
        {
            known(url, &["turn:", "turns:"])?;
            let password = fs::read_to_string(file).map_err(|error| {
                Failure::usage(format!("--turn-password-file {}: {error}", file.display()))
            })?;
            let password = password.trim_end_matches(['\r', '\n']);
            if password.is_empty() || password.len() > MAX_PASSWORD {
                return Err(Failure::usage(format!("{} has no password", file.display()))
                    .next("It has one line: the password."));
            }
            servers.push(of(url, user.clone(), password.to_owned()));
        }
        let defaults = Settings::default();
        let bind = self.bind.map_or(defaults.bind, |address| (address, 0).into());
        // Without it nobody would be reached, and nothing would say so.
        UdpSocket::bind(bind).map_err(|error| {
            Failure::usage(format!("--bind {}: {error}", bind.ip()))
                .next("It is an address of this machine, like those that `ip address` lists.")
        })?;
        let Self { bitrate, relay_only, private_servers, .. } = *self;
        Ok(Settings { bitrate, servers, relay_only, private_servers, bind, ..defaults })
    }
}

#[cfg(feature = "audio")]
fn microphone() -> Result<Source, crate::calls::DeviceError> {
    crate::calls::Microphone::open().map(Source::Microphone)
}

#[cfg(feature = "audio")]
fn speaker() -> Result<Sink, crate::calls::DeviceError> {
    crate::calls::Speaker::open().map(Sink::Speaker)
}

/// What a client says that was built for machines without ALSA.
#[cfg(not(feature = "audio"))]
const WITHOUT: &str = "this client was built without microphone and speaker (the feature `audio`)";

#[cfg(not(feature = "audio"))]
fn microphone() -> Result<Source, &'static str> {
    Err(WITHOUT)
}

#[cfg(not(feature = "audio"))]
fn speaker() -> Result<Sink, &'static str> {
    Err(WITHOUT)
}

fn known(url: &str, schemes: &[&str]) -> Result<(), Failure> {
    if schemes.iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme)) {
        return Ok(());
    }
    let form = schemes.first().copied().unwrap_or_default();
    Err(Failure::usage(format!("`{url}` is no server of that kind"))
        .next(format!("Write it like {form}host:3478.")))
}
