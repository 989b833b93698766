//! What the server promises, over real sockets.
#![cfg(test)]

mod accounts;
mod admin;
mod bad_input;
mod broadcasts;
mod canary;
mod crowd;
mod document;
mod edge;
mod event_streams;
mod events;
mod fan_outs;
mod figures;
mod former;
mod groups;
mod guests;
mod harness;
mod invites;
mod kept;
mod kill;
mod legacy;
mod links;
mod live;
mod migrations;
mod negatives;
mod openapi;
mod parked;
mod recovery;
mod relay;
mod sender_keys;
mod servers;
mod shares;
mod stream;
mod turns;
mod waiting;
mod who_may;
