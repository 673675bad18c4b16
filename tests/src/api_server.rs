//! A Kubernetes API server as far as an agent asks it: lists and watches of pods, on loopback.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A running server. It ends with the test's process.
#[derive(Debug)]
pub struct ApiServer {
    /// Where.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    pods: Vec<Value>,
    version: u64,
    gone: bool,
    watchers: Vec<TcpStream>,
}

impl ApiServer {
    /// Starts one with these pods.
    ///
    /// # Panics
    /// When there is no port.
    pub fn start(pods: Vec<Value>) -> ApiServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(Mutex::new(State { pods, version: 1, ..State::default() }));
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &mut lock(&served));
            }
        });
        ApiServer { address, state }
    }

    /// A pod is as this from now on: those who watch are told.
    pub fn put(&self, pod: Value) {
        let mut state = lock(&self.state);
        state.version += 1;
        let uid = pod["metadata"]["uid"].clone();
        state.pods.retain(|known| known["metadata"]["uid"] != uid);
        let event = json!({"type": "MODIFIED", "object": pod});
        state.pods.push(pod);
        for watcher in &mut state.watchers {
            let _ = writeln!(watcher, "{event}");
        }
    }

    /// It goes away, or is there again.
    pub fn gone(&self, gone: bool) {
        let mut state = lock(&self.state);
        state.gone = gone;
        for watcher in state.watchers.drain(..) {
            let _ = watcher.shutdown(Shutdown::Both);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(mut stream: TcpStream, state: &mut State) {
    if state.gone {
        return;
    }
    let Ok(reader) = stream.try_clone() else { return };
    let lines = BufReader::new(reader).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let ok = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    if path.contains("&watch=1") {
        let _ = write!(stream, "{ok}");
        state.watchers.push(stream);
    } else if path.starts_with("/api/v1/pods?fieldSelector=spec.nodeName%3D") {
        let version = state.version.to_string();
        let list = json!({"metadata": {"resourceVersion": version}, "items": state.pods});
        let _ = write!(stream, "{ok}{list}");
    } else {
        let _ = write!(stream, "HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n{{}}");
    }
}
