//! Two devices of nobody, who try in a room of a server whether they hear each other there.

use std::{net::SocketAddr, time::Duration};

use causeway_protocol::ids::DeviceId;
use futures_util::future::{join, join_all};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    Access, Giving, Happened, Heard, Input, Mesh, Named, Served, Settings, Signal, Sink, Source,
    Transport, sfu::probe,
};
use crate::trial::{Sound, Trial};

/// Longest until they hear each other.
const PATIENCE: Duration = Duration::from_secs(15);
/// For one connection by TCP.
const OPENING: Duration = Duration::from_secs(3);
/// For their goodbye.
const LEAVING: Duration = Duration::from_secs(2);
/// What each says, in Hz.
const TONES: [u32; 2] = [440, 617];
/// Frames of the other's that are enough: 200 ms.
const ENOUGH: u32 = 10;
/// How loud a tone is that is heard, of 1: it is said at a quarter.
const LOUD: f32 = 0.05;
/// Most ways by TCP that are tried.
const MOST: usize = 8;

/// Tries it, with what lets each of them in and what it is called there.
pub(crate) async fn trial(who: [(Access, String); 2]) -> Trial {
    let [(first, _), _] = &who;
    let probed = match probe(first).await {
        Ok(probed) => probed,
        Err(over) => return Trial::without(Sound::NotIn(over.to_string())),
    };
    // Where the server is on this machine alone, so are they.
    let ways = || probed.udp.iter().chain(&probed.tcp);
    let is_here = ways().count() > 0 && ways().all(|at| at.ip().is_loopback());
    let bind: SocketAddr = (if is_here { [127, 0, 0, 1] } else { [0; 4] }, 0).into();
    let by = |transport| sound(&who, Settings { transport, bind, ..Settings::default() });
    let opening = join_all(probed.tcp.iter().take(MOST).map(opens));
    let (by_udp, open) = join(by(Transport::Udp), opening).await;
    // Once more under the same names: a server takes those of before for gone.
    let by_tcp = match by_udp {
        Sound::NotIn(_) | Sound::NotTried(_) => None,
        _ if !open.contains(&true) => None,
        _ => Some(by(Transport::Tcp).await),
    };
    let tcp = probed.tcp.into_iter().zip(open).collect();
    Trial { version: probed.version, udp: probed.udp, tcp, by_udp, by_tcp }
}

async fn opens(at: &SocketAddr) -> bool {
    matches!(timeout(OPENING, TcpStream::connect(at)).await, Ok(Ok(_)))
}

/// How far one has come.
#[derive(Debug, Clone, Copy, Default)]
struct Far {
    is_in: bool,
    is_sent: bool,
    /// Of the other's tone.
    frames: u32,
}

/// One of them, from outside.
struct One {
    device: DeviceId,
    /// What the other says.
    listens_for: u32,
    inputs: mpsc::Sender<Input>,
    happened: mpsc::Receiver<Happened>,
    heard: mpsc::Receiver<Heard>,
    far: Far,
}

enum News {
    Happened(Happened),
    Heard(Box<Heard>),
}

/// Whether they hear each other, and after how long.
async fn sound(who: &[(Access, String); 2], settings: Settings) -> Sound {
    let [low, high] = TONES;
    let started = begin(settings.clone(), 0, low, high)
        .and_then(|first| Ok((first, begin(settings, 1, high, low)?)));
    let ((first, one), (second, other)) = match started {
        Ok(both) => both,
        Err(why) => return Sound::NotTried(why),
    };
    let began = Instant::now();
    let mut running = Box::pin(join(first.run(), second.run()));
    let mut both = [one, other];
    let met = tokio::select! {
        _ = &mut running => Err(Sound::NotIn("it ended at once".to_owned())),
        met = timeout(PATIENCE, meet(&mut both, who)) => met.unwrap_or(Ok(())),
    };
    for one in &both {
        one.inputs.send(Input::Leave).await.ok();
    }
    timeout(LEAVING, running).await.ok();
    let all = |so: fn(&Far) -> bool| both.iter().all(|one| so(&one.far));
    match met {
        Err(why) => why,
        Ok(()) if all(|far| far.frames >= ENOUGH) => Sound::Heard(began.elapsed()),
        Ok(()) if all(|far| far.is_sent) => Sound::NotHeard,
        Ok(()) if all(|far| far.is_in) => Sound::NotConnected,
        Ok(()) => Sound::NotIn("it does not answer in time".to_owned()),
    }
}

