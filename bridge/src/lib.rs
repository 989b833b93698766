//! The Matrix application service of Causeway, and what its one binary `causeway` is made of.
//!
//! Imports go one way: `domain → storage | gateway → services → http → app`, with `demo` beside
//! `app`; read `a → b` as "b may import a". A test reads every import and fails on an upward one.

pub mod app;
pub mod clock;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod domain;
pub mod figures;
pub mod gateway;
pub mod health;
pub mod http;
pub mod init;
pub mod registration;
pub mod secret;
pub mod services;
pub mod steps;
pub mod storage;
mod yaml;
