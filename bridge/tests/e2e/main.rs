//! End-to-end tests: the real Synapse, real processes, real clients.
#![cfg(test)]

mod admin;
mod backup;
mod bridged;
mod callers;
mod canary;
mod channels;
mod chats;
mod demo;
#[path = "../shared/demo.rs"]
mod demo_process;
mod doctor;
mod faults;
mod focus;
mod hostile_server;
mod js;
mod js_client;
mod kill;
#[path = "../shared/people.rs"]
mod people;
mod servers;
mod stack;
mod start;
mod story;
mod thirds;
