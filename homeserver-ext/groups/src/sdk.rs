//! Transport around the machine: the native API over HTTP and WebSocket.

mod backoff;
mod http;
mod stream;

pub use http::{AccessToken, BaseUrlError, CallError, Http, discover};
pub use stream::Stream;
