//! HTTP in the clear as Rust programs do it: hyper's server and client on tokio.
//!
//! - `hyper_http serve PORT` answers `GET /…/size/N` with N bytes, and a POST with what it got.
//! - `hyper_http ask REQUESTS CONCURRENCY PACE_MS URL…`: so many of each URL over so many kept connections; with a
//!   pace, one after the other, each so long after the one before began, and how long it took is printed, in ms.

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match words.as_slice() {
        ["serve", port] => runtime.block_on(serve(port)),
        ["ask", requests, width, pace, urls @ ..] => {
            let (requests, width, pace) = (requests.parse()?, width.parse()?, pace.parse()?);
            urls.iter().try_for_each(|url| match pace {
                0 => runtime.block_on(ask(url, requests, width)),
                _ => runtime.block_on(paced(url, requests, Duration::from_millis(pace))),
            })
        }
        _ => anyhow::bail!("see the first lines of the source"),
    }
}

// --- server ---

async fn serve(port: &str) -> anyhow::Result<()> {
    let listener = TcpListener::bind(format!("0.0.0.0:{port}")).await?;
    println!("ready");
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            // Who goes away in the middle is none of this server's business.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let size = path.rsplit_once("/size/").and_then(|(_, size)| size.parse::<usize>().ok());
    let (status, body) = match (request.method(), size) {
        (&Method::POST, _) => {
            let body = request.into_body().collect().await;
            (StatusCode::OK, body.map(|body| body.to_bytes()).unwrap_or_default())
        }
        (_, Some(size)) => (StatusCode::OK, Bytes::from(vec![b'x'; size.min(1 << 24)])),
        _ => (StatusCode::NOT_FOUND, Bytes::new()),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    Ok(response)
}

// --- client ---

struct Target {
    authority: String,
    path: String,
}

impl Target {
    fn of(url: &str) -> anyhow::Result<Target> {
        let uri: hyper::Uri = url.parse()?;
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        Ok(Target {
            authority,
            path: uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        })
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with the last sender.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn once(&self, sender: &mut SendRequest<Empty<Bytes>>) -> anyhow::Result<()> {
        let request = Request::get(&self.path).header("host", &self.authority);
        // Some servers close after each answer.
        if sender.ready().await.is_err() {
            *sender = self.connect().await?;
            sender.ready().await?;
        }
        let response = sender.send_request(request.body(Empty::new())?).await?;
        anyhow::ensure!(response.status() == StatusCode::OK, "status {}", response.status());
        let _ = response.into_body().collect().await?;
        Ok(())
    }
}

async fn ask(url: &str, requests: usize, width: usize) -> anyhow::Result<()> {
    let tasks = (0..width).map(|index| {
        let target = Target::of(url);
        let share = requests / width + usize::from(index < requests % width);
        tokio::spawn(async move {
            let target = target?;
            let mut sender = target.connect().await?;
            for _ in 0..share {
                target.once(&mut sender).await?;
            }
            anyhow::Ok(())
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    Ok(())
}

async fn paced(url: &str, requests: usize, pace: Duration) -> anyhow::Result<()> {
    let target = Target::of(url)?;
    let mut sender = target.connect().await?;
    let mut due = Instant::now();
    let mut times = String::new();
    for _ in 0..requests {
        due += pace;
        tokio::time::sleep_until(due.into()).await;
        let begin = Instant::now();
        target.once(&mut sender).await?;
        let _ = writeln!(times, "{:.3}", begin.elapsed().as_secs_f64() * 1000.0);
    }
    print!("{times}");
    Ok(())
}
