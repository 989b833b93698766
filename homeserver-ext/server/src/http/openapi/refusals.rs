//! What many endpoints answer alike, so that none has to say it again.

use utoipa::openapi::{
    OpenApi as Document, Ref, RefOr, ResponseBuilder, content::ContentBuilder, path::Operation,
    response::Response,
};

/// Adds to every operation the refusals that it can answer with and does not describe itself.
pub(super) fn add(document: &mut Document) {
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            for (status, description) in of(operation) {
                describe(operation, status, description);
            }
        }
    }
}

fn of(operation: &Operation) -> Vec<(&'static str, &'static str)> {
    let mut refusals =
        vec![("500", "`M_UNKNOWN`: a fault of the server, with a number for its log")];
    if operation.security.as_ref().is_some_and(|security| !security.is_empty()) {
        refusals.push(("401", "`M_MISSING_TOKEN`, `M_UNKNOWN_TOKEN`: log in"));
    }
    if operation.parameters.is_some() {
        refusals.push((
            "400",
            "`M_INVALID_PARAM`: something in path or query is not what it should be",
        ));
    }
    if operation.request_body.is_some() {
        refusals.push(("400", "`M_NOT_JSON`, `M_BAD_JSON`: the body is not what it should be"));
        refusals.push(("408", "`M_UNKNOWN`: the body came too slowly"));
        refusals.push(("413", "`M_TOO_LARGE`: the body, or a list in it, is too large"));
    }
    refusals.extend(
        [
            ("403", "`M_FORBIDDEN`"),
            ("404", "`M_NOT_FOUND`: there is none, or none that the caller may know of"),
        ]
        .into_iter()
        .filter(|(status, _)| operation.responses.responses.contains_key(*status)),
    );
    refusals
}

/// Adds a response, or words to one that has none or others.
fn describe(operation: &mut Operation, status: &str, words: &str) {
    let content = || {
        let schema = Ref::from_schema_name("ErrorBody");
        ContentBuilder::new().schema(Some(schema)).build()
    };
    let response =
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| {
            ResponseBuilder::new().content("application/json", content()).into()
        });
    let RefOr::T(Response { description, .. }) = response else { return };
    if description.is_empty() {
        words.clone_into(description);
    } else if !matches!(status, "403" | "404") && !description.contains("`M_TOO_LARGE`") {
        description.push_str("; ");
        description.push_str(words);
    }
}
