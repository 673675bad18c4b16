//! Lost records, seen in the sequence numbers: the kernel numbers what each CPU tries to write to
//! a ring, so a gap is a loss, known to be one without asking the kernel.

/// Next sequence number of each CPU, for one ring.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// Indexed by CPU; at most 65,536 entries, as `Header::cpu` has 16 bits.
    next: Vec<u64>,
    /// Records that are missing.
    pub(super) lost: u64,
    /// Records whose number had passed already: none, unless bytes are forged.
    pub(super) disordered: u64,
}

impl Sequence {
    /// Takes a record's number.
    pub(super) fn take(&mut self, cpu: u16, seq: u64) {
        let next = self.slot(cpu);
        let expected = *next;
        if seq < expected {
            self.disordered += 1;
            return;
        }
        *next = seq.saturating_add(1);
        self.lost = self.lost.saturating_add(seq - expected);
    }

    /// The kernel numbered the records of `cpu` up to `next`, exclusive: what is missing at the
    /// end is lost as well.
    pub(super) fn settle(&mut self, cpu: u16, next: u64) {
        let slot = self.slot(cpu);
        let missing = next.saturating_sub(*slot);
        *slot += missing;
        self.lost = self.lost.saturating_add(missing);
    }

    fn slot(&mut self, cpu: u16) -> &mut u64 {
        let index = usize::from(cpu);
        if index >= self.next.len() {
            self.next.resize(index + 1, 0);
        }
        &mut self.next[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_counted_per_cpu() {
        let mut sequence = Sequence::default();
        for (cpu, seq) in [(0, 0), (1, 0), (0, 1), (1, 3), (0, 2), (1, 4), (7, 2)] {
            sequence.take(cpu, seq);
        }
        assert_eq!((sequence.lost, sequence.disordered), (4, 0));
        sequence.settle(0, 10);
        sequence.settle(1, 5);
        assert_eq!(sequence.lost, 11, "seven more at the end of CPU 0, none on CPU 1");
    }

    #[test]
    fn hostile_numbers_do_not_overflow() {
        let mut sequence = Sequence::default();
        for seq in [u64::MAX, u64::MAX, 0, 5] {
            sequence.take(u16::MAX, seq);
            sequence.take(3, seq);
        }
        sequence.settle(3, u64::MAX);
        assert_eq!(sequence.lost, u64::MAX);
        assert_eq!(sequence.disordered, 4, "0 and 5 on each CPU");
    }
}
