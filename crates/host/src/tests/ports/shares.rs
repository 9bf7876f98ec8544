//! URLs that lead to one port for a while, without a key.

use super::*;

/// A daemon that wants keys, a sandbox, and a program in it.
struct Rig {
    daemon: Daemon,
    sandbox: String,
    port: u16,
}

const KEY: &str = "authorization: Bearer secret";

fn with_keys() -> Setup {
    Setup {
        keys: Some("secret"),
        ..Setup::default()
    }
}

impl Rig {
    async fn new() -> Self {
        let daemon = Daemon::with(with_keys()).await;
        let created = call(&daemon, "POST", "/v1/sandboxes", "{}").await;
        let sandbox = format!("/v1/sandboxes/{}", created.json()["id"].as_str().unwrap());
        let port = mirror().await;
        Self {
            daemon,
            sandbox,
            port,
        }
    }

    async fn get(&self, path: &str, headers: &[&str]) -> Response {
        answer(self.daemon.address, &format!("GET {path}"), headers).await
    }

    /// What a share of the port answers.
    async fn share(&self, body: &str) -> serde_json::Value {
        let path = format!("{}/share/{}", self.sandbox, self.port);
        let shared = call(&self.daemon, "POST", &path, body).await;
        assert_eq!(shared.status, 200, "{}", shared.text());
        shared.json()
    }

    /// The path of such a URL.
    async fn shared_path(&self) -> String {
        let url = self.share("").await["url"].as_str().unwrap().to_owned();
        url.strip_prefix("http://x").unwrap().to_owned()
    }
}

async fn call(daemon: &Daemon, method: &str, path: &str, body: &str) -> Response {
    let mut connection = Connection::open(daemon.address).await;
    connection.send(method, path, &format!("{KEY}\r\n"), body).await;
    connection.response().await
}

const X: &str = "host: x";

#[tokio::test]
async fn whoever_has_the_url_uses_the_port_and_nothing_else() {
    let rig = Rig::new().await;
    let shared = rig.shared_path().await;
    assert!(shared.ends_with('/'));
    let seen = rig.get(&format!("{shared}a%20b?c"), &[X]).await;
    assert!(
        seen.text().starts_with("GET /a%20b?c HTTP/1.1"),
        "{}",
        seen.text()
    );
    let prefix = format!("x-forwarded-prefix: {}\r\n", shared.trim_end_matches('/'));
    assert!(seen.text().contains(&prefix), "{}", seen.text());
    assert_eq!(seen.header("referrer-policy"), Some("same-origin"));
    // Without its slash relative links would lead elsewhere.
    let bare = rig.get(shared.trim_end_matches('/'), &[X]).await;
    assert_eq!(
        (bare.status, bare.header("location")),
        (308, Some(shared.as_str()))
    );
    // A program's own credentials reach it; a key of this host's does not, whoever sends it.
    let seen = rig.get(&shared, &[X, "authorization: Basic YTpi"]).await;
    assert!(seen.text().contains("authorization: Basic YTpi"));
    for key in [KEY, "authorization: Bearer pf_live_x"] {
        let seen = rig.get(&shared, &[X, key]).await;
        assert!(!seen.text().contains("authorization"), "{}", seen.text());
    }
    // Pages of anywhere may use it: the URL is all that lets them in.
    assert_eq!(
        rig.get(&shared, &[X, "origin: http://evil.example"]).await.status,
        200
    );
    // It leads to the port, however the path goes on.
    for beyond in ["../../../v1/sandboxes", "share", "share/1"] {
        let seen = rig.get(&format!("{shared}{beyond}"), &[X]).await;
        assert!(
            seen.text().starts_with(&format!("GET /{beyond} HTTP/1.1")),
            "{}",
            seen.text()
        );
    }
    assert_eq!(rig.get(&rig.sandbox, &[X]).await.code(), "missing_key");
    rig.daemon.stop().await;
}

