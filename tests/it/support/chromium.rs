//! A real Chromium with a profile of its own, driven as a person would.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thirtyfour::{ChromeCapabilities, prelude::*};

use super::programs::installed;

const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(50);

pub fn chromium_is_installed() -> bool {
    installed(
        &["chromium", "chromedriver"],
        "apt-get install -y chromium chromium-driver",
    )
}

pub struct Chromium {
    driver: WebDriver,
    _processes: Processes,
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // It would ask chromedriver to end the browser, and wait for minutes where that cannot answer any more.
        let _ = self.driver.clone().leak();
    }
}

impl Chromium {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// One to which every certificate is good.
    pub async fn start_trusting_everybody() -> Self {
        Self::start_with(&["--ignore-certificate-errors"]).await
    }

    async fn start_with(arguments: &[&str]) -> Self {
        // The driver's client is built without one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut processes = Processes::start();
        let url = format!("http://127.0.0.1:{}", processes.port());
        let mut capabilities = capabilities(processes.profile.path());
        for argument in arguments {
            capabilities.add_arg(argument).unwrap();
        }
        Self {
            driver: WebDriver::new(url, capabilities).await.unwrap(),
            _processes: processes,
        }
    }

    // Where it is.

    pub async fn open(&self, url: &str) {
        self.driver.goto(url).await.unwrap();
    }

    pub async fn open_in_new_tab(&self, url: &str) {
        let tab = self.driver.new_tab().await.unwrap();
        self.show_tab(tab).await;
        self.open(url).await;
    }

    pub async fn tab(&self) -> WindowHandle {
        self.driver.window().await.unwrap()
    }

    pub async fn show_tab(&self, tab: WindowHandle) {
        self.driver.switch_to_window(tab).await.unwrap();
    }

    pub async fn address(&self) -> String {
        self.driver.current_url().await.unwrap().to_string()
    }

    // What a person does.

    pub async fn click(&self, css: &str) {
        self.wait_for(By::Css(css)).await.click().await.unwrap();
    }

    pub async fn type_into(&self, name: &str, text: &str) {
        self.wait_for(By::Name(name)).await.send_keys(text).await.unwrap();
    }

    pub async fn log_in(&self, username: &str, password: &str) {
        self.type_into("username", username).await;
        self.type_into("password", password).await;
        self.click("button[type=submit]").await;
    }

    /// Types into the first cell of a notebook and runs it, until it says something: a notebook is drawn anew while it
    /// opens, and its kernel may not be there yet.
    pub async fn run_cell(&self, text: &str, wanted: &str) {
        let output = By::XPath(format!(
            "//*[contains(@class, 'jp-OutputArea')][contains(., '{wanted}')]"
        ));
        let since = Instant::now();
        loop {
            let _ = self.try_cell(text).await;
            let said = self.driver.query(output.clone()).wait(PATIENCE / 4, STEP).first().await;
            if said.is_ok() {
                return;
            }
            assert!(since.elapsed() < 3 * PATIENCE, "{}", self.text().await);
        }
    }

    async fn try_cell(&self, text: &str) -> WebDriverResult<()> {
        let cell = self.wait_for(By::Css(".jp-Notebook .jp-Cell .cm-content")).await;
        cell.click().await?;
        cell.send_keys(Key::Control + "a").await?;
        cell.send_keys(text).await?;
        cell.send_keys(Key::Shift + Key::Enter).await
    }

    // What a person sees.

    /// What a script of the page says, by calling its first argument.
    pub async fn said_by(&self, script: &str) -> String {
        let said = self.driver.execute_async(script, Vec::new()).await.unwrap();
        said.convert().unwrap()
    }

    pub async fn text(&self) -> String {
        self.driver.find(By::Tag("body")).await.unwrap().text().await.unwrap()
    }

    pub async fn wait_for_text(&self, wanted: &str) {
        self.wait_for(By::XPath(format!("//body[contains(., '{wanted}')]")))
            .await;
    }

    /// The same within the element of an id.
    pub async fn wait_for_text_in(&self, id: &str, wanted: &str) {
        self.wait_for(By::XPath(format!("//*[@id='{id}'][contains(., '{wanted}')]")))
            .await;
    }

    /// Another message than now, within the element of an id.
    pub async fn wait_for_news_in(&self, id: &str) {
        let message = format!("//*[@id='{id}']//*[@class='message']");
        let now = self.wait_for(By::XPath(&message)).await.text().await.unwrap();
        self.wait_for(By::XPath(format!("{message}[. != '{now}']"))).await;
    }

