//! The native side: `causeway-server` with its own database and listener.

use std::time::Duration;

use causeway_protocol::api::Registration;
use causeway_server::{
    AccountQuotas, App, AppError, Config as ServerConfig, GuestQuotas, KeepRead, TokenHash,
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use super::{RunError, edges, in_force::InForce, listen, server_clock, tasks::Tasks, token};
use crate::{
    config::{Config, Limits, RegistrationPolicy},
    http::{ServerAlone, server_router},
    init::{ADMIN_TOKEN, BRIDGE_TOKEN, REGISTRATION_TOKEN},
};

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
    (server.accounts, server.guests) = quotas(&config.limits);
    server.edge = edges::limits(config, edges::Listener::Native);
    server.trusted_proxies = edges::proxies(config);
    server.keep_read = KeepRead {
        time: Duration::from_secs(u64::from(native.keep_read.hours) * 3_600),
        max_bytes: u64::from(native.keep_read.mib) << 20,
    };
    server.put_back = after_restore;
    server.cleanup_interval = Duration::from_secs(native.cleanup_interval_s.into());
    server.bridge_registration_token = Some(token(BRIDGE_TOKEN)?);
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

/// Has what `config` says of limits count from now on.
pub(super) fn limit(server: &App, config: &Config) {
    let (accounts, guests) = quotas(&config.limits);
    server.set_limits(accounts, guests, edges::limits(config, edges::Listener::Native));
}

/// Of an account, and of an address without one.
fn quotas(limits: &Limits) -> (AccountQuotas, GuestQuotas) {
    let accounts = AccountQuotas {
        envelopes: Some(limits.envelopes.into()),
        ops: Some(limits.ops.into()),
        op_kib: Some(limits.op_kib.into()),
        groups: Some(limits.new_groups.into()),
        groups_in_all: limits.groups,
        strangers: Some(limits.strangers.into()),
        keys: Some(limits.key_uploads.into()),
        claims: Some(limits.claims.into()),
        lists: Some(limits.device_lists.into()),
        devices: limits.devices,
        invites: limits.invites,
        joins: Some(limits.joins.into()),
        link_joins: Some(limits.link_joins.into()),
        envelope_kib: Some(limits.envelope_kib.into()),
        parked: limits.parked,
        parked_kib: limits.parked_kib,
        reports: Some(limits.key_reports.into()),
        traffic_kib: Some(limits.traffic_kib.into()),
        waiting_kib: limits.waiting_kib,
        mailbox_kib: limits.mailbox_kib,
    };
    let guests = GuestQuotas {
        register: Some(limits.registrations.into()),
        login: Some(limits.logins.into()),
    };
    (accounts, guests)
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
    listen(config, in_force, router, tasks).await
}
