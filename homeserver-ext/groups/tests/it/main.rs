//! Tests of the half with keys, one binary.
#![cfg(test)]

#[path = "../../benches/crowd/away.rs"]
mod away;
#[cfg(feature = "calls")]
mod calling;
#[cfg(feature = "calls")]
mod calls;
mod cli_away;
mod cli_backup;
#[cfg(feature = "calls")]
mod cli_calling;
mod cli_calls;
mod cli_chat;
mod cli_crowd;
mod cli_devices;
mod cli_events;
mod cli_export;
mod cli_forget;
mod cli_history;
mod cli_http;
mod cli_identity;
mod cli_import;
mod cli_input;
mod cli_kill;
mod cli_legacy;
mod cli_legacy_links;
mod cli_linking;
mod cli_offers;
mod cli_pairwise;
mod cli_proxy;
mod cli_readers;
mod cli_recovery;
mod cli_rename;
mod cli_seed_client;
mod cli_server;
mod cli_settings;
mod cli_share;
mod cli_shared_key;
mod cli_stale;
mod cli_status;
mod cli_story;
mod cli_stream;
mod cli_tls;
mod cli_trouble;
mod cli_upgrade;
mod cli_usage;
mod cli_words;
mod cli_world;
mod legacy;
mod link_answers;
mod machine;
mod pairwise;
mod receivers;
mod sdk_device;
mod sdk_keys;
mod sdk_linking;
mod sdk_parked;
mod sdk_postings;
mod sdk_thousand;
mod sender_keys;
mod shared_key;
#[path = "../../benches/crowd/signer.rs"]
mod signer;
mod two_readings;
mod vault;
mod vectors;
mod world;