fn begin(
    settings: Settings,
    number: u8,
    tone: u32,
    listens_for: u32,
) -> Result<(Mesh, One), String> {
    let device = DeviceId::new([number; 32]);
    let (to_heard, heard) = mpsc::channel(1_000);
    let source = Source::tone(tone).map_err(|error| error.to_string())?;
    let begun = Mesh::new(device, settings, source, Sink::Each(to_heard));
    let (mesh, inputs, happened) = begun.map_err(|error| error.to_string())?;
    Ok((mesh, One { device, listens_for, inputs, happened, heard, far: Far::default() }))
}

/// Goes on until each has heard the other, or one is put out.
async fn meet(both: &mut [One; 2], who: &[(Access, String); 2]) -> Result<(), Sound> {
    let named = both.iter().zip(who).map(|(one, (_, identity))| Named {
        device: one.device,
        identity: identity.clone(),
        focus: None,
        since: 0,
        has_keys: true,
    });
    let named: Vec<_> = named.collect();
    for (one, (access, _)) in both.iter().zip(who) {
        one.inputs.send(Input::Named { epoch: 1, who: named.clone() }).await.ok();
        one.inputs.send(Input::Server(Some(Box::new(access.clone())))).await.ok();
    }
    while both.iter().any(|one| one.far.frames < ENOUGH) {
        let [one, other] = &mut *both;
        let (is_first, news) = tokio::select! {
            Some(it) = one.happened.recv() => (true, News::Happened(it)),
            Some(it) = other.happened.recv() => (false, News::Happened(it)),
            Some(it) = one.heard.recv() => (true, News::Heard(Box::new(it))),
            Some(it) = other.heard.recv() => (false, News::Heard(Box::new(it))),
            else => return Err(Sound::NotIn("it ended".to_owned())),
        };
        let (one, other) = if is_first { (one, other) } else { (other, one) };
        match news {
            News::Heard(heard) if has_tone(&heard.sound, one.listens_for) => {
                one.far.frames += 1;
            }
            News::Happened(Happened::Served(Served::Joined)) => one.far.is_in = true,
            News::Happened(Happened::Served(Served::Published)) => one.far.is_sent = true,
            News::Happened(Happened::Served(Served::NotLetSpeak)) => {
                return Err(Sound::NotIn("it lets nobody speak".to_owned()));
            }
            News::Happened(Happened::Served(Served::Over(why))) => {
                return Err(Sound::NotIn(why.to_string()));
            }
            News::Happened(Happened::Say { to, epoch, signal }) => {
                let given = match &signal {
                    Signal::Key { index, .. } => Some(*index),
                    _ => None,
                };
                other.inputs.send(Input::Signal { from: one.device, epoch, signal }).await.ok();
                if let Some(index) = given {
                    one.inputs.send(Input::Given { to, index, giving: Giving::Done }).await.ok();
                }
            }
            News::Heard(_) | News::Happened(_) => {}
        }
    }
    Ok(())
}

/// Whether 20 ms are of this tone (Goertzel).
#[expect(clippy::cast_precision_loss, reason = "few digits")]
fn has_tone(sound: &[f32], hertz: u32) -> bool {
    let turn = 2.0 * (std::f32::consts::TAU * hertz as f32 / super::RATE as f32).cos();
    let (mut last, mut before) = (0.0_f32, 0.0_f32);
    for sample in sound {
        (last, before) = (sample + turn * last - before, last);
    }
    let power = last * last + before * before - turn * last * before;
    2.0 * power.max(0.0).sqrt() / sound.len() as f32 > LOUD
}

#[cfg(test)]
mod tests {
    use super::{super::FRAME, Source, TONES, has_tone};

    #[test]
    fn a_tone_is_told_from_the_other_and_from_silence() {
        for (said, other) in [(TONES[0], TONES[1]), (TONES[1], TONES[0])] {
            let mut source = Source::tone(said).unwrap();
            source.next().unwrap();
            let frame = source.next().unwrap();
            assert!(has_tone(&frame, said));
            assert!(!has_tone(&frame, other), "{said} {other}");
        }
        assert!(!has_tone(&[0.0; FRAME], TONES[0]));
    }
}
