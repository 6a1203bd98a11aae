#![allow(clippy::unwrap_used, reason = "a failed set-up should fail the test")]

use std::sync::{Arc, mpsc};

use super::*;
use crate::{AuditDecision, AuditEntry};

fn call(subject: &str) -> Event<'_> {
    Event::Call(
        AuditEntry {
            component: "tool",
            generation: 1,
            capability: "filesystem",
            subject,
            decision: AuditDecision::Allow,
            rule: "",
        }
        .into(),
    )
}

#[test]
fn a_queue_takes_so_many_records_or_so_many_bytes_and_never_grows() {
    for (subject, fits) in [(String::new(), 16), ("x".repeat(1000), 7)] {
        let queue = Queue::new(16, OnFull::Refuse, Duration::from_secs(60));
        let capacity = queue.state().waiting.bytes.capacity();
        for _ in 0..fits {
            queue.push(0, &call(&subject)).unwrap();
        }
        assert_eq!(queue.push(0, &call(&subject)), Err(AuditFull::Queue));
        let mut batch = queue.empty_batch();
        assert_eq!(queue.take(&mut batch), Work::Write { lost: 0 });
        assert_eq!((batch.records, batch.bytes.capacity()), (fits, capacity));
        assert!(batch.bytes.len() <= 16 * BYTES_PER_RECORD);
        // There is room again at once, before the batch is on disk.
        queue.push(0, &call(&subject)).unwrap();
    }
}

#[test]
fn what_is_lost_is_counted_behind_what_waits() {
    let queue = Queue::new(16, OnFull::Drop, Duration::from_secs(60));
    for _ in 0..20 {
        queue.push(0, &call("")).unwrap();
    }
    let mut batch = queue.empty_batch();
    assert_eq!(queue.take(&mut batch), Work::Write { lost: 4 });
    assert_eq!((batch.records, queue.told().lost), (16, 4));
}

#[test]
fn a_queue_gives_out_what_waits_once_it_is_due() {
    let interval = Duration::from_millis(30);
    let queue = Queue::new(16, OnFull::Refuse, interval);
    let begun = Instant::now();
    queue.push(0, &call("")).unwrap();
    let mut batch = queue.empty_batch();
    assert_eq!(queue.take(&mut batch), Work::Write { lost: 0 });
    assert!(begun.elapsed() >= interval);
}

/// Spins until the writer waits like this.
fn until(queue: &Queue, asleep: Asleep) {
    let begun = Instant::now();
    while queue.state().asleep != asleep {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::yield_now();
    }
}

#[test]
fn a_writer_wakes_for_the_first_entry_and_for_half_a_queue_and_not_in_between() {
    let queue = Arc::new(Queue::new(16, OnFull::Refuse, Duration::from_secs(3600)));
    let (writers, (tell, told)) = (Arc::clone(&queue), mpsc::channel());
    std::thread::spawn(move || {
        let mut batch = writers.empty_batch();
        let work = writers.take(&mut batch);
        tell.send((work, batch.records)).unwrap();
    });
    until(&queue, Asleep::UntilWork);
    queue.push(0, &call("")).unwrap();
    until(&queue, Asleep::UntilDue);
    for _ in 0..6 {
        queue.push(0, &call("")).unwrap();
        assert_eq!(queue.state().asleep, Asleep::UntilDue);
    }
    queue.push(0, &call("")).unwrap();
    let taken = told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(taken, (Work::Write { lost: 0 }, 8));
}
