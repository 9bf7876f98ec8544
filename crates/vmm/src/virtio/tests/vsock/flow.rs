//! Bytes under way: order, credit both ways, turns.

use super::*;

/// Echoes everything back until the host has closed, obeying credit both ways.
fn echo(sockets: &mut Sockets, mut end: End) {
    let (mut sent, mut told) = (0_u32, 0_u32);
    let mut waiting = VecDeque::new();
    loop {
        let (header, payload) = sockets.receive();
        let peer_taken = header.fwd_cnt;
        match Op::from_wire(header.op) {
            Some(Op::Data) => waiting.extend(payload),
            Some(Op::Shutdown) if header.flags == BOTH => {
                return sockets.send(&end.header(Op::Reset, 0), &[]);
            }
            Some(Op::Shutdown | Op::CreditUpdate) => {}
            Some(Op::CreditRequest) => told = end.taken.wrapping_sub(GUEST_BUFFER),
            other => panic!("{other:?}"),
        }
        loop {
            let credit = BUFFER_BYTES - sent.wrapping_sub(peer_taken);
            let len = waiting.len().min(credit as usize).min(60_000);
            if len == 0 {
                break;
            }
            let bytes: Vec<u8> = waiting.drain(..len).collect();
            end.taken = end.taken.wrapping_add(u32::try_from(len).unwrap());
            told = end.taken;
            sent = sent.wrapping_add(u32::try_from(len).unwrap());
            sockets.send(&end.header(Op::Data, len), &bytes);
        }
        if end.taken.wrapping_sub(told) > 0 {
            told = end.taken;
            sockets.send(&end.header(Op::CreditUpdate, 0), &[]);
        }
    }
}

#[test]
fn megabytes_are_echoed_in_order_through_chunks_of_any_size() {
    let mut sockets = Sockets::new();
    let (stream, end) = sockets.connected();
    let bytes = pattern(6 << 20);
    let expected = bytes.clone();
    let mut sender = stream.try_clone().unwrap();
    let sending = thread::spawn(move || {
        let (mut rest, mut chunk) = (bytes.as_slice(), 1);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(chunk));
            sender.write_all(now).unwrap();
            rest = later;
            chunk = chunk * 7 % 100_003 + 1;
        }
    });
    let mut reader = stream;
    let reading = thread::spawn(move || {
        let mut back = vec![0; expected.len()];
        reader.read_exact(&mut back).unwrap();
        assert!(back == expected, "the echo differs");
    });
    echo(&mut sockets, end);
    sending.join().unwrap();
    reading.join().unwrap();
    sockets.wait_for_no_connections();
    assert_eq!(sockets.counters.tx_bytes.load(Ordering::SeqCst), 6 << 20);
}

#[test]
fn a_host_that_does_not_read_holds_the_guest_back_and_loses_nothing() {
    let mut sockets = Sockets::new();
    let (mut stream, end) = sockets.connected();
    let bytes = pattern(4 << 20);
    let (mut sent, mut taken) = (0, 0_u32);
    // Until credit is used up: the socket's own buffer and ours.
    loop {
        while let Some((header, _)) = sockets.try_receive() {
            assert_eq!(Op::from_wire(header.op), Some(Op::CreditUpdate));
            taken = header.fwd_cnt;
        }
        let credit = BUFFER_BYTES - u32::try_from(sent).unwrap().wrapping_sub(taken);
        if credit == 0 {
            // No update is on its way: the device has answered everything before this.
            sockets.expect_nothing();
            break;
        }
        let len = 50_000.min(credit as usize);
        sockets.send(&end.header(Op::Data, len), &bytes[sent..sent + len]);
        sent += len;
    }
    let mut back = vec![0; sent];
    stream.read_exact(&mut back).unwrap();
    assert!(back == bytes[..sent], "bytes were lost or changed");
    let update = sockets.expect(Op::CreditUpdate);
    assert!(BUFFER_BYTES - u32::try_from(sent).unwrap().wrapping_sub(update.fwd_cnt) > 0);
}

#[test]
fn a_large_packet_goes_back_to_the_guest_though_it_has_nothing_to_receive() {
    let mut sockets = Sockets::new();
    let (_stream, end) = sockets.connected();
    sockets.send(&end.header(Op::Data, 50_000), &pattern(50_000));
    wait_for("the buffers of all that was sent", || {
        while sockets.guest.driver.poll(TX).is_some() {
            sockets.tx_outstanding -= 1;
        }
        (sockets.tx_outstanding == 0).then_some(())
    });
}

#[test]
fn a_guest_that_does_not_read_holds_the_host_back() {
    let mut sockets = Sockets::new();
    let (mut stream, mut end) = sockets.connected();
    stream.set_nonblocking(true).unwrap();
    let bytes = pattern(2 << 20);
    let mut written = 0;
    let mut received = Vec::new();
    while received.len() < GUEST_BUFFER as usize {
        match stream.write(&bytes[written..]) {
            Ok(count) => written += count,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        if let Some((header, payload)) = sockets.try_receive() {
            assert_eq!(Op::from_wire(header.op), Some(Op::Data));
            received.extend(payload);
        }
    }
    assert_eq!(received.len(), GUEST_BUFFER as usize);
    sockets.expect(Op::CreditRequest);
    sockets.expect_nothing();
    end.taken = 1000;
    sockets.send(&end.header(Op::CreditUpdate, 0), &[]);
    assert_eq!(sockets.receive().1.len(), 1000);
    assert!(bytes.starts_with(&received));
}

#[test]
fn a_guest_that_gives_up_closing_loses_none_of_what_it_sent() {
    let mut sockets = Sockets::new();
    let (mut stream, end) = sockets.connected();
    let bytes = pattern(400_000);
    let mut taken = 0;
    for (at, chunk) in bytes.chunks(50_000).enumerate() {
        sockets.send(&end.header(Op::Data, chunk.len()), chunk);
        while u32::try_from((at + 2) * 50_000).unwrap() > BUFFER_BYTES + taken {
            taken = sockets.expect(Op::CreditUpdate).fwd_cnt;
        }
    }
    sockets.send(&end.shutdown(BOTH), &[]);
    sockets.send(&end.header(Op::Reset, 0), &[]);
    sockets.expect_nothing();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert!(back == bytes);
}

#[test]
fn many_connections_take_turns() {
    let mut sockets = Sockets::new();
    let mut connected: Vec<_> = (0..20).map(|_| sockets.connected()).collect();
    for (stream, _) in &mut connected {
        stream.set_nonblocking(true).unwrap();
        // As much as the guest takes without an answer; all of it waits when the first packet is looked at.
        stream.write_all(&[7; 60_000]).unwrap();
    }
    let mut received: HashMap<u32, usize> = HashMap::new();
    while received.values().sum::<usize>() < 20 * 60_000 {
        let (header, payload) = sockets.receive();
        if header.op == Op::Data as u16 {
            *received.entry(header.src_port).or_default() += payload.len();
        }
    }
    assert!(received.len() == 20 && received.values().all(|count| *count == 60_000));
}
