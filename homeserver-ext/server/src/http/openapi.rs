//! The OpenAPI document, made from the endpoints; `docs/openapi.json` is what this returns.

mod examples;
mod refusals;

use causeway_protocol::{
    api::{GroupEvent, PREFIX, StreamAck, StreamHello, StreamRow},
    ids::LinkId,
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document, RefOr, Schema,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{
    accounts, calls, events, groups, invites, kept, keys, links, parked, recovery, relay,
    sender_keys, stream,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Causeway native API",
        description = "What native clients speak to a Causeway server. Byte strings are unpadded base64url, times are Unix milliseconds; unknown fields are ignored. What the byte strings hold is in the protocol document."
    ),
    paths(
        accounts::server, accounts::register, accounts::login_nonce, accounts::login,
        accounts::logout, accounts::account, accounts::put_devices,
        recovery::prove, recovery::put_devices,
        links::begin, links::state, links::answer, links::record,
        keys::upload, keys::claim,
        groups::create, groups::mine, groups::head, groups::servers, groups::ops, groups::post_op,
        invites::create, invites::page, invites::revoke, invites::join, invites::requests,
        invites::drop_request,
        relay::post_envelopes, relay::post_fan_outs, relay::post_legacy, relay::status,
        relay::device, kept::keep, kept::read_again, parked::page, parked::unpark, stream::stream,
        events::page, events::follow,
        calls::start, calls::page, calls::state, calls::join, calls::report, calls::sfu,
        calls::upgrade, calls::set,
        calls::leave, calls::decline, calls::kick, calls::mute, calls::end, calls::mesh,
        sender_keys::inventory, sender_keys::report, sender_keys::ask_rotation,
    ),
    components(schemas(GroupEvent, StreamHello, StreamRow, StreamAck, LinkId)),
    modifiers(&Token)
)]
struct Native;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut Document) {
        let token = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        document
            .components
            .get_or_insert_default()
            .security_schemes
            .insert("token".to_owned(), token.into());
    }
}

/// Numbers without a sign are as large as they may be, not half as large: `format` knows only signs.
pub fn say_ranges(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(object) => {
            let is_unsigned = object.get("minimum").is_some_and(|least| least == 0);
            let most = match object.get("format").and_then(serde_json::Value::as_str) {
                Some("int32") => u64::from(u32::MAX),
                Some("int64") => u64::MAX,
                _ => 0,
            };
            if is_unsigned && most > 0 {
                object.remove("format");
                object.entry("maximum").or_insert_with(|| most.into());
            }
            object.values_mut().for_each(say_ranges);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(say_ranges),
        _ => {}
    }
}

/// The OpenAPI document of the native API, as JSON text with a line feed at its end.
///
/// # Errors
/// Never, as far as anyone knows: `serde_json`'s.
pub fn document() -> Result<String, Box<dyn std::error::Error>> {
    let native = Document::default().nest(PREFIX, Native::openapi());
    let mut document = Native::openapi();
    document.paths = native.paths;
    refusals::add(&mut document);
    let schemas = &mut document.components.get_or_insert_default().schemas;
    for (name, example) in examples::all()? {
        match schemas.get_mut(name) {
            Some(RefOr::T(Schema::Object(object))) => object.examples.push(example),
            Some(RefOr::T(Schema::OneOf(one))) => one.examples.push(example),
            _ => {}
        }
    }
    let mut document = serde_json::to_value(&document)?;
    say_ranges(&mut document);
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}
