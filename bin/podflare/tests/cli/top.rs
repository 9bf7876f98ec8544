//! `podflare top` against a host that answers from a script.

use std::sync::atomic::{AtomicU64, Ordering};

use client::scripted::{Answer, Scripted};

use crate::support::{Cli, ID};

/// Each look finds 500 ms of CPU time and 3 runs more.
fn host(recent: &'static str) -> Scripted {
    let looks = AtomicU64::new(0);
    Scripted::start(move |request| match request.line().as_str() {
        "GET /v1/sandboxes?usage=true" => {
            let look = looks.fetch_add(1, Ordering::SeqCst);
            let (cpu_ms, runs) = (1000 + 500 * look, 3 * look);
            Answer::new(
                200,
                &format!(
                    r#"{{"sandboxes":[{{"id":"{ID}","state":"ready","template":"default","ram_mib":1024,"rootfs_gb":4,
                    "vcpus":1,"created_at_ms":0,"persistent":false,"egress":true,"running_execs":1,"vmm_pid":7,
                    "usage":{{"runs":{runs},"run_ms":5,"cpu_ms":{cpu_ms},"memory_own_bytes":52428800,
                    "memory_resident_bytes":104857600}}}}]}}"#
                ),
            )
        }
        "GET /v1/capacity" => Answer::new(
            200,
            &format!(
                r#"{{"memory":{{"budget_mib":2048,"used_mib":512,"free_mib":1536}},
                "sandboxes":{{"booting":0,"ready":1,"failed":0,"ending":0}},
                "execs":{{"running":1,"per_sandbox_max":64,"boots_at_once_max":2}},
                "templates":["default"]{recent}}}"#
            ),
        ),
        _ => Answer::new(404, r#"{"error":"no","code":"route_not_found"}"#),
    })
    .unwrap()
}

const RECENT: &str =
    r#","recent":{"seconds":60,"creates":{"count":120,"p50_ms":2.5,"p95_ms":9.5},"runs":{"count":0}}"#;

#[test]
fn without_a_terminal_it_prints_one_table_and_ends() {
    let host = host(RECENT);
    let finished = Cli::with(&host).run(&["top"]);
    assert_eq!((finished.status, finished.stderr.as_str()), (0, ""));
    let out = finished.stdout;
    assert!(!out.contains('\x1b'), "{out}");
    assert!(out.contains("1 ready"), "{out}");
    assert!(out.contains("creates 2/s, p50 2.5 ms, p95 9.5 ms"), "{out}");
    assert!(out.contains("runs    0/s, p50 -, p95 -"), "{out}");
    assert!(out.contains("512 MiB of 2 GiB counted"), "{out}");
    let row = out.lines().find(|line| line.starts_with(ID)).unwrap();
    assert!(row.contains("50 MiB") && row.contains("100 MiB"), "{row}");
}

#[test]
fn a_program_gets_rates_between_two_looks_as_one_document() {
    let host = host("");
    let finished = Cli::with(&host).run(&["top", "--json", "--sort", "memory"]);
    assert_eq!((finished.status, finished.stderr.as_str()), (0, ""));
    let view: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
    let row = &view["sandboxes"][0];
    assert_eq!(
        (&row["id"], &row["runs"], &row["running_execs"]),
        (&ID.into(), &3.into(), &1.into())
    );
    // 500 ms in a second and what a busy machine adds to it.
    let percent = row["cpu_percent"].as_f64().unwrap();
    assert!((1.0..=50.1).contains(&percent), "{percent}");
    assert!(view["runs_per_second"].as_f64().unwrap() <= 3.1);
    assert_eq!(view["capacity"].get("recent"), None);
}

#[test]
fn a_host_that_is_not_there_is_a_failure_with_a_way_out() {
    let finished = Cli::alone().run(&["top", "--once"]);
    assert_eq!((finished.status, finished.stdout.as_str()), (1, ""));
    assert!(finished.stderr.contains("error:"), "{}", finished.stderr);
}
