//! Values as they are typed.

use super::*;

#[test]
fn addresses_to_listen_on() {
    for (text, expected) in [
        ("127.0.0.1:9464", Some("127.0.0.1:9464")),
        ("[::1]:0", Some("[::1]:0")),
        (":80", Some("[::]:80")),
        ("0.0.0.0:80", Some("0.0.0.0:80")),
        ("localhost:80", Some("127.0.0.1:80")),
        ("example.org:80", None),
        ("::1:80", None),
        (":65536", None),
        ("", None),
    ] {
        let address = listen(text).ok().map(|address| address.to_string());
        assert_eq!(address.as_deref(), expected, "{text}");
    }
}

#[test]
fn bounds_of_rings_and_shares() {
    assert_eq!(ring_size("64KiB"), Ok(64 << 10), "a power of two stays");
    assert_eq!(ring_size("65537"), Ok(128 << 10));
    assert_eq!(ring_size("1GiB"), Ok(1 << 30));
    assert_eq!(max_cpu("5%"), Ok(Some(0.05)));
    assert_eq!((max_cpu("off"), request_rate("off")), (Ok(None), Ok(None)));
    for wrong in ["5", "0%", "NaN%", "-5%", "6401%", "%", ""] {
        assert!(max_cpu(wrong).is_err(), "{wrong}");
    }
    assert_eq!(request_rate("100"), Ok(Some(100)));
    for wrong in ["0", "1000001", "-1", "1.5", "many"] {
        assert!(request_rate(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn payload_rings_are_a_power_of_two() {
    let numbers = ["1", "2", "4"].map(|text| payload_rings(text).ok());
    assert_eq!(numbers, [Some(1), Some(2), Some(4)]);
    for text in ["0", "3", "8", "-1", "", "one", "4294967297"] {
        assert!(payload_rings(text).is_err(), "{text}");
    }
}

#[test]
fn a_cgroup_is_a_directory_of_the_cgroup_tree() {
    assert!(cgroup("/usr/bin").is_err(), "a directory, but no cgroup");
    assert!(cgroup("/sys/fs/cgroup/../../../usr").is_err());
    assert!(cgroup("").is_err());
    assert!(cgroup("/sys/fs/cgroup/blkio").is_err(), "version 1, or absent");
    for root in CGROUP_ROOTS.map(Path::new) {
        if root.join("cgroup.controllers").exists() {
            assert_eq!(cgroup("/").as_deref(), Ok(root), "as in /proc/PID/cgroup");
            assert_eq!(cgroup(&root.to_string_lossy()).as_deref(), Ok(root));
        }
    }
}

#[test]
fn endpoints() {
    for (text, good) in [
        ("http://localhost:4317", true),
        ("https://user:secret@x/base", true),
        ("collector:4317", true),
        ("[::1]:4317", true),
        ("http://", false),
        ("grpc://x", false),
        ("", false),
        ("a b", false),
    ] {
        assert_eq!(otlp_endpoint(text).is_ok(), good, "{text}");
    }
    let wrong = format!("{:?}", otlp_endpoint("http://fd00::1:4317"));
    assert!(wrong.contains("in brackets: http://[fd00::1]:4317"), "{wrong}");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,20}") {
        let _ = (output(&text), listen(&text), glob(&text), pid(&text), ring_size(&text));
        let _ = (max_cpu(&text), request_rate(&text), process_metrics(&text));
        let _ = (max_memory(&text), cgroup(&text), head_bytes(&text), payload_rings(&text));
        let _ = name_rule(&text);
        let _ = (flow_interval(&text), flow_labels(&text), flow_logs(&text));
        let _ = (flow_series(&text), flow_table(&text), record_duration(&text));
        let _ = (poll_interval(&text), ratio(&text), probes(&text), otlp_header(&text));
        let _ = (otlp_endpoint(&text), hooks(&text), truth(&text));
    }
}
