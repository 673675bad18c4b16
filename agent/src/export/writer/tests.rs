//! Readers that stall, go away or come back.

use super::*;
use std::io::ErrorKind;
use std::sync::mpsc::{Receiver, Sender, channel};

fn as_it_is(_items: Items, body: Vec<u8>) -> io::Result<Vec<u8>> {
    Ok(body)
}

fn chunk(text: &str, spans: u64) -> Chunk {
    Chunk { body: text.as_bytes().to_vec(), items: Items { spans, ..Items::default() } }
}

/// Tells of each write and waits to be let go; ends with a broken pipe when nobody lets go.
struct Reader {
    begun: Sender<Vec<u8>>,
    go: Receiver<()>,
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begun.send(bytes.to_vec()).map_err(|_| ErrorKind::BrokenPipe)?;
        self.go.recv().map_err(|_| ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn stalled(max_bytes: usize) -> (Writer, Receiver<Vec<u8>>, Sender<()>) {
    let ((begun, seen), (let_go, go)) = (channel(), channel());
    let out = Box::new(Reader { begun, go });
    let writer = Writer::spawn("test".to_owned(), out, as_it_is, max_bytes).unwrap();
    (writer, seen, let_go)
}

/// Held, written, and lost by cause.
fn account(writer: &Writer) -> (u64, u64, Vec<(&'static str, u64)>) {
    let settled = writer.settled();
    let mut entries = Vec::new();
    settled.entries("test", "spans", |items| items.spans, &mut entries);
    let written = entries.iter().filter(|entry| entry.side == Side::Out).map(|entry| entry.count);
    let lost = entries.iter().filter_map(|entry| match entry.side {
        Side::Lost(cause) if entry.count > 0 => Some((cause, entry.count)),
        _ => None,
    });
    (settled.held().spans, written.sum(), lost.collect())
}

#[test]
fn a_reader_that_stalls_costs_what_does_not_fit_and_no_time() {
    let (mut writer, seen, let_go) = stalled(10 * (100 + PER_CHUNK));
    let begin = Instant::now();
    for _ in 0..25 {
        writer.write(chunk(&"x".repeat(100), 2));
    }
    // The reader would keep it for ever.
    assert!(begin.elapsed() < Duration::from_secs(10));
    seen.recv().unwrap();
    assert_eq!(account(&writer), (20, 0, vec![("queue_full", 30)]));
    // The reader is back: what waited arrives, and there is room again.
    for _ in 0..10 {
        let_go.send(()).unwrap();
    }
    writer.write(chunk("y", 1));
    let_go.send(()).unwrap();
    writer.close(Instant::now() + Duration::from_secs(10));
    let arrived: Vec<Vec<u8>> = seen.try_iter().collect();
    let (held, written, lost) = account(&writer);
    assert_eq!(held, 0);
    // The last chunk may have come before the first had left.
    assert_eq!(written + lost.iter().map(|(_, count)| count).sum::<u64>(), 51);
    assert_eq!(arrived.len() as u64, 9 + (written - 20), "{lost:?}");
}

#[test]
fn what_nobody_takes_until_the_deadline_is_lost_and_stays_counted_once() {
    let (mut writer, seen, let_go) = stalled(1 << 20);
    for _ in 0..3 {
        writer.write(chunk("x", 1));
    }
    seen.recv().unwrap();
    let begin = Instant::now();
    writer.close(begin + Duration::from_millis(50));
    assert!((50..10_000).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    writer.write(chunk("late", 1));
    let expected = (0, 0, vec![("shutdown", 4)]);
    assert_eq!(account(&writer), expected);
    // The write that was under way returns after all.
    let_go.send(()).unwrap();
    assert_eq!(seen.recv_timeout(Duration::from_millis(200)).ok(), None, "nothing follows");
    assert_eq!(account(&writer), expected);
}

#[test]
fn a_reader_that_has_gone_is_noticed_and_left_alone() {
    let (mut writer, seen, let_go) = stalled(1 << 20);
    drop(let_go);
    for _ in 0..3 {
        writer.write(chunk("x", 1));
    }
    writer.close(Instant::now() + Duration::from_secs(10));
    assert_eq!(account(&writer), (0, 0, vec![("reader_gone", 3)]));
    assert!(writer.is_gone());
    assert_eq!(seen.iter().count(), 1, "one attempt");
}
