//! The native side as people reach it: by name, from outside.

use std::{path::Path, time::Duration};

use reqwest::{Client, Url};

use super::{Check, homeserver::chain, json_of, key};
use crate::{config::Config, gateway::hint::hint};

/// Longest that one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where clients read the address of the native API.
const KEY: &str = "dev.causeway.native.base_url";

pub(super) async fn look(file: &Path, config: &Config, show: &mut dyn FnMut(Check)) {
    // Not through a proxy of this machine's: people have none.
    let client = Client::builder().timeout(PATIENCE).no_proxy().build();
    let Ok(client) = client else {
        show(Check::skipped("native API", "no HTTP client can be made"));
        return;
    };
    let server = &config.homeserver.server_name;
    let here = ask(&client, &config.native.address, server).await;
    show(match here {
        Ok(()) => Check::ok("native API", format!("{} answers", config.native.address)),
        Err(Answer::Nobody(error)) => Check::skipped(
            "native API",
            format!("nobody answers at {}; is Causeway running? {error}", config.native.address),
        ),
        Err(Answer::Other(found)) => {
            let fix = key(file, "native.address", "http://HOST:PORT");
            Check::failed("native API", found, format!("{fix}, where `native.listen` is reached"))
        }
    });
    show(outside(&client, server).await);
}

/// Why it is not our native API.
enum Answer {
    Nobody(String),
    Other(String),
}

async fn ask(client: &Client, base: &str, server: &str) -> Result<(), Answer> {
    let url = format!("{}/_causeway/native/v1/server", base.trim_end_matches('/'));
    let answer = client.get(&url).send().await;
    let answer = answer.map_err(|error| Answer::Nobody(format!("GET {url}: {}", chain(&error))))?;
    let status = answer.status();
    let said = json_of(answer).await;
    match said.as_ref().and_then(|said| said["server"].as_str()) {
        Some(name) if name == server => Ok(()),
        Some(name) => {
            Err(Answer::Other(format!("GET {url} is answered by {name}, which is not {server}")))
        }
        None => Err(Answer::Other(format!("GET {url} answers {status}, and not as Causeway does"))),
    }
}

/// By the name of the server alone, as somebody does who registers.
async fn outside(client: &Client, server: &str) -> Check {
    let name = "well-known";
    let url = format!("https://{server}/.well-known/matrix/client");
    let serve = format!(
        "have {url} say `\"{KEY}\": \"https://…\"`; until then people give the address: `register \
         NAME --server URL`"
    );
    let answer = match client.get(&url).send().await {
        Ok(answer) => answer,
        Err(error) => {
            let error = chain(&error);
            let hint = hint(&url, &error).map(|hint| format!("{hint}; ")).unwrap_or_default();
            return Check::warning(name, format!("GET {url}: {error}"), format!("{hint}{serve}"));
        }
    };
    let status = answer.status();
    let said = json_of(answer).await;
    let Some(base) = said.as_ref().and_then(|said| said[KEY].as_str()) else {
        return Check::warning(name, format!("GET {url} answers {status}, without `{KEY}`"), serve);
    };
    if Url::parse(base).is_err() {
        return Check::failed(name, format!("{url} names `{base}`, which is no address"), serve);
    }
    match ask(client, base, server).await {
        Ok(()) => Check::ok(name, format!("{url} leads to {base}, which answers")),
        Err(Answer::Nobody(found) | Answer::Other(found)) => Check::failed(
            name,
            found,
            format!(
                "let what answers there pass `/_causeway/native/` on to `native.listen` \
                 (docs/install.md), or have {url} name the right address as `{KEY}`"
            ),
        ),
    }
}
