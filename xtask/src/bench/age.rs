//! How old spans are when they arrive: ends of the spans in an `ExportTraceServiceRequest`.
//!
//! Only the way to `Span.end_time_unix_nano` is read (`trace.proto`, `trace_service.proto`:
//! `resource_spans` 1, `scope_spans` 2, `spans` 2, `end_time_unix_nano` 8).

/// Calls `found` with the end of each span, Unix ns. Stops at bytes that are no protobuf.
pub fn span_ends(request: &[u8], found: &mut impl FnMut(u64)) {
    walk(request, &mut |field, value| {
        let Value::Bytes(resource_spans) = value else { return };
        if field != 1 {
            return;
        }
        each(resource_spans, 2, &mut |scope_spans| {
            each(scope_spans, 2, &mut |span| {
                walk(span, &mut |field, value| match value {
                    Value::Fixed64(end) if field == 8 => found(end),
                    _ => {}
                });
            });
        });
    });
}

fn each(message: &[u8], wanted: u64, found: &mut dyn FnMut(&[u8])) {
    walk(message, &mut |field, value| match value {
        Value::Bytes(inner) if field == wanted => found(inner),
        _ => {}
    });
}

enum Value<'a> {
    Bytes(&'a [u8]),
    Fixed64(u64),
    Other,
}

/// Calls `found` with each field of a message.
fn walk(mut message: &[u8], found: &mut dyn FnMut(u64, Value<'_>)) {
    while let Some((field, value)) = next(&mut message) {
        found(field, value);
    }
}

fn next<'a>(message: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let key = varint(message)?;
    let value = match key & 7 {
        0 => varint(message).map(|_| Value::Other)?,
        1 => Value::Fixed64(u64::from_le_bytes(take(message, 8)?.try_into().ok()?)),
        2 => {
            let len = usize::try_from(varint(message)?).ok()?;
            Value::Bytes(take(message, len)?)
        }
        5 => take(message, 4).map(|_| Value::Other)?,
        _ => return None,
    };
    Some((key >> 3, value))
}

fn take<'a>(message: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(len)?;
    *message = rest;
    Some(taken)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = *take(message, 1)? else { return None };
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Ages in milliseconds; the last class is "a second or more".
#[derive(Debug)]
pub struct Ages([u64; 1001]);

impl Default for Ages {
    fn default() -> Self {
        Ages([0; 1001])
    }
}

impl Ages {
    /// One more span.
    pub fn add(&mut self, ns: u64) {
        let class = usize::try_from(ns / 1_000_000).unwrap_or(usize::MAX).min(1000);
        self.0[class] += 1;
    }

    /// Spans so far, and the ages in ms that half and 99 % of them do not exceed.
    pub fn summary(&self) -> (u64, usize, usize) {
        let all: u64 = self.0.iter().sum();
        (all, self.quantile(all, 50), self.quantile(all, 99))
    }

    fn quantile(&self, all: u64, percent: u64) -> usize {
        let wanted = (all * percent).div_ceil(100);
        let mut below = 0;
        let reaches = |count: &u64| {
            below += count;
            below >= wanted
        };
        self.0.iter().position(reaches).map_or(0, |class| class + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_all_spans_are_found_and_nothing_else() {
        // Two spans: name (5), end (8), flags (16, fixed32); between them a scope (1).
        let span = |end: u64| {
            let mut bytes = vec![5 << 3 | 2, 1, b'x', 8 << 3 | 1];
            bytes.extend(end.to_le_bytes());
            bytes.extend([0x85, 0x01, 1, 0, 0, 0]);
            bytes
        };
        let nested = |field: u8, inner: &[u8]| {
            [&[field << 3 | 2, u8::try_from(inner.len()).unwrap()], inner].concat()
        };
        let scope_spans = [nested(1, b""), nested(2, &span(7)), nested(2, &span(1 << 60))].concat();
        let request = nested(1, &nested(2, &scope_spans));
        let mut ends = Vec::new();
        span_ends(&request, &mut |end| ends.push(end));
        assert_eq!(ends, [7, 1 << 60]);
        for cut in 0..request.len() {
            span_ends(&request[..cut], &mut |_| {});
        }
    }

    #[test]
    fn quantiles_are_upper_bounds() {
        let mut ages = Ages::default();
        assert_eq!(ages.summary(), (0, 1, 1));
        (0..100).for_each(|ms| ages.add(ms * 1_000_000));
        ages.add(u64::MAX);
        assert_eq!(ages.summary(), (101, 51, 100));
    }
}
