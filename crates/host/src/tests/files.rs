//! Files over HTTP: the real agent's file services, on files of the machine that the tests run on.

mod content;
mod streams;
mod trees;

use std::path::Path;

use tempfile::TempDir;

use super::client::{Connection, Response};
use super::{Daemon, eventually};

/// A sandbox, and a directory it may use.
struct Rig {
    daemon: Daemon,
    sandbox: String,
    home: TempDir,
}

impl Rig {
    async fn new() -> Self {
        let daemon = Daemon::start().await;
        let sandbox = daemon.sandbox().await;
        let home = tempfile::tempdir().unwrap();
        Self {
            daemon,
            sandbox,
            home,
        }
    }

    /// The URL of a file, with more of a query.
    fn url(&self, name: &str, more: &str) -> String {
        let path = api::percent_encoded(self.at(name).to_str().unwrap().as_bytes());
        format!("{}/files?path={path}{more}", self.sandbox)
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }

    async fn call(&self, method: &str, url: &str, headers: &str, body: &str) -> Response {
        let mut connection = Connection::open(self.daemon.address).await;
        connection.send(method, url, headers, body).await;
        connection.response().await
    }

    async fn get(&self, name: &str) -> Response {
        self.call("GET", &self.url(name, ""), "", "").await
    }

    async fn put(&self, name: &str, body: &str) -> Response {
        self.call("PUT", &self.url(name, ""), "", body).await
    }
}

fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
