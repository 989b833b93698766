//! The native side: `causeway-server` with its own database and listener.

use std::time::Duration;

use causeway_protocol::api::Registration;
use causeway_server::{App, AppError, Config as ServerConfig, KeepRead, Silent, TokenHash};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use super::{
    RunError, calls, edges, in_force::InForce, listen, relay_token, server_clock, tasks::Tasks,
    token,
};
use crate::{
    config::{Config, RegistrationPolicy},
    health::{Kind, Troubles},
    http::{ServerAlone, server_router},
    init::{ADMIN_TOKEN, BRIDGE_TOKEN, REGISTRATION_TOKEN},
};

/// How often it is looked whether other servers take what is for them.
const LOOK: Duration = Duration::from_secs(10);

/// Opens the database and starts to listen.
pub(super) async fn start(
    config: &Config,
    in_force: &InForce,
    after_restore: bool,
    tasks: &Tasks,
) -> Result<App, RunError> {
    let token = |name| token(config, name).map(|token| TokenHash::of(token.expose()));
    let name = config.homeserver.server_name.as_str();
    let mut server = ServerConfig::new(name, config.data_file("server.db"));
    let native = &config.native;
    server.trusted_proxies = edges::proxies(config);
    server.others = config.other_servers().map_err(|error| RunError::Native(error.to_string()))?;
    server.keep_read = KeepRead {
        time: Duration::from_secs(u64::from(native.keep_read.hours) * 3_600),
        max_bytes: u64::from(native.keep_read.mib) << 20,
    };
    server.mesh_max = config.calls.mesh_max.into();
    server.livekit = calls::livekit(config)?;
    server.mesh = calls::mesh(config)?;
    server.put_back = after_restore;
    server.max_message_ttl = Duration::from_secs(native.max_message_ttl_s.into());
    server.cleanup_interval = Duration::from_secs(native.cleanup_interval_s.into());
    server.bridge_registration_token = Some(token(BRIDGE_TOKEN)?);
    server.relay_token = relay_token(config).map(|token| TokenHash::of(token.expose()));
    server.registration = match config.native.registration {
        RegistrationPolicy::Closed => Registration::Closed,
        RegistrationPolicy::Token => {
            server.registration_token = Some(token(REGISTRATION_TOKEN)?);
            Registration::Token
        }
        RegistrationPolicy::Open => Registration::Open,
    };
    let app = App::open(server, server_clock()).await.map_err(|error| match error {
        AppError::Open(error) => RunError::Database(error),
        AppError::ServerName(_) | AppError::Entropy(_) | AppError::Begin(_) => {
            RunError::Native(error.to_string())
        }
    })?;
    // Before anybody is let in.
    in_force.serves(&app);
    let address = config.native.listen;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        RunError::Listen(address, error, config.key("native.listen"), "native.address")
    })?;
    let (serving, stop) = (app.clone(), tasks.token());
    tasks.run(serving.serve(listener, stop));
    tracing::info!(%address, "listening for native clients");
    Ok(app)
}

/// Says of other servers with which nothing goes on, and of LiveKit when it is away, as long as that is so.
pub(super) async fn watch_others(app: App, troubles: Troubles) {
    let mut standing: Vec<String> = Vec::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let silent = app.silent_servers().await;
        for name in standing.drain(..) {
            if silent.iter().all(|one| one.server != name) {
                troubles.goes(Kind::Server, &name);
            }
        }
        for Silent { server, why } in silent {
            troubles.stands(Kind::Server, &server, &why, None);
            standing.push(server);
        }
        match app.livekit_away() {
            Some(why) => troubles.stands(Kind::Livekit, "", &why, None),
            None => troubles.goes(Kind::Livekit, ""),
        }
    }
}

/// Lets probes, Prometheus and the operator see the native side where no bridge runs beside it.
pub(super) async fn show(
    config: &Config,
    in_force: &InForce,
    server: App,
    metrics: PrometheusHandle,
    tasks: &Tasks,
) -> Result<(), RunError> {
    let admin = token(config, ADMIN_TOKEN)?;
    let router = server_router(ServerAlone { server, admin, metrics });
    listen(config, in_force, router, || (), tasks).await
}