#[tokio::test]
async fn a_browser_gets_a_cookie_on_the_ports_own_name() {
    let rig = Rig::new().await;
    let path = format!("{}/share/{}", rig.sandbox, rig.port);
    let line = format!("POST {path}");
    let shared = answer(
        rig.daemon.address,
        &line,
        &["host: localhost:7070", KEY, "content-length: 0"],
    )
    .await
    .json();
    let url = shared["url"]
        .as_str()
        .unwrap()
        .strip_prefix("http://localhost:7070")
        .unwrap();
    let visit = "sec-fetch-mode: navigate";
    let sent_on = rig
        .get(&format!("{url}page?a=b"), &["host: localhost:7070", visit])
        .await;
    let name = format!("{}:7070", name(&rig.sandbox, rig.port));
    let named = sent_on
        .header("location")
        .unwrap()
        .strip_prefix(&format!("http://{name}"))
        .unwrap();
    assert!(named.starts_with("/page?a=b&podflare_token="), "{named}");
    let host = format!("host: {name}");
    let with_cookie = rig.get(named, &[&host, visit]).await;
    let clean = format!("http://{name}/page?a=b");
    assert_eq!(
        (with_cookie.status, with_cookie.header("location")),
        (302, Some(clean.as_str()))
    );
    let cookie = with_cookie.header("set-cookie").unwrap();
    for part in ["podflare_token=", "; Path=/; HttpOnly; SameSite=Lax; Max-Age=3"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap();
    // Another of that name, which a neighbour may have put there, does not matter.
    let cookies = format!("cookie: podflare_token=x; mine=1; {cookie}");
    let seen = rig.get("/page?a=b", &[&host, &cookies]).await;
    assert!(
        seen.text().starts_with("GET /page?a=b HTTP/1.1"),
        "{}",
        seen.text()
    );
    assert!(seen.text().contains("cookie: mine=1\r\n"), "{}", seen.text());
    // The URL that was given for this goes there at once.
    let host_url = shared["host_url"].as_str().unwrap();
    assert!(
        host_url.starts_with(&format!("http://{name}/?podflare_token=")),
        "{host_url}"
    );
    // A program needs no cookie, and the token is not for the guest.
    let seen = rig.get(named, &[&host]).await;
    assert!(
        seen.text().starts_with("GET /page?a=b HTTP/1.1"),
        "{}",
        seen.text()
    );
    // A cookie is for one port of one sandbox, a site's pages cannot use it, and without it nobody is let in.
    let elsewhere = format!("host: {}:7070", super::name(&rig.sandbox, rig.port ^ 1));
    assert_eq!(
        rig.get("/", &[&elsewhere, &cookies]).await.code(),
        "share_invalid"
    );
    let foreign = rig
        .get("/", &[&host, &cookies, "origin: http://evil.example"])
        .await;
    assert_eq!(foreign.code(), "foreign_origin");
    assert_eq!(rig.get("/", &[&host]).await.code(), "missing_key");
    assert_eq!(rig.get("/", &[&host, KEY]).await.status, 200);
    rig.daemon.stop().await;
}

#[tokio::test]
async fn a_url_is_good_until_its_time_is_over() {
    let rig = Rig::new().await;
    let shared = rig.share(r#"{"expires_in_seconds":2}"#).await;
    let url = shared["url"]
        .as_str()
        .unwrap()
        .strip_prefix("http://x")
        .unwrap()
        .to_owned();
    let expires = shared["expires_at_ms"].as_u64().unwrap();
    let begun = std::time::Instant::now();
    let expired = loop {
        let answer = rig.get(&url, &[X]).await;
        if answer.status != 200 {
            break answer;
        }
        assert!(begun.elapsed() < BOUND, "waited in vain until a URL expires");
    };
    assert!(crate::clock::now_ms() >= expires);
    assert_eq!((expired.status, expired.code().as_str()), (403, "share_expired"));
    assert!(
        expired.text().contains("this URL has expired"),
        "{}",
        expired.text()
    );
    let host = format!("host: {}", name(&rig.sandbox, rig.port));
    let token = url.split('/').nth(3).unwrap();
    let named = rig.get(&format!("/?podflare_token={token}"), &[&host]).await;
    assert_eq!((named.status, named.code().as_str()), (403, "share_expired"));
    for forged in ["/v1/shared/x/", "/v1/shared/x", "/v1/shared/x/a/b"] {
        assert_eq!(rig.get(forged, &[X]).await.code(), "share_invalid");
    }
    let path = format!("{}/share/{}", rig.sandbox, rig.port);
    for wrong in [r#"{"expires_in_seconds":0}"#, r#"{"expires_in_seconds":604801}"#] {
        assert_eq!(
            call(&rig.daemon, "POST", &path, wrong).await.code(),
            "invalid_field"
        );
    }
    rig.daemon.stop().await;
}

#[tokio::test]
async fn a_url_goes_with_its_sandbox_and_not_with_forks() {
    let rig = Rig::new().await;
    let shared = rig.shared_path().await;
    let forked = call(&rig.daemon, "POST", &format!("{}/fork", rig.sandbox), "{}").await;
    let child = forked.json()["children"][0].as_str().unwrap().to_owned();
    let named = name(&child, rig.port);
    let token = shared.split('/').nth(3).unwrap();
    let cookie = format!("cookie: podflare_token={token}");
    let refused = rig.get("/", &[&format!("host: {named}"), &cookie]).await;
    assert_eq!(refused.code(), "share_invalid");
    assert_eq!(rig.get(&shared, &[X]).await.status, 200);
    assert_eq!(call(&rig.daemon, "DELETE", &rig.sandbox, "").await.status, 204);
    let gone = rig.get(&shared, &[X]).await;
    assert_eq!((gone.status, gone.code().as_str()), (404, "sandbox_not_found"));
    let path = format!("{}/share/{}", rig.sandbox, rig.port);
    assert_eq!(
        call(&rig.daemon, "POST", &path, "").await.code(),
        "sandbox_not_found"
    );
    rig.daemon.stop().await;
}

#[tokio::test]
async fn a_daemon_that_comes_after_another_honours_its_urls() {
    let rig = Rig::new().await;
    let shared = rig.shared_path().await;
    let (simulation, sandbox) = (rig.daemon.simulation.clone(), rig.sandbox.clone());
    let (_, dir) = rig.daemon.end().await;
    let daemon = Daemon::open(with_keys(), simulation, dir).await;
    // The sandbox ended with that daemon, so that it is found to be gone shows that the URL counts.
    let gone = answer(daemon.address, &format!("GET {shared}"), &[X]).await;
    assert_eq!(gone.code(), "sandbox_not_found", "{sandbox}");
    daemon.stop().await;
}
