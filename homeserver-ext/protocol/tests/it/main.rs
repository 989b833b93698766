//! The rules against the published vectors, and against what no vector can list.
#![cfg(test)]

mod accounts;
mod call_operator;
mod call_walks;
mod calls;
mod device_links;
mod distributions;
mod document;
mod envelopes;
#[path = "../../fuzz/histories.rs"]
mod histories;
mod invites;
mod json;
mod keys;
mod link_pairs;
mod links;
mod logs;
mod mutations;
mod numbers;
mod ops;
#[path = "../../fuzz/parsers.rs"]
mod parsers;
mod plaintexts;
mod postings;
mod properties;
mod receive;
mod second_histories;
mod secrets;
mod signers;
mod vectors;
