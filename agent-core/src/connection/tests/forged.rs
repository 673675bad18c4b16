//! Records that no kernel side wrote.

use super::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Forged records: no panic, an account that balances, bounded memory.
    #[test]
    fn forged_records_are_survived(
        records in proptest::collection::vec(
            (0u8..3, 0u8..3, any::<u16>(), 0u64..4, 0u64..400, any::<[bool; 3]>(), 0usize..40), 1..200)
    ) {
        let config = ShardConfig { max_connections: 3, max_held_bytes: 100, ..ShardConfig::default() };
        let mut shard = Shard::new(config);
        let mut kept = Kept::default();
        let mut tape = Tape::default();
        for (kind, way, flags, cookie, position, odd, len) in records {
            let position = if odd[0] { position.wrapping_sub(200) } else { position };
            let boot_ns = if odd[1] && odd[2] { u64::MAX } else { tape.now };
            tape.write(ProcessKey { tgid: 1, start_ns: 1 }, |header| {
                let header = Header { flags, direction: way, boot_ns, kind: kind + 1, ..header };
                let text = [GET, OK].concat();
                let bytes = &text[position as usize % 40..][..len.min(25)];
                forged(header, cookie, position, bytes)
            });
            shard.ingest(&tape.slots[tape.slots.len() - 1].event(), &mut kept);
            balanced(&shard);
            prop_assert!(shard.held_bytes() < 100 + 64 * 1024);
        }
        shard.finish(&mut kept);
        balanced(&shard);
        prop_assert_eq!(shard.held_bytes(), 0);
        prop_assert_eq!(started(&kept), ends(&kept).len(), "each request ends once");
    }
}

fn forged(header: Header, cookie: u64, position: u64, bytes: &[u8]) -> Slot {
    let (send_position, receive_position) = (position, position / 2);
    match header.kind {
        kind::CONNECTION => {
            let record = record::Connection {
                header,
                cookie,
                send_position,
                receive_position,
                role: header.cpu as u8,
                ..record::Connection::default()
            };
            Slot::new(record.as_bytes(), b"")
        }
        kind::PAYLOAD => {
            let captured_len = bytes.len() as u32;
            let header = Header { captured_len, total_len: position as u32 % 60, ..header };
            let payload =
                record::Payload { header, cookie, position, ..record::Payload::default() };
            Slot::new(payload.as_bytes(), bytes)
        }
        _ => {
            let closing = record::Closing { header, cookie, send_position, ..Default::default() };
            Slot::new(closing.as_bytes(), b"")
        }
    }
}
