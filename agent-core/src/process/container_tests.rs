//! Tests of [`super`]. Samples with an address are what people have posted or keep as test data of
//! their own parsers; the others are built by the same pattern, for what is not to be found.

use super::*;
use proptest::prelude::*;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Why, the file, containers and pods from the innermost on.
type Case<'a> = (&'a str, &'a str, &'a [&'a str], &'a [&'a str]);

#[test]
fn every_runtime_and_driver_is_known() {
    let cases: &[Case<'_>] = &[
        // neuvector/neuvector, share/system/cgroup_test.go
        (
            "Docker, v1, cgroupfs, at the root",
            "10:net_prio:/4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970\n\
             9:perf_event:/4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970\n",
            &["4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970"],
            &[],
        ),
        (
            "Docker, v1, systemd",
            "13:hugetlb:/system.slice/docker-2fa3e04b676df750842faf017052dd37ea0cc5bc7259a3487a1718c7fe100c94.scope",
            &["2fa3e04b676df750842faf017052dd37ea0cc5bc7259a3487a1718c7fe100c94"],
            &[],
        ),
        // kubearmor and tracee keep these two
        (
            "kubelet, cgroupfs",
            "0::/kubelet/kubepods/besteffort/podbdd4097d-6795-404e-9bd8-6a1383386198/c79788e0da15a6597263eb2b9c51d05dd1a9a1d08c53c1161dc8c45d2dac6b38",
            &["c79788e0da15a6597263eb2b9c51d05dd1a9a1d08c53c1161dc8c45d2dac6b38"],
            &["bdd4097d-6795-404e-9bd8-6a1383386198"],
        ),
        // kubernetes/kubernetes, pkg/kubelet/cm/cgroup_manager_linux.go says how slices are called
        (
            "kubelet and containerd, systemd, in a slice of kubelet's own",
            "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod2970df92_7ac3_49c0_aaca_4871d9d2fe70.slice/cri-containerd-03f8b1c7dce06bf45fc895ff3d0cb9f66feeb3ffb8f36a0227260284392cde39.scope",
            &["03f8b1c7dce06bf45fc895ff3d0cb9f66feeb3ffb8f36a0227260284392cde39"],
            &["2970df92-7ac3-49c0-aaca-4871d9d2fe70"],
        ),
        // ruitianzhong/… and containerd's issues: cgroupsPath of the CRI used as a directory
        (
            "kubelet by systemd, containerd by cgroupfs",
            "11:memory:/system.slice/containerd.service/kubelet-kubepods-besteffort-pod83b090de_9676_407c_99aa_d33dc6aa0c0d.slice:cri-containerd:18b2adc8507104e412c946bec11679590801f547eee513fa298054f14fbf4240",
            &["18b2adc8507104e412c946bec11679590801f547eee513fa298054f14fbf4240"],
            &["83b090de-9676-407c-99aa-d33dc6aa0c0d"],
        ),
        (
            "a pod from a file, whose uid is a hash, in kind",
            "0::/kubelet/kubepods/burstable/pod46dac9a538838115821dfd9559149484/972055640bc63f5c4d894145950cf92cdfb524dcf049fbe6aee47bf23facf297",
            &["972055640bc63f5c4d894145950cf92cdfb524dcf049fbe6aee47bf23facf297"],
            &["46dac9a538838115821dfd9559149484"],
        ),
        (
            "the same, systemd",
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podc704ef4c297ab11032b83ce52cbfc87b.slice/cri-containerd-2327a2aec169e25cf05f2a901486b7463fdb513ae097fc0ae6a3ca94381ddc42.scope",
            &["2327a2aec169e25cf05f2a901486b7463fdb513ae097fc0ae6a3ca94381ddc42"],
            &["c704ef4c297ab11032b83ce52cbfc87b"],
        ),
        (
            "kind seen from outside: a pod's container in a node's",
            "12:cpuset:/docker/744ba5524431986481406cfd13382cbeb7e59a4739dec5ff8b458bc821969662/kubelet/kubepods/besteffort/pod3716cd27-4591-40fc-9dae-3851142b1d51/e06769b086acea415152f733574033db4dc5e81c9a8f6563648fd5f3b60227af",
            &[
                "e06769b086acea415152f733574033db4dc5e81c9a8f6563648fd5f3b60227af",
                "744ba5524431986481406cfd13382cbeb7e59a4739dec5ff8b458bc821969662",
            ],
            &["3716cd27-4591-40fc-9dae-3851142b1d51"],
        ),
        (
            "CRI-O, systemd",
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podf8952339_1101_46ca_948d_1906de5016b8.slice/crio-656a5b06e0c7490f743b43c20cb984b9a5fd79ea0e49211d84ee0ec3d7ed0307.scope",
            &["656a5b06e0c7490f743b43c20cb984b9a5fd79ea0e49211d84ee0ec3d7ed0307"],
            &["f8952339-1101-46ca-948d-1906de5016b8"],
        ),
        (
            "Podman, cgroupfs",
            "0::/libpod_parent/libpod-9ce45faf7719310972823ceeb3afaa4bc6c5b86fe1d59da60946fc12f42541ca",
            &["9ce45faf7719310972823ceeb3afaa4bc6c5b86fe1d59da60946fc12f42541ca"],
            &[],
        ),
        (
            "systemd in a container of Podman",
            "0::/libpod_parent/libpod-6dc3fdffbf66b1239d55e98da9aaa759ea51ed35d04eb09d19ebd78963aa26c2/system.slice/var-lib-docker-containers-1575e8b4a92a9c340a657f3df4ddc0f6a6305c200879f3898b26368ad019b503-mounts-shm.mount",
            &["6dc3fdffbf66b1239d55e98da9aaa759ea51ed35d04eb09d19ebd78963aa26c2"],
            &[],
        ),
        // aws/amazon-ecs-agent; open-telemetry/opentelemetry-js-contrib, resource detector of ECS
        (
            "ECS on machines of one's own",
            "9:perf_event:/ecs/55091c13-b8cf-4801-b527-f4601742204d/432624d2150b349fe35ba397284dea788c2bf66b885d14dfc1569b01890ca7da",
            &["432624d2150b349fe35ba397284dea788c2bf66b885d14dfc1569b01890ca7da"],
            &[],
        ),
        (
            "ECS on Fargate",
            "1:name=systemd:/ecs/34dc0b5e626f2c5c4c5170e34b10e765/34dc0b5e626f2c5c4c5170e34b10e765-1234567890",
            &["34dc0b5e626f2c5c4c5170e34b10e765-1234567890"],
            &[],
        ),
    ];
    for case in cases {
        check(case);
    }
}

#[test]
fn patterns_of_runtimes_and_what_only_looks_like_them() {
    let uid = "01234567-89ab-cdef-0123-456789abcdef";
    let slice = uid.replace('-', "_");
    let pods: &[&str] = &[uid];
    let cases: Vec<(&str, String, &[&str], &[&str])> = vec![
        ("a session", "0::/user.slice/user-1000.slice/session-1.scope".into(), &[], &[]),
        ("the root", "0::/".into(), &[], &[]),
        ("nothing", String::new(), &[], &[]),
        ("no path", "0".into(), &[], &[]),
        ("Docker, v2, cgroupfs", format!("0::/docker/{A}"), &[A], &[]),
        ("v1, the first line outside", format!("2:rdma:/\n1:cpu:/docker/{A}"), &[A], &[]),
        ("v1, named", format!("1:name=systemd:/docker/{A}"), &[A], &[]),
        ("hybrid, v2 without", format!("1:cpu:/docker/{A}\n0::/"), &[A], &[]),
        (
            "guaranteed",
            format!("0::/kubepods.slice/kubepods-pod{slice}.slice/docker-{A}.scope"),
            &[A],
            pods,
        ),
        ("CRI-O, cgroupfs", format!("0::/kubepods/burstable/pod{uid}/crio-{A}"), &[A], pods),
        (
            "a monitor",
            format!("0::/kubepods.slice/kubepods-pod{slice}.slice/crio-conmon-{A}.scope"),
            &[],
            pods,
        ),
        ("Podman's monitor", format!("0::/machine.slice/libpod-conmon-{A}.scope"), &[], &[]),
        ("Podman, systemd", format!("0::/machine.slice/libpod-{A}.scope/container"), &[A], &[]),
        (
            "Podman, in a pod of its own",
            format!("0::/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope"),
            &[A],
            &[],
        ),
        (
            "Podman without root, split",
            format!(
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/libpod-payload-{A}"
            ),
            &[A],
            &[],
        ),
        ("systemd inside", format!("0::/docker/{A}/system.slice/nginx.service"), &[A], &[]),
        ("Docker in Docker", format!("0::/docker/{A}/docker/{B}"), &[B, A], &[]),
        (
            "Docker in a pod",
            format!("0::/kubepods/burstable/pod{uid}/{A}/docker/{B}"),
            &[B, A],
            pods,
        ),
        ("another cgroup namespace", format!("0::/../docker-{A}.scope"), &[A], &[]),
        (
            "a pod on one line, its container on another",
            format!("2:cpu:/kubepods/pod{uid}\n1:pids:/kubepods/pod{uid}/{A}"),
            &[A],
            pods,
        ),
        ("a pod, no container yet", format!("0::/kubepods/pod{uid}"), &[], pods),
        ("a pod that is nobody's", format!("0::/tripods/pod{uid}"), &[], &[]),
        ("too short an id", format!("0::/docker/{}", &A[1..]), &[], &[]),
        ("too long an id", format!("0::/docker/{A}a"), &[], &[]),
        ("upper case", format!("0::/docker/{}", A.to_uppercase()), &[], &[]),
        ("not ASCII", format!("0::/docker/é{A}"), &[], &[]),
        ("not ASCII where it is split", format!("0::/docker/é{}", &A[1..]), &[], &[]),
        ("a task without number", format!("0::/ecs/x/{}-", &A[..32]), &[], &[]),
        (
            "a uid with a letter too far",
            format!("0::/kubepods/pod{}/x", uid.replace('f', "g")),
            &[],
            &[],
        ),
        (
            "a uid without dashes at their places",
            "0::/kubepods/pod0123456789ab-cdef-0123-4567-89abcdef/x".into(),
            &[],
            &[],
        ),
    ];
    for (why, text, containers, pods) in &cases {
        check(&(why, text, containers, pods));
    }
}

#[test]
fn what_is_hostile_is_cut() {
    let nested = format!("0::{}", format!("/docker/{A}/kubepods/pod{}", &B[..32]).repeat(100));
    let found = place(&nested);
    assert_eq!((found.containers.len(), found.pods.len()), (MAX_NESTED, MAX_NESTED));
    let late = format!("{}1:cpu:/docker/{A}", "2:x:/\n".repeat(MAX_LINES));
    assert_eq!(container_id(&late), None, "behind more lines than there are controllers");
}

proptest! {
    #[test]
    fn what_is_found_is_in_the_text(text in "[0-9a-f/:._-]{0,200}|.{0,100}") {
        crate::fuzzing::cgroup(text.as_bytes());
    }

    #[test]
    fn a_uid_is_what_is_read_of_it(number: u128, is_uuid: bool) {
        let uid = PodUid { number, is_uuid };
        prop_assert_eq!(PodUid::parse(&uid.to_string()), Some(uid));
        prop_assert_eq!(PodUid::parse(&uid.to_string().replace('-', "_")), Some(uid));
    }
}

fn check((why, text, containers, pods): &Case<'_>) {
    let found = place(text);
    assert_eq!(found.containers.as_slice(), *containers, "{why}: {text}");
    let found: Vec<String> = found.pods.iter().map(PodUid::to_string).collect();
    assert_eq!(found, *pods, "{why}: {text}");
}
