//! The bridge crate's integration tests, one binary.
#![cfg(test)]

mod agent;
mod agent_drop;
mod agent_rooms;
mod an_hour;
mod appservice;
mod aside;
mod by_hand;
mod callers;
mod channels;
mod chats;
mod circles;
mod cli;
mod cli_calls;
mod cli_events;
mod client;
mod commands;
mod deliver;
mod demo;
#[path = "../shared/demo.rs"]
mod demo_process;
mod docs;
mod doctor;
mod doctor_calls;
mod drop;
mod encrypted;
mod errands;
mod expired;
mod federation;
mod figures;
mod focus;
mod generated;
mod harness;
mod intake;
mod lanes;
mod late;
mod layers;
mod ops;
mod parked;
#[path = "../shared/people.rs"]
mod people;
mod plans;
mod postgres;
#[path = "../shared/prometheus.rs"]
mod prometheus;
mod reconcile;
mod refusals;
mod restored;
mod rooms;
mod searches;
mod session;
mod shared_history;
mod shares;
mod sighup;
mod start;
mod statements;
mod story;
mod straight;
mod stub;
mod swarm;
mod two_devices;
mod upgrade;
mod who_may;
mod workspace;
mod world;
