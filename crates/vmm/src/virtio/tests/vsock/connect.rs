//! How connections begin and end.

use super::*;

#[test]
fn the_guest_finds_its_address_in_the_configuration() {
    let sockets = Sockets::new();
    assert_eq!(
        (sockets.guest.driver.get(0x100), sockets.guest.driver.get(0x104)),
        (3, 0)
    );
    let refused = Vsock::bind(VsockConfig {
        guest_cid: 2,
        socket: sockets.dir.path().join("x"),
    });
    assert!(matches!(refused, Err(VsockError::GuestCid { guest_cid: 2 })));
}

#[test]
fn a_host_process_reaches_a_port_of_the_guest() {
    let mut sockets = Sockets::new();
    let (mut stream, end) = sockets.connected();
    assert_eq!(end.guest_port, GUEST_PORT);
    stream.write_all(b"ping").unwrap();
    let (header, payload) = sockets.receive();
    assert_eq!(
        (Op::from_wire(header.op), payload.as_slice()),
        (Some(Op::Data), b"ping".as_slice())
    );
    sockets.send(&end.header(Op::Data, 4), b"pong");
    let mut pong = [0; 4];
    stream.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"pong");
    assert_eq!(sockets.counters.rx_bytes.load(Ordering::SeqCst), 4);
}

#[test]
fn bytes_sent_along_with_the_line_arrive_after_the_ok() {
    let mut sockets = Sockets::new();
    let mut stream = UnixStream::connect(&sockets.path).unwrap();
    stream.write_all(b"CONN").unwrap();
    stream.write_all(b"ECT 7\nearly bytes").unwrap();
    let request = sockets.expect(Op::Request);
    assert_eq!(request.dst_port, 7);
    sockets.send(&End::answer(&request).header(Op::Response, 0), &[]);
    assert_eq!(sockets.receive().1, b"early bytes");
}

#[test]
fn a_connection_the_guest_refuses_is_closed_without_an_ok() {
    let mut sockets = Sockets::new();
    let mut stream = sockets.host_connects();
    let request = sockets.expect(Op::Request);
    sockets.send(&End::answer(&request).header(Op::Reset, 0), &[]);
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    sockets.wait_for_no_connections();
}

#[test]
fn a_line_that_is_none_closes_the_connection() {
    let sockets = Sockets::new();
    for line in [
        "GET / HTTP/1.1\r\n",
        "CONNECT x\n",
        "CONNECT 000000000000000000000000000000001\n",
    ] {
        let mut stream = UnixStream::connect(&sockets.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        // An end, or a reset because the line was not read.
        let end = stream.read(&mut [0; 8]);
        assert!(matches!(&end, Ok(0)) || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
}

#[test]
fn the_guest_reaches_a_port_of_the_host_and_is_reset_where_nobody_listens() {
    let mut sockets = Sockets::new();
    let listener = sockets.listen(HOST_PORT);
    let end = End {
        host_port: HOST_PORT,
        guest_port: 5000,
        taken: 0,
    };
    sockets.send(&end.header(Op::Request, 0), &[]);
    sockets.expect(Op::Response);
    sockets.send(&end.header(Op::Data, 5), b"ready");
    sockets.send(&end.shutdown(BOTH), &[]);
    let mut text = String::new();
    listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
    assert_eq!(text, "ready");
    sockets.expect(Op::Reset);
    sockets.wait_for_no_connections();

    let nobody = End {
        host_port: 4711,
        ..end
    };
    sockets.send(&nobody.header(Op::Request, 0), &[]);
    assert_eq!(sockets.expect(Op::Reset).src_port, 4711);
}

#[test]
fn each_side_can_end_its_sending_alone() {
    let mut sockets = Sockets::new();
    let (mut stream, end) = sockets.connected();
    stream.write_all(b"last words").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(sockets.receive().1, b"last words");
    assert_eq!(sockets.expect(Op::Shutdown).flags, SHUTDOWN_SEND);
    sockets.send(&end.header(Op::Data, 6), b"answer");
    sockets.send(&end.shutdown(SHUTDOWN_SEND), &[]);
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "answer");
    drop(stream);
    assert_eq!(sockets.expect(Op::Shutdown).flags, BOTH);
    sockets.send(&end.shutdown(BOTH), &[]);
    sockets.expect(Op::Reset);
    sockets.wait_for_no_connections();
}

#[test]
fn connections_wait_for_receive_buffers() {
    let mut sockets = Sockets::without_buffers();
    let _stream = sockets.host_connects();
    let open = Arc::clone(&sockets.counters);
    wait_for("the connection", || {
        (open.connections_open.load(Ordering::SeqCst) == 1).then_some(())
    });
    sockets.post(RX_AREA);
    sockets.expect(Op::Request);
}

#[test]
fn a_reset_of_the_device_ends_its_connections_and_it_serves_again() {
    let mut sockets = Sockets::new();
    let (mut stream, _end) = sockets.connected();
    sockets.guest.driver.start();
    sockets.rx.clear();
    (sockets.tx_slot, sockets.tx_outstanding) = (0, 0);
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    (0..RX_BUFFERS).for_each(|at| sockets.post(RX_AREA + at * RX_BYTES as u64));
    let (mut stream, _end) = sockets.connected();
    stream.write_all(b"again").unwrap();
    assert_eq!(sockets.receive().1, b"again");
}

#[test]
fn a_clone_has_no_connections_tells_its_driver_and_serves_its_own_socket() {
    let mut sockets = Sockets::new();
    let (mut stream, _end) = sockets.connected();
    sockets.become_clone();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    // Nothing else reaches the guest before it knows.
    let waiting = sockets.host_connects();
    let open = Arc::clone(&sockets.counters);
    wait_for("the connection", || {
        (open.connections_open.load(Ordering::SeqCst) == 1).then_some(())
    });
    assert!(sockets.try_receive().is_none());
    let buffers = [0, 8, 16].map(|at| [Buffer::writable(TX_AREA + at, 8)]);
    sockets.guest.driver.write(TX_AREA, &[0xff; 24]);
    sockets.guest.driver.submit(EVENTS, &buffers[0]);
    assert_eq!(sockets.guest.wait_used(EVENTS).len, 4);
    assert_eq!(
        sockets.guest.driver.read(TX_AREA, 8),
        [0, 0, 0, 0, 255, 255, 255, 255]
    );
    // It has the event but may still be ending its connections, until it gives the buffer back.
    sockets.expect_quiet();
    sockets.guest.driver.submit(EVENTS, &buffers[1]);
    sockets.expect(Op::Request);
    drop(waiting);
}

#[test]
fn a_driver_with_many_event_buffers_tells_that_it_has_taken_note_of_a_cut() {
    let mut sockets = Sockets::new();
    for at in 0..8 {
        sockets
            .guest
            .driver
            .submit(EVENTS, &[Buffer::writable(TX_AREA + at * 8, 8)]);
    }
    sockets.become_clone();
    let waiting = sockets.host_connects();
    assert_eq!(sockets.guest.wait_used(EVENTS).len, 4);
    sockets.expect_quiet();
    let put_back = [Buffer::writable(TX_AREA, 8)];
    let driver = &mut sockets.guest.driver;
    driver.place(EVENTS, &put_back);
    assert!(driver.must_notify(EVENTS));
    driver.notify(EVENTS);
    sockets.expect(Op::Request);
    drop(waiting);
}
