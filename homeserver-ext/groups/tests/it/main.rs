//! Tests of the half with keys, one binary.
#![cfg(test)]

mod cli_backup;
mod cli_chat;
mod cli_crowd;
mod cli_forget;
mod cli_history;
mod cli_http;
mod cli_identity;
mod cli_import;
mod cli_input;
mod cli_kill;
mod cli_offers;
mod cli_pairwise;
mod cli_proxy;
mod cli_readers;
mod cli_recovery;
mod cli_rename;
mod cli_server;
mod cli_stale;
mod cli_story;
mod cli_stream;
mod cli_tls;
mod cli_trouble;
mod cli_upgrade;
mod cli_usage;
mod cli_words;
mod cli_world;
mod legacy;
mod machine;
mod pairwise;
mod sdk_keys;
mod sdk_parked;
mod sender_keys;
mod vault;
mod vectors;
mod world;
