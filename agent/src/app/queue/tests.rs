//! The queue's own tests.

use super::*;
use agent_core::message::Finished;

fn span(number: u64) -> SpanId {
    SpanId(number.to_be_bytes())
}

fn started(number: u64) -> Signal {
    Signal::Started(Box::new(Started { span: span(number), ..Started::default() }))
}

fn finished(number: u64) -> Signal {
    Signal::Finished(Finished { span: span(number), ..Finished::default() })
}

fn gone(cookie: u64) -> Signal {
    Signal::Gone { at: 0, cookie }
}

/// What comes out, as texts: `+1` a request begins, `-1` it ends, `x1` a connection is gone.
fn texts(inbox: &Inbox) -> (Vec<String>, Looked) {
    let mut texts = Vec::new();
    let looked = inbox.empty(
        |signal, last| {
            let number = |span: SpanId| u64::from_be_bytes(span.0);
            let text = match signal {
                Signal::Started(started) => format!("+{}", number(started.span)),
                Signal::Finished(finished) => format!("-{}", number(finished.span)),
                Signal::Gone { cookie, .. } => format!("x{cookie}"),
                Signal::Shed { process, .. } => format!("s{}", process.tgid),
                Signal::Opened { cookie, .. } => format!("o{cookie}"),
            };
            texts.push(if last { format!("{text} last") } else { text });
        },
        || Some(Box::default()),
    );
    (texts, looked)
}

fn account(outbox: &Outbox) -> [u64; 4] {
    let mut entries = Vec::new();
    outbox.ledger(&mut entries);
    let sides = [Side::In, Side::Out, Side::Held, Side::Lost("assembler_busy")];
    sides.map(|side| entries.iter().find(|e| e.side == side).map_or(0, |e| e.count))
}

#[test]
fn what_is_before_the_watermark_has_come_out() {
    let (mut outbox, inbox) = queue();
    assert_eq!(
        texts(&inbox),
        (vec![], Looked { signals: 0, until: 0, ended: false, shed_until: 0 })
    );
    outbox.signal(started(1));
    outbox.signal(finished(1));
    outbox.tick(70);
    outbox.signal(started(2));
    let expected = vec!["+1".to_owned(), "-1".to_owned()];
    assert_eq!(
        texts(&inbox),
        (expected, Looked { signals: 2, until: 70, ended: false, shed_until: 0 })
    );
    assert_eq!(account(&outbox), [2, 1, 1, 0]);
    outbox.tick(80);
    assert!(outbox.reuse().is_some(), "used messages come back");
    outbox.last();
    outbox.signal(finished(2));
    outbox.flush();
    assert_eq!(account(&outbox), [2, 2, 0, 0]);
    drop(outbox);
    let expected = vec!["+2".to_owned(), "-2 last".to_owned()];
    assert_eq!(
        texts(&inbox),
        (expected, Looked { signals: 2, until: 80, ended: true, shed_until: 0 })
    );
}

#[test]
fn a_quiet_ring_has_a_watermark_too() {
    let (mut outbox, inbox) = queue();
    for now in [10, 20] {
        outbox.tick(now);
        assert_eq!(texts(&inbox).1.until, now);
    }
}

#[test]
fn an_assembler_that_does_not_keep_up_costs_whole_requests_and_never_an_end_alone() {
    let (mut outbox, inbox) = queue();
    let fits = (PARCEL * PARCELS) as u64;
    (0..fits).for_each(|number| outbox.signal(started(number)));
    outbox.tick(10);
    let began = Instant::now();
    for number in fits..fits + 1000 {
        outbox.signal(started(number));
    }
    let waited = began.elapsed();
    assert!(waited >= PATIENCE && waited < 100 * PATIENCE, "{waited:?}: once, not for each");
    outbox.signal(finished(fits + 1));
    outbox.signal(finished(3));
    outbox.signal(gone(7));
    outbox.tick(20);
    assert_eq!(account(&outbox), [fits + 1000, fits, 0, 1000]);
    let (seen, looked) = texts(&inbox);
    assert_eq!((seen.len() as u64, looked.until), (fits, 10), "something is kept back");
    assert_eq!(looked.shed_until, 20, "requests that were shed are open");
    outbox.signal(started(9999));
    outbox.signal(finished(fits + 2));
    outbox.tick(30);
    let (seen, looked) = texts(&inbox);
    assert_eq!((seen, looked.until), (vec!["-3".into(), "x7".into(), "+9999".into()], 30));
    assert_eq!(looked.shed_until, 30);
    assert_eq!(account(&outbox), [fits + 1001, fits + 1, 0, 1000]);
    assert!(outbox.patient, "all parcels were back");
}

#[test]
fn the_last_word_waits_for_as_long_as_it_takes() {
    let (mut outbox, inbox) = queue();
    let fits = (PARCEL * PARCELS) as u64;
    (0..fits).for_each(|number| outbox.signal(started(number)));
    let ring = std::thread::spawn(move || {
        outbox.last();
        (0..2 * fits).for_each(|number| outbox.signal(finished(number)));
        outbox.flush();
        account(&outbox)
    });
    std::thread::sleep(3 * PATIENCE);
    let mut count = 0;
    loop {
        let (seen, looked) = texts(&inbox);
        count += seen.len() as u64;
        if looked.ended {
            break;
        }
    }
    assert_eq!(ring.join().expect("no panic"), [fits, fits, 0, 0]);
    assert_eq!(count, 3 * fits);
}

#[test]
fn without_an_assembler_nobody_waits() {
    let (mut outbox, inbox) = queue();
    drop(inbox);
    outbox.tick(1);
    assert!(outbox.is_closed());
    for number in 0..3 * (PARCEL * PARCELS) as u64 {
        outbox.signal(started(number));
        outbox.signal(gone(number));
    }
    assert!(outbox.kept.is_empty());
}
