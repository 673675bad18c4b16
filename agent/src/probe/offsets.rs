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
    let numbers = (number("ITER_UBUF"), number("ITER_IOVEC"), number("ITER_BVEC"));
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
                iter_is_bvec: numbers.2,
                page_size: btf.size("page").unwrap_or(MISSING),
                tls_conf: kernel_tls(btf).unwrap_or(MISSING),
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
        bvec_page: "bio_vec"."bv_page";
        bvec_len: "bio_vec"."bv_len";
        bvec_offset: "bio_vec"."bv_offset";
        skb_sk: "sk_buff"."sk";
        skb_cb: "sk_buff"."cb";
        skb_len: "sk_buff"."len";
        skb_data_len: "sk_buff"."data_len";
        skb_head: "sk_buff"."head";
        skb_data: "sk_buff"."data";
        skb_end: "sk_buff"."end";
        skb_shared_nr_frags: "skb_shared_info"."nr_frags";
        skb_shared_frags: "skb_shared_info"."frags";
        tcp_cb_flags: "tcp_skb_cb"."tcp_flags";
        unix_cb_consumed: "unix_skb_parms"."consumed";
        task_stack: "task_struct"."stack";
        mptcp_write_seq: "mptcp_sock"."write_seq";
        mptcp_ack_seq: "mptcp_sock"."ack_seq";
        mptcp_bytes_received: "mptcp_sock"."bytes_received";
        mptcp_bytes_consumed: "mptcp_sock"."bytes_consumed";
        task_fsbase: "task_struct"."thread.fsbase";
        tcp_ulp_ops: "tcp_sock"."inet_conn.icsk_ulp_ops";
        tcp_ulp_data: "tcp_sock"."inet_conn.icsk_ulp_data";
        tcp_ulp_name: "tcp_ulp_ops"."name";
    };
    (offsets, missing)
}

/// Where a socket says which directions the kernel encrypts: two bit fields of three bits in one byte.
fn kernel_tls(btf: &Btf) -> Option<u32> {
    let (sends, width) = btf.bit_field("tls_context", "tx_conf")?;
    let receives = btf.bit_field("tls_context", "rx_conf")?;
    let as_expected = sends % 8 == 0 && width == 3 && receives == (sends + 3, 3);
    as_expected.then_some(sends / 8)
}

/// It is known what a socket says of TLS that the kernel does on it.
pub fn knows_kernel_tls(offsets: &Offsets) -> bool {
    let needed = [offsets.tcp_ulp_ops, offsets.tcp_ulp_data, offsets.tcp_ulp_name];
    needed.iter().all(|field| *field != MISSING)
}

/// The programs read this field wherever they run; without others a feature is poorer.
pub fn is_needed(field: &str) -> bool {
    let optional = [
        "iter_",
        "sock_v6_",
        "unix_",
        "skb_",
        "bvec_",
        "mptcp_",
        "tcp_cb_",
        "tcp_ulp_",
        "page_",
        "task_fsbase",
    ];
    !optional.iter().any(|subject| field.starts_with(subject))
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

/// Everything is known that leads from a `struct bio_vec` to its bytes.
pub fn knows_pages(offsets: &Offsets) -> bool {
    let layout = (offsets.bvec_page, offsets.bvec_len, offsets.bvec_offset);
    layout == (0, 8, 12) && offsets.iter_is_bvec != MISSING && offsets.page_size != MISSING
}

/// Everything is known that leads from a `struct sk_buff` to its bytes.
pub fn knows_packets(offsets: &Offsets) -> bool {
    let needed = [
        offsets.skb_sk,
        offsets.skb_cb,
        offsets.skb_len,
        offsets.skb_data_len,
        offsets.skb_head,
        offsets.skb_data,
        offsets.skb_end,
        offsets.skb_shared_nr_frags,
        offsets.skb_shared_frags,
        offsets.tcp_cb_flags,
        offsets.unix_cb_consumed,
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
        assert!(knows_pages(&offsets) && knows_packets(&offsets), "{offsets:?}");
        assert!(knows_kernel_tls(&offsets), "{offsets:?}");
    }
}
