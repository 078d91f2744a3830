//! The demo, logged into with a real Chromium.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use thirtyfour::prelude::*;

use crate::support::{demo::Demo, programs::installed};

const INSTALL: &str = "apt-get install -y chromium chromium-driver";

struct Chromium {
    driver: WebDriver,
    process: Child,
    _profile: tempfile::TempDir,
}

impl Chromium {
    async fn start() -> Self {
        // The driver's client is built without one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            // A group of its own, so that the browser goes with its driver.
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let ready = lines
            .find(|line| line.contains("started successfully on port"))
            .expect("chromedriver did not start");
        let port = ready.rsplit(' ').next().unwrap().trim_end_matches('.').to_owned();
        std::thread::spawn(move || lines.for_each(drop));
        let profile = tempfile::tempdir().unwrap();
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
        ] {
            capabilities.add_arg(argument).unwrap();
        }
        capabilities
            .add_arg(&format!("--user-data-dir={}", profile.path().display()))
            .unwrap();
        let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), capabilities)
            .await
            .unwrap();
        Self {
            driver,
            process,
            _profile: profile,
        }
    }

    /// Leaves a picture where whoever runs the tests wants to look at one.
    async fn picture(&self, name: &str) {
        if let Ok(folder) = std::env::var("VESTIBULE_SCREENSHOTS") {
            self.driver
                .screenshot(&Path::new(&folder).join(format!("{name}.png")))
                .await
                .unwrap();
        }
    }

    async fn text(&self) -> String {
        self.driver.find(By::Tag("body")).await.unwrap().text().await.unwrap()
    }

    async fn log_in(&self, username: &str, password: &str) {
        let field = self
            .driver
            .query(By::Name("username"))
            .wait(PATIENCE, STEP)
            .first()
            .await
            .unwrap();
        field.send_keys(username).await.unwrap();
        self.driver
            .find(By::Name("password"))
            .await
            .unwrap()
            .send_keys(password)
            .await
            .unwrap();
        self.driver
            .find(By::Css("button[type=submit]"))
            .await
            .unwrap()
            .click()
            .await
            .unwrap();
    }

    async fn wait_for_text(&self, wanted: &str) {
        let body = self.driver.query(By::XPath(format!("//body[contains(., '{wanted}')]")));
        if body.wait(PATIENCE, STEP).first().await.is_err() {
            panic!(
                "{wanted:?} never came up at {}: {}",
                self.driver.current_url().await.unwrap(),
                self.text().await
            );
        }
    }

    async fn leave(self) {
        self.driver.clone().quit().await.unwrap();
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill")
            .args(["-KILL", "--", &group])
            .stderr(Stdio::null())
            .status();
        let _ = self.process.wait();
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_person_logs_in_signs_the_guestbook_and_signs_out() {
    if !installed(&["chromium", "chromedriver"], INSTALL) {
        return;
    }
    let demo = Demo::start();
    let chromium = Chromium::start().await;
    let driver = &chromium.driver;

    let deep = demo.url("/entries/archive?year=1999");
    driver.goto(&deep).await.unwrap();
    chromium.wait_for_text("development").await;
    chromium.picture("1-login-form").await;
    chromium.log_in("alice", "alice").await;
    chromium.wait_for_text("alice@example.com").await;
    assert_eq!(
        driver.current_url().await.unwrap().as_str(),
        deep,
        "back at the deep link"
    );
    chromium.picture("2-deep-link").await;

    driver.goto(demo.url("/")).await.unwrap();
    let message = driver.find(By::Name("message")).await.unwrap();
    message.send_keys("hello from a real browser").await.unwrap();
    driver
        .find(By::Css(
            "form[action='/sign'] button, form[action='/sign'] input[type=submit]",
        ))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    chromium.wait_for_text("hello from a real browser").await;
    chromium.picture("3-guestbook").await;

    driver.goto(demo.url("/admin")).await.unwrap();
    chromium.wait_for_text("You may not enter here").await;
    chromium.wait_for_text("Reference").await;
    chromium.picture("4-denied").await;

    driver.goto(demo.url("/")).await.unwrap();
    driver
        .find(By::Css(
            "form[action='/oauth2/sign_out'] button, form[action='/oauth2/sign_out'] input[type=submit]",
        ))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    chromium.wait_for_text("You are signed out").await;
    chromium.picture("5-signed-out").await;

    driver.goto(demo.url("/")).await.unwrap();
    chromium.wait_for_text("development").await;
    chromium.log_in("admin", "admin").await;
    chromium.wait_for_text("admin@example.com").await;
    driver.goto(demo.url("/admin")).await.unwrap();
    chromium.wait_for_text("admin").await;
    assert!(!chromium.text().await.contains("You may not enter here"));
    chromium.picture("6-admin").await;
    chromium.leave().await;
}
