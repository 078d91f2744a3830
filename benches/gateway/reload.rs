//! How long requests take while a thousand routes are loaded again: `cargo bench --bench gateway -- reload`.
//!
//! Requests are sent when they are due, whatever became of those before (an open loop), and their time counts from when
//! they were due. So whoever is kept waiting by a reload is counted, and all those who come meanwhile.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::process::{OTHERS, Process, free_address, wait_for};

const ROUTES: u64 = 1_000;
/// Each at an address of its own.
const APPLICATIONS: u64 = 100;
const RELOADS: u64 = 10;
const PER_SECOND: u64 = 2_000;
const CONNECTIONS: u64 = 32;
/// Of either measurement; and what lies between two reloads.
const SECONDS: u64 = 20;
const PAUSE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);
/// No request may be slower than this because of a reload, in milliseconds.
const AIM: f64 = 50.0;

/// Measures, and says how it went.
///
/// # Errors
/// When a program is not there, a request fails, or a reload does not count.
pub(crate) fn measure() -> Result<(), String> {
    // This process sends the requests: it must not take the processor from the gateway.
    let here = ["-cp", OTHERS, &std::process::id().to_string()];
    let pinned = Command::new("taskset").args(here).stdout(Stdio::null()).status();
    pinned.map_err(|error| error.to_string())?;
    let builder = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = builder.map_err(|error| error.to_string())?;
    let site = Site::open()?;
    println!("{PER_SECOND} requests a second over {CONNECTIONS} connections, {ROUTES} routes; milliseconds:");
    println!(
        "{:<28} {:>8} {:>8} {:>8} {:>8}",
        "", "median", "99 %", "99.9 %", "longest"
    );
    site.load(&runtime, 0)?;
    site.load(&runtime, 0)?.report("without a reload");
    let times = site.load(&runtime, RELOADS)?;
    times.report(&format!("with {RELOADS} reloads"));
    let verdict = if times.longest() <= AIM { "" } else { "  missed" };
    println!("{:<28} {:>8} {:>8} {:>8} {AIM:>8}{verdict}", "aim", "", "", "");
    Ok(())
}

/// A gateway before an application that always says the same.
struct Site {
    address: SocketAddr,
    file: PathBuf,
    /// Of the applications.
    port: u16,
    /// What the answers say of the configuration that they were made under.
    generation: AtomicU64,
    gateway: Process,
    _nginx: Process,
    _folder: TempDir,
}

