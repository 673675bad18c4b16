//! Development: prints records as they come.
use agent::probe::{control::Maps, load::*, plan::Feature};
use agent_core::event::{Event, decode};
fn main() {
    let object = std::fs::read(std::env::args().nth(1).unwrap()).unwrap();
    let secs: u64 = std::env::args().nth(2).map(|s| s.parse().unwrap()).unwrap_or(5);
    let hooks = std::env::args().nth(3).filter(|h| h != "auto");
    let wanted = [
        Feature::Processes,
        Feature::ConnectionState,
        Feature::Payload,
        Feature::SendTime,
        Feature::Arrival,
    ]
    .into_iter()
    .collect();
    let settings = agent_common::settings::Settings {
        own_tgid: std::process::id(),
        head_bytes: 4096,
        later_bytes: 256,
        ..Default::default()
    };
    let t = std::time::Instant::now();
    let mut loaded = load(
        &object,
        &LoadConfig {
            wanted,
            payload_hooks: hooks,
            settings,
            ring_size: 8 << 20,
            process_filter_size: 1,
        },
    )
    .unwrap();
    println!("loaded in {:?}", t.elapsed());
    for f in &loaded.features {
        println!("{:?} {:?} {}", f.name, f.hooks, f.why);
    }
    for (n, p) in loaded.ebpf.programs() {
        if let Ok(i) = p.info() {
            println!(
                "{n}: insns verified {:?} jited {:?}",
                i.verified_instruction_count(),
                i.size_jitted()
            );
        }
    }
    let mut maps = Maps::take(&mut loaded.ebpf).unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(secs);
    while std::time::Instant::now() < end {
        for ring in [&mut maps.process_ring, &mut maps.payload_ring] {
            while let Some(item) = ring.next() {
                match decode(&item) {
                    Ok(Event::Payload(p, b)) => println!(
                        "PAY {} {:?}\n    {:?}",
                        if p.header.direction == 0 { "->" } else { "<-" },
                        p,
                        String::from_utf8_lossy(b)
                    ),
                    Ok(Event::Exec(e, b)) => println!(
                        "EXEC {:?} {:?} {}",
                        e.header,
                        String::from_utf8_lossy(b),
                        String::from_utf8_lossy(&e.filename)
                    ),
                    Ok(e) => println!("{e:?}"),
                    Err(e) => println!("ERR {e}"),
                }
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    for (n, c) in agent_common::counter::NAMES.iter().zip(maps.counters.read().unwrap()) {
        println!("{n} {c}");
    }
}
