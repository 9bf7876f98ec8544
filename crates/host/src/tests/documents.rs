//! The OpenAPI document: that it is served, and that it is about the routes there are.

use std::collections::BTreeSet;

use api::Method;

use super::client::Connection;
use super::{Daemon, OPERATOR};
use crate::http::routed_paths;

/// An id that fits every place in a path.
const NOBODY: &str = "sbx_00000000000000000000000000000000";

/// Served before the router.
const BEFORE_THE_ROUTER: [&str; 5] = ["/v1/healthz", "/openapi.json", "/docs", "/terminal", "/metrics"];

fn filled(path: &str) -> String {
    let parts = path
        .split('/')
        .map(|part| if part.starts_with('{') { NOBODY } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_route_is_documented_and_every_documented_route_exists() {
    let daemon = Daemon::start().await;
    let mut served = BTreeSet::new();
    let paths: BTreeSet<&str> = routed_paths().into_iter().chain(BEFORE_THE_ROUTER).collect();
    for path in paths {
        // No route takes this method, and whoever refuses one says which there are.
        let headers = if path.starts_with("/v1/admin") {
            format!("authorization: Bearer {OPERATOR}\r\n")
        } else {
            String::new()
        };
        let mut connection = Connection::open(daemon.address).await;
        connection.send("PROBE", &filled(path), &headers, "").await;
        let refused = connection.response().await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (405, "method_not_allowed"),
            "{path}"
        );
        for method in refused.header("allow").unwrap().split(',') {
            served.insert((path, method.trim().to_owned()));
        }
    }
    let documented: BTreeSet<(&str, String)> = api::operations()
        .iter()
        .flat_map(|operation| {
            // Whoever is asked for a thing can be asked about it.
            let head = (operation.method == Method::Get).then_some(Method::Head);
            let methods = [Some(operation.method), head].into_iter().flatten();
            methods.map(|method| (operation.path, method.name().to_owned()))
        })
        .collect();
    let undocumented: Vec<_> = served.difference(&documented).collect();
    assert!(
        undocumented.is_empty(),
        "add to api::openapi::routes: {undocumented:?}"
    );
    let missing: Vec<_> = documented.difference(&served).collect();
    assert!(missing.is_empty(), "documented, but not routed: {missing:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn the_document_and_its_page_are_served_to_everybody_and_may_do_nothing() {
    let daemon = Daemon::start().await;
    let openapi = daemon.get("/openapi.json").await;
    assert_eq!((openapi.status, openapi.json()), (200, api::document()));
    for path in ["/docs", "/r/eu/docs"] {
        let page = daemon.get(path).await;
        assert_eq!(page.status, 200);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(page.text().contains("/v1/sandboxes/{id}/exec"));
    }
    daemon.stop().await;
}
