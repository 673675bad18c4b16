//! Which kernel struct field each of [`Offsets`] is, and reading them from type information.

use super::btf::Btf;
use agent_common::settings::{MISSING, Offsets};

/// Reads every offset; gives the names of fields that this kernel does not have.
pub fn resolve(btf: &Btf) -> (Offsets, Vec<&'static str>) {
    let mut missing = Vec::new();
    let mut find = |field: &'static str, candidates: &[(&str, &str)]| {
        let found = candidates.iter().find_map(|(name, path)| btf.offset(name, path));
        if found.is_none() {
            missing.push(field);
        }
        found.unwrap_or(MISSING)
    };
    let number = |name| btf.enumerator("iter_type", name).unwrap_or(MISSING);
    let numbers = (number("ITER_UBUF"), number("ITER_IOVEC"));
    let structure = |name| btf.structure(name).unwrap_or(MISSING);
    macro_rules! offsets {
        ($($field:ident: $($structure:literal . $path:literal)|+;)*) => {
            Offsets {
                $($field: find(stringify!($field), &[$(($structure, $path)),+]),)*
                iter_is_ubuf: numbers.0,
                iter_is_iovec: numbers.1,
                type_tcp_sock: structure("tcp_sock"),
                // { time64_t tv_sec; long tv_nsec; }
                type_word: structure("timespec64"),
            }
        };
    }
    let offsets = offsets! {
        task_flags: "task_struct"."flags";
        task_tgid: "task_struct"."tgid";
        task_pid: "task_struct"."pid";
        task_group_leader: "task_struct"."group_leader";
        task_real_parent: "task_struct"."real_parent";
        // start_boottime since 5.5, real_start_time before.
        task_start_boottime: "task_struct"."start_boottime" | "task_struct"."real_start_time";
        task_files: "task_struct"."files";
        task_mm: "task_struct"."mm";
        task_cred: "task_struct"."cred";
        task_comm: "task_struct"."comm";
        task_exit_code: "task_struct"."exit_code";
        task_signal: "task_struct"."signal";
        task_thread_info_status: "task_struct"."thread_info.status";
        signal_live: "signal_struct"."live.counter";
        cred_uid: "cred"."uid.val";
        cred_euid: "cred"."euid.val";
        cred_gid: "cred"."gid.val";
        files_fdt: "files_struct"."fdt";
        fdtable_max_fds: "fdtable"."max_fds";
        fdtable_fd: "fdtable"."fd";
        mm_arg_start: "mm_struct"."arg_start";
        mm_arg_end: "mm_struct"."arg_end";
        binprm_filename: "linux_binprm"."filename";
        socket_sk: "socket"."sk";
        socket_file: "socket"."file";
        sock_sk_socket: "sock"."sk_socket";
        sock_family: "sock"."__sk_common.skc_family";
        sock_state: "sock"."__sk_common.skc_state";
        sock_type: "sock"."sk_type";
        sock_protocol: "sock"."sk_protocol";
        sock_err: "sock"."sk_err";
        sock_num: "sock"."__sk_common.skc_num";
        sock_dport: "sock"."__sk_common.skc_dport";
        sock_rcv_saddr: "sock"."__sk_common.skc_rcv_saddr";
        sock_daddr: "sock"."__sk_common.skc_daddr";
        sock_v6_rcv_saddr: "sock"."__sk_common.skc_v6_rcv_saddr";
        sock_v6_daddr: "sock"."__sk_common.skc_v6_daddr";
        sock_net: "sock"."__sk_common.skc_net.net";
        sock_cookie: "sock"."__sk_common.skc_cookie.counter";
        sock_receive_queue_len: "sock"."sk_receive_queue.qlen";
        sock_shutdown: "sock"."sk_shutdown";
        net_ns_inum: "net"."ns.inum";
        tcp_write_seq: "tcp_sock"."write_seq";
        tcp_copied_seq: "tcp_sock"."copied_seq";
        tcp_rcv_nxt: "tcp_sock"."rcv_nxt";
        unix_peer: "unix_sock"."peer";
        unix_addr: "unix_sock"."addr";
        unix_address_len: "unix_address"."len";
        unix_address_name: "unix_address"."name";
        iter_type: "msghdr"."msg_iter.iter_type";
        iter_offset: "msghdr"."msg_iter.iov_offset";
        // __iov since 6.4, iov before. In a union with the address of a single piece.
        iter_pieces: "msghdr"."msg_iter.__iov" | "msghdr"."msg_iter.iov";
        iter_count: "msghdr"."msg_iter.count";
        iter_segments: "msghdr"."msg_iter.nr_segs";
        inet_sport: "inet_sock"."inet_sport";
        tcp_srtt_us: "tcp_sock"."srtt_us";
        tcp_mdev_us: "tcp_sock"."mdev_us";
        tcp_total_retrans: "tcp_sock"."total_retrans";
        tcp_bytes_sent: "tcp_sock"."bytes_sent";
        tcp_bytes_received: "tcp_sock"."bytes_received";
        tcp_bytes_retrans: "tcp_sock"."bytes_retrans";
        tcp_segs_out: "tcp_sock"."segs_out";
        tcp_segs_in: "tcp_sock"."segs_in";
        tcp_data_segs_out: "tcp_sock"."data_segs_out";
        tcp_data_segs_in: "tcp_sock"."data_segs_in";
        tcp_snd_wnd: "tcp_sock"."snd_wnd";
        tcp_chrono_stat: "tcp_sock"."chrono_stat";
        sock_flags: "sock"."__sk_common.skc_flags";
    };
    (offsets, missing)
}

/// Everything is known that tells where a send takes its bytes from (6.0 and later).
pub fn knows_iterator(offsets: &Offsets) -> bool {
    let needed = [
        offsets.iter_type,
        offsets.iter_offset,
        offsets.iter_pieces,
        offsets.iter_count,
        offsets.iter_segments,
        offsets.iter_is_ubuf,
        offsets.iter_is_iovec,
    ];
    needed.iter().all(|field| *field != MISSING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_every_field() {
        let Ok(data) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
        let (offsets, missing) = resolve(&Btf::parse(data).unwrap());
        assert_eq!(missing, Vec::<&str>::new());
        assert!(knows_iterator(&offsets), "{offsets:?}");
    }
}
