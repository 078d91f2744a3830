//! The commands, as a shell runs them.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
};

use vestibule::secret::random_text;

const WHOLE_FILE: &str = r#"[provider.corp]
issuer = "https://id.example.com/realms/corp"
client_id = "wiki"
client_secret_file = "client"

[route.wiki]
url = "https://wiki.example.com"
upstream = "http://127.0.0.1:3000"
"#;

/// A directory of its own, gone when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("vestibule-{}", random_text::<12>()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn with(self, name: &str, content: &str) -> Self {
        fs::write(self.0.join(name), content).unwrap();
        self
    }

    fn run(&self, arguments: &[&str]) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
        Answer(command.args(arguments).current_dir(&self.0).output().unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Answer(Output);

impl Answer {
    fn status(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    fn says(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    fn complains(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }
}

#[test]
fn check_says_in_words_what_is_let_in() {
    let folder = Folder::new().with("six.toml", WHOLE_FILE).with("client", "s3cret\n");
    let answer = folder.run(&["check", "--config", "six.toml"]);
    assert_eq!(answer.status(), 0);
    for words in [
        "https://wiki.example.com/…\n",
        "anyone whom `corp` can log in\n",
        "browsers are sent to log in; scripts get 401\n",
        "the application receives x-forwarded-user, ",
        "https://wiki.example.com/oauth2/callback\n",
    ] {
        assert!(answer.says().contains(words), "{}\nlacks {words}", answer.says());
    }
}

#[test]
fn what_an_expression_says_is_explained() {
    let rules =
        "[route.wiki.allow]\nexpression = \"claims.level >= 3\"\n[[route.wiki.deny]]\nexpression = \"claims.locked\"\n";
    let folder = Folder::new()
        .with("six.toml", &format!("{WHOLE_FILE}{rules}"))
        .with("client", "s3cret\n")
        .with("ann", r#"{"sub": "ann", "level": 3, "locked": false}"#)
        .with("bob", r#"{"sub": "bob"}"#);
    let says = |arguments: &[&str]| folder.run(&[arguments, &["--config", "six.toml"]].concat()).says();
    let explain = |who: &str| says(&["explain", "https://wiki.example.com/", "--claims", who]);
    assert!(
        says(&["check"]).contains("where claims.level >= 3"),
        "{}",
        says(&["check"])
    );
    let ann = explain("ann");
    assert!(
        ann.contains("✓ expression: wanted claims.level >= 3; found true"),
        "{ann}"
    );
    assert!(ann.contains("✗ expression: wanted claims.locked; found false"), "{ann}");
    let bob = explain("bob");
    assert!(
        bob.contains("✗ expression: wanted claims.level >= 3; found nothing certain: No such key: level"),
        "{bob}"
    );
    assert!(
        bob.contains("✓ expression: wanted claims.locked; found nothing certain: No such key: locked"),
        "{bob}"
    );
    assert!(bob.contains("the 1. [[deny]] table applies"), "{bob}");
}

#[test]
fn check_warns_on_standard_error_and_still_says_yes() {
    let folder = Folder::new().with("six.toml", WHOLE_FILE).with("client", "s3cret\n");
    let answer = folder.run(&["check", "-c", "six.toml"]);
    assert_eq!(answer.status(), 0);
    assert!(answer.complains().contains("warning: no `key_files`"));
    assert!(!answer.says().contains("warning"));
}

#[test]
fn check_reports_every_problem_and_says_no() {
    let folder = Folder::new().with("bad.toml", "[route.a]\nurl = \"a\"\n[server]\nlisten = 1\n");
    let answer = folder.run(&["check", "--config", "bad.toml"]);
    assert_eq!((answer.status(), answer.says().as_str()), (1, ""));
    for place in ["bad.toml:1:1", "bad.toml:2:7", "bad.toml:4:10", "problems"] {
        assert!(
            answer.complains().contains(place),
            "{}\nlacks {place}",
            answer.complains()
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_no() {
    for command in ["check", "run"] {
        let answer = Folder::new().run(&[command, "--config", "none.toml"]);
        assert_eq!(answer.status(), 1);
        assert!(answer.complains().contains("cannot read none.toml"));
    }
}

#[test]
fn an_inline_secret_is_not_repeated() {
    let folder = Folder::new().with(
        "bad.toml",
        &WHOLE_FILE.replace("client_secret_file = \"client\"", "client_secret = \"hunter2\""),
    );
    let answer = folder.run(&["check", "--config", "bad.toml"]);
    assert_eq!(answer.status(), 1);
    assert!(answer.complains().contains("does not belong in this file"));
    assert!(!answer.complains().contains("hunter2"));
}

#[test]
fn keygen_prints_a_fresh_key() {
    let folder = Folder::new();
    let [one, other] = [(); 2].map(|()| folder.run(&["keygen"]).says());
    assert_eq!(one.trim_end().len(), 43);
    assert_ne!(one, other);
}

#[test]
fn keygen_makes_a_key_pair_that_an_assertion_can_be_signed_with() {
    let assertion = "[assertion]\nkey_files = [\"new\", \"old\"]\n[route.wiki.identity]\nassertion = {}\n";
    let folder = Folder::new().with("signed.toml", &format!("{WHOLE_FILE}{assertion}"));
    let folder = folder.with("client", "s3cret");
    for (kind, name) in [("es256", "new"), ("ed25519", "old")] {
        assert_eq!(folder.run(&["keygen", "--kind", kind, "--output", name]).status(), 0);
    }
    let answer = folder.run(&["check", "--config", "signed.toml"]);
    assert_eq!(answer.status(), 0, "{}", answer.complains());
    assert!(!answer.complains().contains("[assertion]"), "{}", answer.complains());
}

#[test]
fn keygen_writes_a_key_that_only_its_owner_can_read_and_never_over_another() {
    let folder = Folder::new().with("keys.toml", &format!("[session]\nkey_files = [\"key\"]\n{WHOLE_FILE}"));
    let folder = folder.with("client", "s3cret");
    assert_eq!(folder.run(&["keygen", "--output", "key"]).status(), 0);
    let key = fs::read_to_string(folder.0.join("key")).unwrap();
    assert_eq!(
        fs::metadata(folder.0.join("key")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let again = folder.run(&["keygen", "--output", "key"]);
    assert!(again.status() == 1 && again.complains().contains("cannot write key"));
    assert_eq!(fs::read_to_string(folder.0.join("key")).unwrap(), key);
    assert_eq!(folder.run(&["check", "--config", "keys.toml"]).status(), 0);
}

#[test]
fn help_and_version_are_answers() {
    let folder = Folder::new();
    let help = folder.run(&["--help"]);
    assert!(help.status() == 0 && help.says().contains("Exit status:") && help.says().contains("check"));
    let version = folder.run(&["--version"]);
    assert!(version.status() == 0 && version.says().starts_with("vestibule "));
}

#[test]
fn wrong_usage_is_told_apart_from_a_no() {
    for arguments in [
        &[][..],
        &["serve"],
        &["run"],
        &["check", "--config"],
        &["check", "--confg", "x"],
    ] {
        assert_eq!(Folder::new().run(arguments).status(), 2, "{arguments:?}");
    }
}

#[test]
fn check_points_at_what_somebody_who_looks_for_the_hole_would_circle() {
    let text = r#"[session]
max_lifetime = "30d"
[provider.google]
issuer = "https://accounts.google.com"
client_id = "wiki"
client_auth = "none"
[provider.google.insecure_unverified_email]
reason = "the directory is trusted"
until = "2099-01-31"
[route.wiki]
url = "https://wiki.example.com"
upstream = "http://10.0.0.5:3000"
providers = ["google"]
[route.mail]
url = "https://wiki.example.com/mail"
upstream = "http://127.0.0.1:3000"
allow = { email_domains = ["example.com"] }
providers = ["google"]
[provider.partner]
issuer = "https://id.partner.example"
client_id = "wiki"
client_auth = "none"
[route.both]
url = "https://wiki.example.com/both"
upstream = "http://127.0.0.1:3000"
[route.either]
url = "https://wiki.example.com/either"
upstream = "http://127.0.0.1:3000"
[route.either.allow]
expression = "provider == 'partner' && 'ops' in groups"
[route.either.identity.headers]
X-User = "{issuer} {sub}"
[admin]
listen = "10.0.0.5:4181"
[route.logo]
url = "https://wiki.example.com/logo"
upstream = "http://127.0.0.1:3000"
auth = ["public"]
"#;
    let folder = Folder::new().with("wiki.toml", text);
    let answer = folder.run(&["check", "--config", "wiki.toml"]);
    assert_eq!(answer.status(), 0);
    for words in [
        "`max_lifetime` is long",
        "by `preferred_username`, which people can change",
        "anybody with an account at https://accounts.google.com passes [route.wiki]",
        "[route.wiki] goes to 10.0.0.5 in clear text",
        "[route.mail] lets in by address, and `google` does not have to have verified one",
        "[route.logo] is public",
        "[route.both] takes people of 2 providers, and each says by itself who is called what",
        "10.0.0.5:4181 answers in clear text whoever reaches it",
        "weakens a check until 2099-01-31",
    ] {
        assert!(
            answer.complains().contains(words),
            "{}\nlacks {words}",
            answer.complains()
        );
    }
    for silent in ["passes [route.mail]", "[route.either] takes people"] {
        assert!(!answer.complains().contains(silent), "{}", answer.complains());
    }
    let strict = folder.run(&["check", "--strict", "--config", "wiki.toml"]);
    assert_eq!(strict.status(), 1);
    assert!(
        strict.complains().contains("--strict: 12 to mend or to accept"),
        "{}",
        strict.complains()
    );
    assert!(
        strict.says().contains("anyone at all"),
        "and it says all the same what is let in"
    );
}

#[test]
fn check_tells_what_is_handed_over_and_what_that_means() {
    let text = r#"[provider.corp]
issuer = "https://id.example.com"
client_id = "wiki"
client_auth = "none"
[route.signed]
url = "https://wiki.example.com/signed"
upstream = "http://10.0.0.5:3000"
identity = { assertion = { ttl = "30s" } }
[route.token]
url = "https://wiki.example.com/token"
upstream = "http://10.0.0.6:3000"
identity = { access_token = "authorization", assertion = { header = "X-Proof", audience = "all" } }
[route.other]
url = "https://wiki.example.com/other"
upstream = "https://10.0.0.7:3000"
identity = { assertion = { audience = "all" } }
[route.same]
url = "https://wiki.example.com/same"
upstream = "http://10.0.0.5:3000"
identity = { assertion = { audience = "signed" } }
"#;
    let folder = Folder::new().with("wiki.toml", text);
    let answer = folder.run(&["check", "--config", "wiki.toml"]);
    for words in [
        "a signed assertion in x-vestibule-assertion, for the audience \"signed\", good for 30 seconds\n",
        "a signed assertion in x-proof, for the audience \"all\", good for 1 minute\n",
        "the person's access token in authorization\n",
        "origin here:\n  https://wiki.example.com/oauth2/jwks\n",
    ] {
        assert!(answer.says().contains(words), "{}\nlacks {words}", answer.says());
    }
    for words in [
        "no `key_files` in [assertion]",
        "[route.token] hands over access tokens",
        "[route.other] and [route.token] lead to different applications, and assert to the audience \"all\"",
        "10.0.0.6 in clear text, with an access token",
    ] {
        assert!(
            answer.complains().contains(words),
            "{}\nlacks {words}",
            answer.complains()
        );
    }
    for silent in ["10.0.0.5", "[route.same] and"] {
        assert!(!answer.complains().contains(silent), "{}", answer.complains());
    }

    let folder = folder.with("ann.json", "{\"sub\": \"ann\"}");
    let url = "https://wiki.example.com/token";
    let answer = folder.run(&["explain", "--config", "wiki.toml", "--claims", "ann.json", url]);
    for words in [
        "    x-proof: <signed>\n",
        "    authorization: <the access token>\n",
        "x-proof, ",
    ] {
        assert!(answer.says().contains(words), "{}\nlacks {words}", answer.says());
    }
}

#[test]
fn check_is_content_with_a_file_that_leaves_nothing_open() {
    let text = r#"[session]
key_files = ["key"]
[provider.corp]
issuer = "https://id.example.com"
client_id = "wiki"
client_auth = "none"
username_claim = "sub"
[route.wiki]
url = "https://wiki.example.com"
upstream = "http://127.0.0.1:3000"
"#;
    let folder = Folder::new().with("wiki.toml", text);
    assert_eq!(folder.run(&["keygen", "--output", "key"]).status(), 0);
    let answer = folder.run(&["check", "--strict", "--config", "wiki.toml"]);
    assert_eq!((answer.status(), answer.complains().as_str()), (0, ""));
}