impl Site {
    fn open() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (address, port) = (free_address(), free_address().port());
        let nginx = application_at(folder.path(), port);
        let file = folder.path().join("vestibule.toml");
        fs::write(&file, text(address, port, 0)).map_err(|error| error.to_string())?;
        let arguments = ["run", "--config", &file.to_string_lossy()];
        let gateway = Process::measured(env!("CARGO_BIN_EXE_vestibule"), &arguments);
        wait_for(address);
        Ok(Self {
            address,
            file,
            port,
            generation: AtomicU64::new(0),
            gateway,
            _nginx: nginx,
            _folder: folder,
        })
    }

    /// Sends requests for a while, and loads the file again so often meanwhile, with something new in it each time.
    fn load(&self, runtime: &Runtime, reloads: u64) -> Result<Times, String> {
        let seen = Arc::new(AtomicU64::new(self.generation.load(Ordering::Relaxed)));
        thread::scope(|scope| {
            // Beside the requests, which are sent by this thread.
            let reloading = scope.spawn(|| {
                (0..reloads).try_for_each(|_| {
                    thread::sleep(PAUSE);
                    self.reload(&seen)
                })
            });
            let times = runtime.block_on(self.asked(&seen))?;
            reloading.join().map_err(|_| "the reloads broke off")??;
            Ok(times)
        })
    }

    async fn asked(&self, seen: &Arc<AtomicU64>) -> Result<Times, String> {
        let start = Instant::now() + Duration::from_millis(100);
        let clients = (0..CONNECTIONS).map(|number| ask(self.address, number, start, seen.clone()));
        let mut clients: JoinSet<_> = clients.collect();
        let mut times = Vec::new();
        while let Some(asked) = clients.join_next().await {
            times.extend(asked.map_err(|error| error.to_string())??);
        }
        times.sort_unstable();
        Ok(Times(times))
    }

    /// Changes the answers of all routes, and waits until one of them comes.
    fn reload(&self, seen: &AtomicU64) -> Result<(), String> {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let text = text(self.address, self.port, generation);
        fs::write(&self.file, text).map_err(|error| error.to_string())?;
        self.gateway.signal("-HUP");
        let told = Instant::now();
        while seen.load(Ordering::Relaxed) < generation {
            if told.elapsed() > PATIENCE {
                return Err(format!("nothing is answered under generation {generation}"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// How long requests took, in order.
struct Times(Vec<Duration>);

impl Times {
    fn report(&self, name: &str) {
        let [median, most, nearly_all] = [0.5, 0.99, 0.999].map(|part| self.at(part));
        println!(
            "{name:<28} {median:>8.2} {most:>8.2} {nearly_all:>8.2} {:>8.2}",
            self.longest()
        );
    }

    fn at(&self, part: f64) -> f64 {
        let index = (self.0.len() as f64 * part) as usize;
        self.0[index.min(self.0.len() - 1)].as_secs_f64() * 1e3
    }

    fn longest(&self) -> f64 {
        self.at(1.0)
    }
}

/// A client that asks in its turn, and notes the newest configuration that it sees.
async fn ask(address: SocketAddr, number: u64, start: Instant, seen: Arc<AtomicU64>) -> Result<Vec<Duration>, String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let mut times = Vec::new();
    let mut answer = Vec::with_capacity(4_096);
    for turn in (number..PER_SECOND * SECONDS).step_by(CONNECTIONS as usize) {
        let due = start + Duration::from_nanos(turn * 1_000_000_000 / PER_SECOND);
        sleep_until(due).await;
        let request = request(address, turn);
        stream
            .write_all(request.as_bytes())
            .await
            .map_err(|error| error.to_string())?;
        answer.clear();
        while !answer.ends_with(END.as_bytes()) {
            let read = stream.read_buf(&mut answer).await.map_err(|error| error.to_string())?;
            if read == 0 {
                return Err(format!("the answer breaks off: {}", String::from_utf8_lossy(&answer)));
            }
        }
        times.push(due.elapsed());
        let text = String::from_utf8_lossy(&answer);
        let generation = text
            .split("x-generation: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next());
        let generation = generation.and_then(|generation| generation.parse().ok());
        seen.fetch_max(
            generation.ok_or_else(|| format!("an answer of another kind: {text}"))?,
            Ordering::Relaxed,
        );
    }
    Ok(times)
}

/// One route after the other of those that everybody may use.
fn request(address: SocketAddr, turn: u64) -> String {
    let number = turn * 4 % ROUTES;
    match turn % 2 {
        0 => format!("GET /p{number}/page HTTP/1.1\r\nHost: {address}\r\n\r\n"),
        _ => format!("GET /page HTTP/1.1\r\nHost: h{number}.example.com\r\n\r\n"),
    }
}

/// What an answer ends with.
const END: &str = "That is all.";

/// A file with routes of several kinds, which says of which generation its answers are.
fn text(address: SocketAddr, port: u16, generation: u64) -> String {
    let mut text = format!(
        "version = 1
server = {{ listen = [\"{address}\"], workers = 1, watch = false }}
log = {{ level = \"warn\", access = false }}
[provider.bench]
issuer = \"http://127.0.0.1:9\"
client_id = \"bench\"
client_auth = \"none\"
bearer.audiences = [\"http://{address}\"]
"
    );
    for number in 0..ROUTES {
        let kind = match number % 4 {
            0 => format!(
                "url = [\"http://{address}/p{number}\", \"http://h{number}.example.com/\"]\nauth = [\"public\"]"
            ),
            1 => format!("url = \"http://h{number}.example.com/\"\nallow.groups = [\"team-{number}\", \"staff\"]"),
            2 => format!(
                "url = \"http://{address}/p{number}\"\nallow.expression = \"claims.level >= {number} && 'staff' in groups\""
            ),
            _ => format!(
                "url = \"http://h{number}.example.com/api\"\nauth = [\"bearer\"]\nallow.scopes = [\"read-{number}\"]\n\
                 deny = [{{ claims = {{ role = [\"guest-*\"] }} }}]"
            ),
        };
        let place = number % APPLICATIONS + 1;
        let _ = write!(
            text,
            "[route.r{number}]\nupstream = \"http://127.0.0.{place}:{port}\"\n{kind}\nresponse_headers = {{ set = {{ X-Generation = \"{generation}\" }} }}\n"
        );
    }
    text
}

/// One program for all of them.
fn application_at(folder: &Path, port: u16) -> Process {
    let file = folder.join("nginx.conf");
    let folder = folder.display();
    let listen = (1..=APPLICATIONS).fold(String::new(), |lines, place| {
        lines + &format!("listen 127.0.0.{place}:{port}; ")
    });
    let text = format!(
        "daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 100000000; default_type text/plain;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    server {{ {listen}location / {{ return 200 '{END}'; }} }}
}}"
    );
    fs::write(&file, text).expect("the folder is there");
    let (folder, file) = (folder.to_string(), file.display().to_string());
    let nginx = Process::other("nginx", &["-p", &folder, "-c", &file, "-e", "stderr"]);
    wait_for(([127, 0, 0, 1], port).into());
    nginx
}
