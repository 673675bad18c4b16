//! Whether what was sent arrived: every span and log record once, and unchanged.

use crate::otlp::Telemetry;
use std::collections::HashMap;
use std::fmt::Debug;

/// What became of one kind of items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Items that were sent.
    pub sent: usize,
    /// Sent items that did not arrive, in full.
    pub missing: Vec<String>,
    /// Arrived items that nobody sent like this, in full.
    pub strangers: Vec<String>,
    /// Arrivals beyond the number sent (OTLP delivers at least once).
    pub repeated: usize,
}

impl Delivery {
    /// Compares spans: ids, times, names, attributes and resources.
    pub fn of_spans(sent: &Telemetry, arrived: &Telemetry) -> Delivery {
        Delivery::of(&sent.spans, &arrived.spans)
    }

    /// Compares log records.
    pub fn of_logs(sent: &Telemetry, arrived: &Telemetry) -> Delivery {
        Delivery::of(&sent.logs, &arrived.logs)
    }

    fn of<Item: Debug>(sent: &[Item], arrived: &[Item]) -> Delivery {
        let mut open: HashMap<String, (usize, usize)> = HashMap::new();
        for item in sent {
            open.entry(format!("{item:?}")).or_default().0 += 1;
        }
        let mut delivery = Delivery { sent: sent.len(), ..Delivery::default() };
        for item in arrived {
            match open.get_mut(&format!("{item:?}")) {
                Some((sent, arrived)) if *arrived < *sent => *arrived += 1,
                Some(_) => delivery.repeated += 1,
                None => delivery.strangers.push(format!("{item:?}")),
            }
        }
        for (item, (sent, arrived)) in open {
            delivery.missing.extend(std::iter::repeat_n(item, sent - arrived));
        }
        delivery
    }

    /// Demands that everything sent arrived unchanged.
    ///
    /// # Panics
    /// When something is missing or strange.
    pub fn complete(&self, what: &str) {
        self.unchanged(what);
        let (missing, sent) = (self.missing.len(), self.sent);
        assert!(missing == 0, "{what}: {missing} of {sent} missing, one: {}", self.missing[0]);
    }

    /// Demands that what arrived had been sent like this.
    ///
    /// # Panics
    /// When something is strange.
    pub fn unchanged(&self, what: &str) {
        let (strange, sent) = (self.strangers.len(), self.sent);
        assert!(
            strange == 0,
            "{what}: {strange} beside {sent} sent\narrived: {}\nmissing: {:?}",
            self.strangers[0],
            self.missing.first()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_changed_and_repeated_items_are_told_apart() {
        for (why, arrived, missing, strangers, repeated) in [
            ("all", vec![1, 2, 2], 0, 0, 0),
            ("lost", vec![2, 2], 1, 0, 0),
            ("one of two", vec![1, 2], 1, 0, 0),
            ("changed", vec![1, 2, 3], 1, 1, 0),
            ("repeated", vec![1, 1, 2, 2], 0, 0, 1),
            ("nothing", vec![], 3, 0, 0),
        ] {
            let delivery = Delivery::of(&[1, 2, 2], &arrived);
            let counts = (delivery.missing.len(), delivery.strangers.len(), delivery.repeated);
            assert_eq!(counts, (missing, strangers, repeated), "{why}");
            let complete = std::panic::catch_unwind(|| delivery.complete(why)).is_ok();
            assert_eq!(complete, missing + strangers == 0, "{why}");
        }
    }
}
