//! The real one: it comes up, goes, comes again, and ends with us.

use std::path::Path;

use causeway_livekit::{Binary, LiveKit, Settings};

#[tokio::test]
async fn it_comes_up_goes_and_comes_again_at_the_same_place() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.causeway"));
    let binary = Binary::ensure(folder, |said| println!("{said}")).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut livekit = LiveKit::start(&binary, dir.path(), &Settings::default()).await.unwrap();
    let port = livekit.url().rsplit(':').next().unwrap().parse::<u16>().unwrap();
    livekit.kill().await;
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    livekit.restart().await.unwrap();
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert!(livekit.log().unwrap().contains("starting LiveKit server"));
    assert!(!livekit.log().unwrap().contains(livekit.secret()));
}

#[tokio::test]
async fn one_that_does_not_start_says_why() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.causeway"));
    let binary = Binary::ensure(folder, |said| println!("{said}")).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { more: "no_such_key: 1\n".to_owned(), ..Settings::default() };
    let error = LiveKit::start(&binary, dir.path(), &settings).await.unwrap_err();
    assert!(error.to_string().contains("no_such_key"), "{error}");
}
