//! The `[server.tls]` table, and what it means for the routes.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;

/// A folder with a certificate for these hosts that ends with the beginning of a day in 2027; today is 15 January.
fn folder(hosts: &[&str], year: i32, day: u8) -> Folder {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.not_after = date_time_ymd(year, 1, day);
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let certificate = params.self_signed(&key).unwrap().pem();
    Folder::new()
        .with("tls.crt", &certificate)
        .with("half.crt", certificate.split_at(certificate.len() / 2).0)
        .with("tls.key", &key.serialize_pem())
        .with("other.key", &other.serialize_pem())
}

fn wiki() -> Folder {
    folder(&["wiki.example.com"], 2090, 1)
}

const FILES: &str = "cert_file = \"tls.crt\"\nkey_file = \"tls.key\"\n";

/// What is wrong with such a table, in front of such a route.
fn problems(folder: &Folder, tls: &str, more: &str) -> String {
    let text = format!("{PROVIDER}{ROUTE}{more}\n[server.tls]\n{tls}\n");
    let problems = folder.parse(&text).unwrap_err();
    let said = problems
        .iter()
        .map(|problem| format!("{}; {}", problem.message, problem.instead));
    said.collect::<Vec<_>>().join("\n")
}

fn warned(folder: &Folder, tls: &str) -> String {
    let text = format!("{PROVIDER}{ROUTE}[server.tls]\n{tls}\n");
    let settings = folder.parse(&text).map_err(|problems| problems.to_string()).unwrap();
    warnings(&settings)
}

#[test]
fn a_certificate_and_its_key_are_all_it_takes() {
    let text = format!("{PROVIDER}{ROUTE}[server.tls]\n{FILES}");
    let settings = wiki().parse(&text).unwrap();
    let tls = settings.server.tls.unwrap();
    assert_eq!(tls.key_pairs[0].name(), "wiki.example.com");
    assert!(tls.client_authorities.is_none() && settings.server.redirect.is_empty());
    assert!(!warned(&wiki(), FILES).contains("certificate"));
}

#[test]
fn a_bad_pair_names_its_file_and_the_remedy() {
    let folder = wiki();
    for (tls, said) in [
        ("cert_file = \"tls.crt\"", "`key_file` is missing in [server.tls]"),
        ("", "`cert_file` is missing in [server.tls]"),
        (
            "cert_file = \"tls.crt\"\nkey_file = \"other.key\"",
            "other.key cannot be used: it is the key of another",
        ),
        (
            "cert_file = \"half.crt\"\nkey_file = \"tls.key\"",
            "half.crt cannot be used: not a PEM file",
        ),
        (
            "cert_file = \"tls.key\"\nkey_file = \"tls.key\"",
            "tls.key cannot be used: it holds no certificate",
        ),
        (
            "cert_file = \"tls.crt\"\nkey_file = \"tls.crt\"",
            "tls.crt cannot be used: not a PEM file",
        ),
        (
            "cert_file = \"none.crt\"\nkey_file = \"tls.key\"",
            "cannot read none.crt",
        ),
        (
            "cert_file = \"tls.crt\"\nkey_file = \"tls.key\"\nmin_version = \"1.1\"",
            "cannot be \"1.1\"",
        ),
        (
            "cert_file = \"tls.crt\"\nkey_file = \"tls.key\"\ncertificates = [{ cert_file = \"tls.crt\", key_file = \"tls.key\" }]",
            "stands beside",
        ),
        (
            "certificates = [{ cert_file = \"tls.crt\" }]",
            "`key_file` is missing in [server.tls.certificates]",
        ),
        (
            "cert_file = \"tls.crt\"\nkey_file = \"tls.key\"\nclient_ca_file = \"tls.key\"",
            "it holds no certificate",
        ),
    ] {
        let problems = problems(&folder, tls, "");
        assert!(problems.contains(said), "{tls}: {problems}");
    }
}

#[test]
fn clear_text_has_no_place_beside_it() {
    let http = "[route.a]\nurl = \"http://a.example.com\"\nupstream = \"http://a\"\n";
    let said = problems(&wiki(), FILES, http);
    assert!(
        said.contains("route `a` is in clear text") && said.contains("leave [server.tls] out"),
        "{said}"
    );
    let said = problems(&wiki(), FILES, "[server]\nh2c = true\n");
    assert!(said.contains("no HTTP/2 in clear text"), "{said}");
    let same = format!("{FILES}redirect_listen = [\"127.0.0.1:443\"]\n");
    let said = problems(&wiki(), &same, "[server]\nlisten = [\"127.0.0.1:443\"]\n");
    assert!(said.contains("this stands in the list twice"), "{said}");
}

#[test]
fn a_certificate_that_ends_is_warned_about() {
    for (year, day, warning) in [
        (2027, 15, "has ended"),
        (2020, 1, "has ended"),
        (2027, 16, "ends in 0 days"),
        (2027, 28, "ends in 12 days"),
    ] {
        let warnings = warned(&folder(&["wiki.example.com"], year, day), FILES);
        assert!(
            warnings.contains(&format!("the certificate in tls.crt {warning}")),
            "{warnings}"
        );
    }
    assert!(!warned(&folder(&["wiki.example.com"], 2027, 30), FILES).contains("ends in"));
}

#[test]
fn a_host_that_no_certificate_is_for_is_warned_about() {
    for (hosts, is_covered) in [
        (&["a.example.com", "wiki.example.com"][..], true),
        (&["*.example.com"], true),
        (&["example.com"], false),
        (&["*.wiki.example.com"], false),
    ] {
        let warnings = warned(&folder(hosts, 2090, 1), FILES);
        let said = warnings.contains("no certificate is for wiki.example.com");
        assert_eq!(said, !is_covered, "{hosts:?}: {warnings}");
    }
}

#[test]
fn rules_about_certificates_need_somebody_who_vouches_for_them() {
    for rules in [
        "client_certificate = \"require\"",
        "allow.client_certificates = [\"CN=ops\"]",
        "deny = [{ client_certificates = [\"CN=ops\"] }]",
    ] {
        for said in [
            problems(&wiki(), FILES, rules),
            read(&format!("{PROVIDER}{ROUTE}{rules}\n")).unwrap_err().to_string(),
        ] {
            assert!(said.contains("clients are not asked for certificates"), "{said}");
            assert!(
                said.contains("client_ca_file = \"clients-ca.pem\" in [server.tls]"),
                "{said}"
            );
        }
        let text = format!("{PROVIDER}{ROUTE}{rules}\n[server.tls]\n{FILES}client_ca_file = \"tls.crt\"\n");
        let settings = wiki().parse(&text).map_err(|problems| problems.to_string());
        assert!(settings.is_ok(), "{rules}: {settings:?}");
    }
    let said = problems(&wiki(), FILES, "allow.client_certificates = [\"ops-1\"]");
    assert!(
        said.contains("is not the name of a certificate: \"ops-1\"") && said.contains("CN=ops-1,O=Example"),
        "{said}"
    );
}
