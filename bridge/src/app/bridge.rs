//! The Matrix side: checks, listener, and the tasks of the spine.

use std::{future::pending, sync::Arc};

use causeway_store::{Db, Lock, Options};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::sync::watch;

use super::{RunError, homeserver, listen, tasks::Tasks};
use crate::{
    clock,
    config::Config,
    domain::ghost::Names,
    gateway::matrix::Matrix,
    health::Health,
    http::{Http, Parts, Tokens, router},
    init::{self, ADMIN_TOKEN},
    registration::Registration,
    services::{Spine, deliver, from_matrix},
    steps::Steps,
    storage::{self, sealed::Sealer},
};

/// Answered refusals after which an effect becomes a dead letter.
const DELIVERY_LIMIT: u32 = 5;

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
pub(super) async fn start(config: &Config, tasks: &Tasks) -> Result<Bridge, RunError> {
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
    let matrix = Matrix::new(&config.homeserver.address, registration.as_token.clone())
        .map_err(|error| RunError::Bridge(error.to_string()))?;
    let spine = Spine {
        db: db.clone(),
        sealer: Sealer,
        matrix: matrix.clone(),
        names: Names::new(server_name)
            .ok_or_else(|| RunError::Bridge(format!("`{server_name}` is no server name")))?,
        clock: Arc::new(clock::now),
        delivery_limit: DELIVERY_LIMIT,
        token_taken: watch::Sender::new(true),
        steps: Steps::default(),
    };
    let health = Health::default();
    let tokens = Tokens { hs_token: registration.hs_token.clone(), admin };
    let http = Http::new(Parts {
        db: db.clone(),
        sealer: spine.sealer.clone(),
        clock: Arc::clone(&spine.clock),
        token_taken: spine.token_taken.subscribe(),
        steps: spine.steps.clone(),
        tokens,
        health: health.clone(),
        metrics,
    });
    listen(config.appservice.listen, router(http), tasks).await?;

    homeserver::check(&matrix, &config.homeserver.address, server_name, &registration, &health)
        .await?;
    health.set_native(true);
    tasks.keep("ping", {
        let (matrix, health) = (matrix.clone(), health.clone());
        move || homeserver::keep_pinging(matrix.clone(), registration.clone(), health.clone())
    });
    keep(tasks, "from_matrix", &spine, |spine| async move {
        from_matrix::run(&spine, pending()).await;
    });
    keep(tasks, "deliver", &spine, |spine| async move { deliver::run(&spine, pending()).await });
    Ok(Bridge { db })
}

/// Keeps a service running. It is cut off when the process ends: every step of the spine may be,
/// and goes on after the next start where it was.
fn keep<F>(
    tasks: &Tasks,
    name: &'static str,
    spine: &Spine,
    run: impl Fn(Spine) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let spine = spine.clone();
    tasks.keep(name, move || run(spine.clone()));
}
