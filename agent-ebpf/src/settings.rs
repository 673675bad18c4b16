//! What userspace sets before loading: constants in the code, so that the verifier knows them and
//! reading them costs no load.

use agent_common::settings::Settings;
use aya_ebpf::Global;

/// What is more than one number. The numbers here are not used: see [`setting!`].
#[unsafe(no_mangle)]
static SETTINGS: Global<Settings> = Global::new(Settings {
    own_tgid: 0,
    features: 0,
    head_bytes: 4096,
    later_bytes: 256,
    port_count: 0,
    ports: [0; agent_common::settings::MAX_PORTS],
    payload_rings: 1,
    ring_limit: 6 << 20,
    ring_span: 1 << 20,
    process_rate: 0,
});

/// Address of [`SETTINGS`].
#[inline(always)]
pub fn settings() -> *const Settings {
    (&raw const SETTINGS).cast()
}

/// A constant that the loader writes: the instruction says which by its number.
macro_rules! constant {
    ($mark:expr, $of:ty, $field:ident) => {{
        let value: u64;
        // SAFETY: a move into a register.
        unsafe {
            core::arch::asm!(
                "{0} = {mark}",
                out(reg) value,
                mark = const $mark + (core::mem::offset_of!($of, $field) / 4) as i32,
                options(nomem, nostack),
            );
        }
        value
    }};
}

/// One number of the settings.
macro_rules! setting {
    ($field:ident) => {
        $crate::settings::constant!(
            agent_common::settings::SETTING_MARK,
            agent_common::settings::Settings,
            $field
        ) as u32
    };
}

/// One kernel struct offset.
macro_rules! offset {
    ($field:ident) => {
        $crate::settings::constant!(
            agent_common::settings::OFFSET_MARK,
            agent_common::settings::Offsets,
            $field
        )
    };
}

pub(crate) use {constant, offset, setting};

/// True when userspace switched the feature on.
#[inline(always)]
pub fn enabled(feature: u32) -> bool {
    let features = constant!(agent_common::settings::SETTING_MARK, Settings, features);
    features & u64::from(feature) != 0
}
