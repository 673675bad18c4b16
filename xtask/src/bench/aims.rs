//! What kernspan aims to cost, and how a run stands to it. Prints, never fails: a figure belongs to
//! the machine and the moment that it was measured on.

/// One aim.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    /// What is measured.
    pub what: &'static str,
    /// Most it is to be.
    pub most: f64,
    /// Of both.
    pub unit: &'static str,
}

pub const BOTH_ENDS: Aim = Aim { what: "added CPU, both ends", most: 4.5, unit: "us/request" };
pub const ONE_END: Aim = Aim { what: "added CPU, one end", most: 2.5, unit: "us/request" };
pub const TLS_ONE_END: Aim =
    Aim { what: "added CPU over TLS, one end", most: 6.0, unit: "us/request" };
pub const READY: Aim = Aim { what: "started and attached after", most: 1.0, unit: "s" };
pub const STOPPED: Aim = Aim { what: "stopped after", most: 2.0, unit: "s" };
pub const ANONYMOUS: Aim = Aim { what: "anonymous memory", most: 64.0, unit: "MB" };
pub const KERNEL: Aim = Aim { what: "kernel maps (and 235 B a socket)", most: 32.0, unit: "MB" };
pub const EXPORT: Aim = Aim { what: "export after a span's end, 99 %", most: 250.0, unit: "ms" };

impl Aim {
    /// One line: what was measured, the aim, and whether it was met.
    pub fn line(&self, measured: f64) -> String {
        let verdict = if measured <= self.most { "met" } else { "missed" };
        let Aim { what, most, unit } = self;
        format!("{what:<33} {measured:>9.2} {unit:<11} aim {most:>6.1}  {verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_is_met_up_to_its_own_value() {
        for (measured, verdict) in [(4.5, "met"), (4.6, "missed"), (f64::NAN, "missed")] {
            assert!(BOTH_ENDS.line(measured).ends_with(verdict), "{measured}");
        }
    }
}
