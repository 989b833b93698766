//! Pages of lists whose rows are numbered.

use serde::Deserialize;
use utoipa::IntoParams;

/// Which page.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Page {
    /// Begin after this id: `next` of the page before.
    #[serde(default)]
    pub(super) after: i64,
    /// At most this many, 1 to 1,000; 100 if not given.
    #[param(minimum = 1, maximum = 1_000)]
    pub(super) limit: Option<u32>,
}
