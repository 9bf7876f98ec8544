//! What the exec path costs, for people to look at: `cargo test --release -p host bench -- --ignored --nocapture`.

use std::time::Instant;

use super::Daemon;
use super::client::Connection;

#[tokio::test]
#[ignore = "prints figures instead of checking them"]
async fn bench_exec_over_one_connection() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let mut connection = Connection::open(daemon.address).await;
    let path = format!("{sandbox}/exec");
    let mut times = Vec::new();
    for _ in 0..5000 {
        let started = Instant::now();
        connection
            .send("POST", &path, "", r#"{"code":"echo 1","language":"python"}"#)
            .await;
        assert_eq!(connection.response().await.status, 200);
        times.push(started.elapsed());
    }
    times.sort();
    for percent in [5, 50, 95, 99] {
        println!("p{percent}: {:?}", times[times.len() * percent / 100]);
    }
    daemon.stop().await;
}
