//! What a ring promises, seen from outside. The order of its atomics is proven in `loom_buffers`.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use airssys_integrity::{HeapRing, InlineRing, RingError, RingRead, RingReadError, RingWriteError};
use std::time::{Duration, Instant};

fn message(len: usize, salt: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at * 7 + salt * 13 + at / 256) as u8)
        .collect()
}

#[test]
fn messages_come_out_whole_and_in_order_and_then_the_stream_ends() {
    let (mut producer, mut consumer) = HeapRing::with_slots(8, 1_500).unwrap();
    let writer = std::thread::spawn(move || {
        for number in 0..2_000 {
            let message = message(number % 1_501, number);
            while producer.try_write(&message) == Err(RingWriteError::Full { slots: 8 }) {
                std::thread::yield_now();
            }
        }
    });
    let mut room = vec![0; 1_500];
    for number in 0..2_000 {
        let read = consumer.read_with_timeout(&mut room, Duration::from_secs(60));
        let RingRead::Ready(len) = read.unwrap() else {
            panic!("{read:?}");
        };
        assert_eq!(room.get(..len).unwrap(), message(number % 1_501, number));
    }
    writer.join().unwrap();
    assert_eq!(consumer.try_read(&mut room), Err(RingReadError::Ended));
}

#[test]
fn a_full_ring_takes_nothing_and_says_how_many_it_holds() {
    let mut ring = InlineRing::<2, 16>::new();
    let (mut producer, mut consumer) = ring.split();
    let mut room = [0; 12];
    for lap in 0..20_u8 {
        producer.try_write(&[lap]).unwrap();
        producer.try_write(&[lap, lap]).unwrap();
        let full = Err(RingWriteError::Full { slots: 2 });
        assert_eq!(producer.try_write(b"third"), full);
        assert_eq!(consumer.try_read(&mut room), Ok(RingRead::Ready(1)));
        assert_eq!(consumer.try_read(&mut room), Ok(RingRead::Ready(2)));
        assert_eq!(consumer.try_read(&mut room), Ok(RingRead::NotReady));
    }
}

#[test]
fn sizes_without_room_are_refused() {
    let mut ring = InlineRing::<2, 521>::new();
    let (mut producer, mut consumer) = ring.split();
    // 521 bytes are 512 and a tag, 1 and a tag.
    assert_eq!(
        (producer.message_limit(), consumer.message_limit()),
        (513, 513)
    );
    let too_large = RingWriteError::TooLarge {
        limit: 513,
        requested: 514,
    };
    assert_eq!(producer.try_write(&message(514, 0)), Err(too_large));
    producer.try_write(&message(513, 0)).unwrap();
    let mut room = [0; 513];
    let short = room.get_mut(..512).unwrap();
    let too_short = RingReadError::TooShort {
        needed: 513,
        len: 512,
    };
    assert_eq!(consumer.try_read(short), Err(too_short));
    assert_eq!(consumer.try_read(&mut room), Ok(RingRead::Ready(513)));
    assert_eq!(room.as_slice(), message(513, 0));
    assert!(matches!(
        HeapRing::with_slots(0, 1),
        Err(RingError::NoSlots)
    ));
    assert!(matches!(
        HeapRing::with_slots(1, 0),
        Err(RingError::NoSlots)
    ));
    let absurd = HeapRing::with_slots(1, usize::MAX);
    assert!(matches!(absurd, Err(RingError::TooLarge { .. })));
    let large = HeapRing::with_slots(1, usize::MAX / 2);
    assert!(matches!(large, Err(RingError::AllocationFailed(_))));
}

#[test]
fn every_single_flip_of_a_message_is_caught_and_the_next_one_comes_through() {
    let mut ring = InlineRing::<3, 700>::new();
    let (mut producer, mut consumer) = ring.split();
    let mut room = [0; 692];
    // Content, two tags, the length and its tag.
    let bits = 8 * (600 + 2 * 4 + size_of::<usize>() + 4);
    for bit in 0..bits {
        producer.try_write(&message(600, bit)).unwrap();
        producer.try_write(b"next").unwrap();
        assert!(consumer.flip_bit(bit));
        let read = consumer.try_read(&mut room);
        assert!(matches!(read, Err(RingReadError::Corrupt(_))), "bit {bit}");
        // Nothing of it is left where the caller could take it for a message.
        assert_eq!(room, [0; 692]);
        assert_eq!(consumer.try_read(&mut room), Ok(RingRead::Ready(4)));
        room.fill(0);
    }
    producer.try_write(&message(600, 0)).unwrap();
    assert!(!consumer.flip_bit(bits));
}

#[test]
fn a_producer_that_has_gone_ends_the_stream_after_its_last_message() {
    let mut ring = InlineRing::<2, 16>::new();
    let mut room = [0; 12];
    let (mut producer, mut consumer) = ring.split();
    producer.try_write(b"last").unwrap();
    drop(producer);
    assert_eq!(consumer.try_read(&mut room), Ok(RingRead::Ready(4)));
    assert_eq!(consumer.try_read(&mut room), Err(RingReadError::Ended));
    drop(consumer);
    // Two new ends start where the last ones stopped.
    let (mut producer, mut consumer) = ring.split();
    producer.try_write(b"again").unwrap();
    assert_eq!(consumer.try_read(&mut room), Ok(RingRead::Ready(5)));
    drop(consumer);
    assert_eq!(producer.try_write(b"lost"), Err(RingWriteError::Ended));
}

#[test]
fn a_read_times_out_on_an_empty_ring_and_not_before() {
    let (producer, mut consumer) = HeapRing::with_slots(1, 8).unwrap();
    let (start, timeout) = (Instant::now(), Duration::from_millis(20));
    let read = consumer.read_with_timeout(&mut [0; 8], timeout);
    assert_eq!(read, Ok(RingRead::Timeout));
    assert!(start.elapsed() >= timeout);
    drop(producer);
}

#[test]
fn a_clock_of_the_caller_decides_the_deadline_and_one_that_stands_still_ends_the_wait() {
    let mut ring = InlineRing::<1, 16>::new();
    let (mut producer, mut consumer) = ring.split();
    let mut room = [0; 12];
    let deadline = Duration::from_secs(5);
    let mut ticks = 0;
    let read = consumer.read_until(&mut room, deadline, || {
        ticks += 1;
        Duration::from_secs(ticks)
    });
    assert_eq!((read, ticks), (Ok(RingRead::Timeout), 5));
    let still = consumer.read_until(&mut room, deadline, || Duration::from_secs(1));
    assert_eq!(still, Ok(RingRead::NotReady));
    producer.try_write(b"here").unwrap();
    let read = consumer.read_until(&mut room, deadline, || deadline);
    assert_eq!(read, Ok(RingRead::Ready(4)));
}
