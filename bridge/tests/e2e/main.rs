//! End-to-end tests: the real Synapse, real processes, real clients.
#![cfg(test)]

mod abroad;
mod admin;
mod backup;
mod bridged;
mod bridged_there;
mod callers;
mod calls;
mod calls_end;
mod canary;
mod canary_calls;
mod canary_servers;
mod channels;
mod chats;
mod demo;
#[path = "../shared/demo.rs"]
mod demo_process;
mod doctor;
#[path = "../../../homeserver-ext/groups/tests/it/calls/ear.rs"]
mod ear;
mod faults;
mod focus;
#[path = "../../../homeserver-ext/groups/tests/it/calls/home.rs"]
mod home;
mod hostile_server;
mod js;
mod js_client;
mod kill;
mod late;
mod line;
mod lossy;
mod matrix_caller;
mod needles;
#[path = "../shared/people.rs"]
mod people;
mod proxy;
mod relay_rooms;
mod removal;
mod restored;
mod secrets;
mod servers;
mod sfu;
mod stack;
mod start;
mod story;
mod thirds;
mod two_faced;
