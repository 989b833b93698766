//! Where the story takes place: a homeserver, a Causeway beside it, and a Matrix user.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use causeway_groups::cli::HAS_CALLS;
use causeway_livekit::{LiveKit, ports::free_port};
use reqwest::Url;

use super::{
    DemoError, Options,
    causeway::{Causeway, Listeners},
    files::{folder, kept_folder, random_name},
    livekit,
    matrix_user::MatrixUser,
    progress::Progress,
    synapse::Synapse,
};
use crate::{gateway::matrix::Matrix, init, registration::Registration, secret::Secret};

/// The Matrix user of a homeserver made for the demo.
const CAROL: &str = "carol";

/// Everything that must be there before the story begins. Fields end in this order.
pub(super) struct Place {
    /// The Causeway, running.
    pub(super) causeway: Causeway,
    /// Another server, where there are two.
    pub(super) other: Option<Other>,
    /// The name of the first.
    pub(super) server_name: String,
    /// Where its files are, and those of the native clients.
    pub(super) dir: PathBuf,
    /// Where the homeserver is.
    pub(super) homeserver: String,
    /// The Matrix user's password, where it is ours to show.
    pub(super) password: Option<String>,
    _folder: Option<Folder>,
    _synapse: Option<Synapse>,
    livekit: Option<LiveKit>,
}

/// Another server, whose homeserver federates with the first one's. Fields end in this order.
pub(super) struct Other {
    /// Its Causeway, running.
    pub(super) causeway: Causeway,
    /// Its name.
    pub(super) server_name: String,
    _synapse: Synapse,
}

