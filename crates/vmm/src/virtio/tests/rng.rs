//! Random bytes for the guest.

use std::time::Instant;

use super::super::driver::{Buffer, DATA, Driver, settle};
use super::super::rng::{PERIOD, PERIOD_BYTES, REQUEST_BYTES_MAX, Rng};
use super::Guest;

#[test]
fn buffers_are_filled_with_bytes_that_differ() {
    let mut guest = Guest::start(Rng::new().unwrap());
    for at in 0..2 {
        guest.driver.submit(
            0,
            &[
                Buffer::writable(DATA + at * 64, 30),
                Buffer::writable(DATA + at * 64 + 30, 34),
            ],
        );
        assert_eq!(guest.wait_used(0).len, 64);
    }
    let (one, other) = (guest.driver.read(DATA, 64), guest.driver.read(DATA + 64, 64));
    assert!(one != other && one != [0; 64]);
}

#[test]
fn one_request_gets_a_bounded_amount() {
    let mut guest = Guest::start(Rng::new().unwrap());
    guest.driver.submit(0, &[Buffer::writable(DATA, 1024 * 1024)]);
    assert_eq!(guest.wait_used(0).len as usize, REQUEST_BYTES_MAX);
}

#[test]
fn a_greedy_guest_waits_for_the_next_period_and_is_served_then() {
    let (mut driver, mut events) = Driver::new(Box::new(Rng::new().unwrap()));
    driver.start();
    let began = Instant::now();
    let requests = 2 * PERIOD_BYTES / REQUEST_BYTES_MAX;
    for _ in 0..requests {
        driver.submit(0, &[Buffer::writable(DATA, REQUEST_BYTES_MAX)]);
    }
    settle(&mut events);
    let at_once = std::iter::from_fn(|| driver.poll(0)).count();
    // A busy machine may be in the next period already.
    let periods = 1 + usize::try_from(began.elapsed().as_millis() / PERIOD.as_millis()).unwrap();
    assert!(at_once <= periods * PERIOD_BYTES / REQUEST_BYTES_MAX, "no bound");
    super::wait_for("the rest", || {
        events.run_with_timeout(200).unwrap();
        driver.poll(0)
    });
}
