//! Ports on host names of their own.

use super::*;

#[tokio::test]
async fn a_name_leads_to_its_port_with_the_path_as_it_is() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let port = mirror().await;
    let host = format!("host: {}:7070", name(&sandbox, port));
    // Paths of the API mean nothing there.
    for asked in [
        "/",
        "/v1/sandboxes",
        "/r/eu/x",
        "/docs",
        "/terminal",
        "//a",
        "/share?x=1",
    ] {
        let seen = answer(daemon.address, &format!("GET {asked}"), &[&host]).await;
        assert_eq!(seen.status, 200, "{asked}");
        assert!(
            seen.text().starts_with(&format!("GET {asked} HTTP/1.1\r\n")),
            "{}",
            seen.text()
        );
        assert!(seen.text().contains(&format!("{host}\r\n")), "{}", seen.text());
        assert!(!seen.text().contains("x-forwarded-prefix"), "{}", seen.text());
        // It is a site of its own.
        assert_eq!(seen.header("content-security-policy"), None);
    }
    let (_held, port) = quiet_port();
    let other = format!("host: {}", name(&sandbox, port));
    assert_eq!(
        answer(daemon.address, "GET /", &[&other]).await.code(),
        "port_refused"
    );
    let unknown = "host: 80-sbx-00000000000000000000000000000000.localhost";
    assert_eq!(
        answer(daemon.address, "GET /", &[unknown]).await.code(),
        "sandbox_not_found"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn only_its_own_pages_and_those_of_the_same_sandbox_may_call_it() {
    let daemon = Daemon::start().await;
    let (sandbox, other) = (daemon.sandbox().await, daemon.sandbox().await);
    let port = mirror().await;
    let host = format!("host: {}:7070", name(&sandbox, port));
    let own = format!("origin: http://{}:7070", name(&sandbox, port));
    let beside = format!("origin: http://{}:7070", name(&sandbox, 3000));
    for origin in [&own, &beside] {
        let seen = answer(daemon.address, "GET /", &[&host, origin]).await;
        assert_eq!(seen.status, 200, "{origin}");
        // The program judges by itself, too.
        assert!(seen.text().contains(origin.as_str()));
    }
    let neighbour = format!("origin: http://{}:7070", name(&other, port));
    let evil = "origin: http://evil.example".to_owned();
    for origin in [&neighbour, &evil, &"origin: null".to_owned()] {
        let refused = answer(daemon.address, "GET /", &[&host, origin]).await;
        assert_eq!(refused.code(), "foreign_origin", "{origin}");
    }
    // And none of them may call the API.
    let refused = answer(
        daemon.address,
        "GET /v1/sandboxes",
        &["host: localhost:7070", &own],
    )
    .await;
    assert_eq!(refused.code(), "foreign_origin");
    daemon.stop().await;
}

#[tokio::test]
async fn browsers_are_sent_to_the_name_and_programs_are_not() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let port = mirror().await;
    let line = format!("GET {}/a%20b?c=d", path(&sandbox, port));
    let host = format!("host: {}", daemon.address);
    let to = format!(
        "http://{}:{}/a%20b?c=d",
        name(&sandbox, port),
        daemon.address.port()
    );
    let modern = ["sec-fetch-mode: navigate"];
    let old = ["accept: text/html,*/*", "user-agent: Mozilla/5.0 (X11)"];
    for browser in [&modern[..], &old] {
        let headers = [&[host.as_str()], browser].concat();
        let sent_on = answer(daemon.address, &line, &headers).await;
        assert_eq!(
            (sent_on.status, sent_on.header("location")),
            (302, Some(to.as_str()))
        );
    }
    for program in [
        &["accept: */*"][..],
        &["sec-fetch-mode: cors", "accept: text/html"],
    ] {
        let headers = [&[host.as_str()], program].concat();
        assert_eq!(answer(daemon.address, &line, &headers).await.status, 200);
    }
    // From another machine `localhost` would lead somewhere else.
    let headers = ["host: 10.0.0.1:7070", modern[0]];
    assert_eq!(answer(daemon.address, &line, &headers).await.status, 200);
    daemon.stop().await;
}

#[tokio::test]
async fn without_a_domain_names_mean_nothing() {
    let setup = Setup {
        ports_domain: None,
        ..Setup::default()
    };
    let daemon = Daemon::with(setup).await;
    let sandbox = daemon.sandbox().await;
    let port = mirror().await;
    let host = format!("host: {}", name(&sandbox, port));
    let list = answer(daemon.address, "GET /v1/sandboxes", &[&host]).await.json();
    assert_eq!(list["sandboxes"].as_array().unwrap().len(), 1);
    let line = format!("GET {}/", path(&sandbox, port));
    let visit = answer(
        daemon.address,
        &line,
        &["host: localhost", "sec-fetch-mode: navigate"],
    )
    .await;
    assert_eq!(visit.status, 200);
    daemon.stop().await;
}