/// A folder that goes when it is no longer needed.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left lies in the ignored folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Place {
    /// Makes it as `options` ask, and logs the Matrix user in.
    pub(super) async fn make(
        options: &Options,
        progress: &Progress,
    ) -> Result<(Self, MatrixUser), DemoError> {
        // Before anything is fetched or started for it.
        let kept = options.dir.as_deref().map(kept_folder).transpose()?;
        if options.calls && !HAS_CALLS {
            return Err(DemoError::NoCalls);
        }
        let (mut place, user) = match &options.theirs {
            Some(theirs) => Self::beside(theirs, kept, progress).await,
            None if options.servers > 1 => Self::two(kept, progress).await,
            None => Self::whole(kept, progress).await,
        }?;
        if options.calls {
            place.livekit = Some(livekit::beside(&mut place.causeway, progress).await?);
        }
        Ok((place, user))
    }

    /// With a homeserver made for it.
    async fn whole(
        kept: Option<PathBuf>,
        progress: &Progress,
    ) -> Result<(Self, MatrixUser), DemoError> {
        let listeners = Listeners::free()?;
        let synapse = Synapse::start(&listeners.appservice_url(), progress).await?;
        let password = random_name(8)?;
        let carol = synapse.register(CAROL, &password).await?;
        let dir = kept.unwrap_or_else(|| synapse.dir().join("causeway"));
        let causeway = started(
            &dir,
            &synapse.url(),
            synapse.server_name(),
            listeners,
            synapse.registration(),
            progress,
        )
        .await?;
        let place = Self {
            causeway,
            other: None,
            server_name: synapse.server_name().to_owned(),
            dir,
            homeserver: synapse.url(),
            password: Some(password),
            _folder: None,
            _synapse: Some(synapse),
            livekit: None,
        };
        Ok((place, carol))
    }

    /// With two homeservers made for it, the Matrix user on the second.
    async fn two(
        kept: Option<PathBuf>,
        progress: &Progress,
    ) -> Result<(Self, MatrixUser), DemoError> {
        let listeners = [Listeners::free()?, Listeners::free()?];
        let urls = listeners.map(|listeners| listeners.appservice_url());
        let mut synapses = Synapse::start_federation(&urls, progress).await?.into_iter();
        let (Some(here), Some(there)) = (synapses.next(), synapses.next()) else {
            return Err(io::Error::other("two homeservers were to be started").into());
        };
        let password = random_name(8)?;
        let carol = there.register(CAROL, &password).await?;
        let dir = kept.unwrap_or_else(|| here.dir().join("causeway"));
        let mut causeways = Vec::new();
        for ((synapse, listeners), dir) in
            [&here, &there].into_iter().zip(listeners).zip([dir.clone(), dir.join("other")])
        {
            let (url, name) = (synapse.url(), synapse.server_name());
            let registration = synapse.registration();
            causeways.push(started(&dir, &url, name, listeners, registration, progress).await?);
        }
        let (Some(other), Some(causeway)) = (causeways.pop(), causeways.pop()) else {
            return Err(io::Error::other("two Causeways were to be started").into());
        };
        let server_name = there.server_name().to_owned();
        let place = Self {
            causeway,
            server_name: here.server_name().to_owned(),
            dir,
            homeserver: there.url(),
            password: Some(password),
            other: Some(Other { causeway: other, server_name, _synapse: there }),
            _folder: None,
            _synapse: Some(here),
            livekit: None,
        };
        Ok((place, carol))
    }

    /// Beside a homeserver that runs.
    async fn beside(
        theirs: &super::Theirs,
        kept: Option<PathBuf>,
        progress: &Progress,
    ) -> Result<(Self, MatrixUser), DemoError> {
        let registration = Registration::read(&theirs.registration)?;
        let matrix = Matrix::new(&theirs.homeserver, registration.as_token.clone())?;
        let server_name = matrix.whoami(None).await?.user_id.server_name().to_string();
        let password = read_password(&theirs.matrix_password_file)?;
        let user =
            MatrixUser::login(&theirs.homeserver, &theirs.matrix_user, password.expose()).await?;
        let listeners = Listeners {
            appservice: listen_at(&registration.url)?,
            native: SocketAddr::from(([127, 0, 0, 1], free_port()?)),
        };
        let (dir, folder) = if let Some(kept) = kept {
            (kept, None)
        } else {
            let made = folder()?.join(format!("demo-{}", random_name(4)?));
            (made.clone(), Some(Folder(made)))
        };
        let homeserver = theirs.homeserver.clone();
        let causeway =
            started(&dir, &homeserver, &server_name, listeners, &registration, progress).await?;
        let place = Self {
            causeway,
            other: None,
            server_name,
            dir,
            homeserver,
            password: None,
            _folder: folder,
            _synapse: None,
            livekit: None,
        };
        Ok((place, user))
    }
}

async fn started(
    dir: &Path,
    homeserver: &str,
    server_name: &str,
    listeners: Listeners,
    registration: &Registration,
    progress: &Progress,
) -> Result<Causeway, DemoError> {
    progress.say("starting Causeway");
    let binary = std::env::current_exe()?;
    let mut causeway =
        Causeway::prepare(&binary, dir, homeserver, server_name, listeners, registration)?;
    causeway.start().await?;
    Ok(causeway)
}

/// Where to listen so that the homeserver finds us at `url`.
fn listen_at(url: &str) -> Result<SocketAddr, DemoError> {
    let wrong = || io::Error::other(format!("`{url}` in the registration is not an address"));
    let url = Url::parse(url).map_err(|_| wrong())?;
    let port = url.port_or_known_default().ok_or_else(wrong)?;
    // A name, or an address that others reach us at: on every interface.
    let ip = match url.host_str() {
        Some("localhost") => Some(IpAddr::from([127, 0, 0, 1])),
        Some(host) => host.parse().ok().filter(IpAddr::is_loopback),
        None => None,
    };
    Ok(SocketAddr::new(ip.unwrap_or(IpAddr::from([0, 0, 0, 0])), port))
}

fn read_password(path: &Path) -> Result<Secret, DemoError> {
    Ok(init::read_token(path)?)
}
