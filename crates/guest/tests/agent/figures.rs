//! How long things take here. Printed with `--nocapture`; the bound only catches what is broken.

use std::time::{Duration, Instant};

use crate::rig::Rig;

#[test]
fn a_hot_run_is_quick() {
    let rig = Rig::new();
    let mut host = rig.host();
    let mut times: Vec<Duration> = (0..500)
        .map(|_| {
            let start = Instant::now();
            host.python("print(1)").says("1\n");
            start.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "print(1): p50 {:?}, p95 {:?}, best {:?}",
        times[250], times[475], times[0]
    );
    // The best, which has nothing to do with what else the machine does.
    assert!(times[0] < Duration::from_millis(20));
}

#[test]
fn bulk_output_is_quick() {
    let rig = Rig::new();
    let mut host = rig.host();
    for code in ["for i in range(200_000): print(i)", "print('x' * 12_000_000)"] {
        let start = Instant::now();
        assert_eq!(host.python(code).code, 0);
        println!("{code}: {:?}", start.elapsed());
    }
}