    pub async fn wait_for_login_page(&self, issuer: &str) {
        self.wait_for(By::Name("password")).await;
        let address = self.address().await;
        assert!(address.starts_with(&format!("{issuer}/authorize?")), "{address}");
    }

    async fn wait_for(&self, what: By) -> WebElement {
        let found = self.driver.query(what.clone()).wait(PATIENCE, STEP).first().await;
        match found {
            Ok(element) => element,
            Err(_) => panic!(
                "{what:?} never came up at {}: {}",
                self.address().await,
                self.text().await
            ),
        }
    }

    // Pictures, for whoever runs the tests and wants to look at some.

    /// As it is.
    pub async fn picture(&self, name: &str) {
        if let Ok(folder) = std::env::var("VESTIBULE_SCREENSHOTS") {
            let file = Path::new(&folder).join(format!("{name}.png"));
            self.driver.screenshot(&file).await.unwrap();
        }
    }

    /// On a desk and on a phone, by day and by night.
    pub async fn pictures(&self, name: &str) {
        if std::env::var_os("VESTIBULE_SCREENSHOTS").is_none() {
            return;
        }
        let (size, light) = ("Emulation.setDeviceMetricsOverride", "Emulation.setEmulatedMedia");
        for (device, width, height) in [("desk", 1_000, 800), ("phone", 390, 844)] {
            let screen = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
            self.tell_devtools(size, screen).await;
            for time in ["light", "dark"] {
                let features = json!({"features": [{"name": "prefers-color-scheme", "value": time}]});
                self.tell_devtools(light, features).await;
                self.picture(&format!("{name}-{device}-{time}")).await;
            }
        }
        self.tell_devtools(light, json!({"features": []})).await;
        self.tell_devtools("Emulation.clearDeviceMetricsOverride", json!({}))
            .await;
    }

    async fn tell_devtools(&self, command: &str, parameters: Value) {
        self.driver.cdp().send_raw(command, parameters).await.unwrap();
    }
}

fn capabilities(profile: &Path) -> ChromeCapabilities {
    let mut capabilities = DesiredCapabilities::chrome();
    for argument in [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1000,900",
        &format!("--user-data-dir={}", profile.display()),
    ] {
        capabilities.add_arg(argument).unwrap();
    }
    capabilities
}

/// A chromedriver, the browser that it started, and the profile; all are gone when this is dropped.
struct Processes {
    guard: Child,
    profile: tempfile::TempDir,
}

/// Ends its whole group when its input ends: also when the tests are killed.
const GUARD: &str = "chromedriver --port=0 & exec >&-; read -r _; kill -KILL 0";

impl Processes {
    fn start() -> Self {
        let guard = Command::new("sh")
            .args(["-c", GUARD])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        Self {
            guard: guard.unwrap(),
            profile: tempfile::tempdir().unwrap(),
        }
    }

    /// The port that it says that it listens on.
    fn port(&mut self) -> String {
        let output = BufReader::new(self.guard.stdout.take().unwrap());
        let mut lines = output.lines().map_while(Result::ok);
        let ready = lines.find(|line| line.contains("started successfully on port"));
        let ready = ready.expect("chromedriver did not start");
        std::thread::spawn(move || lines.for_each(drop));
        ready.rsplit(' ').next().unwrap().trim_end_matches('.').to_owned()
    }

    /// What still runs, also what has left the group.
    fn alive(&self) -> Vec<String> {
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let known = processes.filter_map(|process| Known::of(&process.path()));
        let ours = known.filter(|process| {
            process.group == self.guard.id().to_string()
                || process.command.contains(self.profile.path().to_str().unwrap())
        });
        ours.map(|process| process.command).collect()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
        let end = Instant::now() + PATIENCE;
        while !self.alive().is_empty() && Instant::now() < end {
            std::thread::sleep(STEP);
        }
        if !std::thread::panicking() {
            assert_eq!(self.alive(), [""; 0], "a process outlives its test");
        }
    }
}

/// A process that has not ended.
struct Known {
    group: String,
    command: String,
}

impl Known {
    /// From its directory in `/proc`; `None` when it has ended, though nobody may have asked how.
    fn of(process: &Path) -> Option<Self> {
        let status = std::fs::read_to_string(process.join("stat")).ok()?;
        // Behind the name, which may have blanks: state, parent, group.
        let mut fields = status.rsplit(") ").next()?.split(' ');
        let state = fields.next()?;
        let group = fields.nth(1)?.to_owned();
        let command = std::fs::read_to_string(process.join("cmdline")).ok()?;
        (state != "Z").then_some(Self { group, command })
    }
}
