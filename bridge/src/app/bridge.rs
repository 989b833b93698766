//! The Matrix side: checks, listener, and the tasks of the spine.

use causeway_store::{Db, Lock, Options};
use metrics_exporter_prometheus::PrometheusBuilder;

use super::{RunError, homeserver, listen, native::Native, tasks::Tasks};
use crate::{
    config::Config,
    gateway::matrix::Matrix,
    health::Health,
    http::{Http, Tokens, router},
    init::{self, ADMIN_TOKEN},
    registration::Registration,
    storage::{self, sealed::Sealer},
};

/// The running bridge.
pub(super) struct Bridge {
    db: Db,
}

impl Bridge {
    /// Closes the database.
    pub(super) async fn close(self) {
        self.db.close().await;
    }
}

/// Opens, listens, asks the homeserver, and starts the spine.
///
/// Listening comes before asking: the homeserver's ping must be answered, and events are taken in
/// from the first moment, whatever else is not ready yet.
pub(super) async fn start(
    config: &Config,
    native: Option<&Native>,
    tasks: &Tasks,
) -> Result<Bridge, RunError> {
    let server_name = &config.homeserver.server_name;
    let registration = Registration::read(&config.appservice.registration)?;
    registration.check(server_name)?;
    let admin = init::read_token(&config.data_file(ADMIN_TOKEN))?;
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| RunError::Bridge(error.to_string()))?;
    let db = Db::open(Options {
        path: config.data_file("bridge.db"),
        lock: Lock::Exclusive,
        schemas: &[storage::SCHEMA],
    })
    .await?;
    let health = Health::default();
    let tokens = Tokens { hs_token: registration.hs_token.clone(), admin };
    let http =
        Http::new(db.clone(), Sealer, tokens, health.clone(), metrics, native.and_then(Native::db));
    listen(config.appservice.listen, router(http), tasks).await?;

    let matrix = Matrix::new(&config.homeserver.address, registration.as_token.clone())
        .map_err(|error| RunError::Bridge(error.to_string()))?;
    homeserver::check(&matrix, &config.homeserver.address, server_name, &registration, &health)
        .await?;
    health.set_native(true);
    tasks.keep("ping", {
        let (matrix, health) = (matrix.clone(), health.clone());
        move || homeserver::keep_pinging(matrix.clone(), registration.clone(), health.clone())
    });
    Ok(Bridge { db })
}
