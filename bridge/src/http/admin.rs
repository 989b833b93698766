//! The operator's API, `/_causeway/admin/v1/…`: what there is, what waits, what was given up.
//!
//! Texts of messages are nowhere in it.

pub(super) mod dead_letters;
pub(super) mod groups;
pub(super) mod health;
mod page;
pub(super) mod portals;
pub(super) mod quarantine;
pub(super) mod queues;
pub(super) mod shares;

use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

/// The API as an `OpenAPI` 3.1 document, made from its endpoints and the native server's.
pub fn openapi() -> serde_json::Value {
    let document = Doc::openapi().merge_from(causeway_server::admin::openapi());
    // It has nothing that JSON has not.
    let mut document = serde_json::to_value(document).unwrap_or_default();
    causeway_server::admin::say_ranges(&mut document);
    document
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Causeway: admin API", description = "What the operator sees and may do."),
    paths(
        health::health,
        portals::portals,
        portals::recreate_portal,
        shares::shares,
        queues::queues,
        queues::rows,
        queues::retry_row,
        queues::drop_row,
        dead_letters::dead_letters,
        dead_letters::retry_dead_letter,
        dead_letters::drop_dead_letter,
        quarantine::list,
        quarantine::drop_one,
    ),
    modifiers(&Token),
    security(("admin token" = []))
)]
struct Doc;

struct Token;

impl Modify for Token {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The text in data_dir/admin.token"))
            .build();
        api.components
            .get_or_insert_default()
            .add_security_scheme("admin token", SecurityScheme::Http(bearer));
    }
}
