//! Requests that no honest client sends, byte by byte.

use crate::support::{
    house::House,
    upstream::told,
    wire::{exchange, status},
};

fn get(house: &House, target: &str, headers: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", house.address).into_bytes()
}

#[tokio::test]
async fn i_2_every_ambiguous_target_is_refused_and_never_forwarded() {
    let house = House::open().await;
    for target in [
        "/public/%2fadmin",
        "/public/%2Fadmin",
        "/public/%5cadmin",
        "/public/%5Cadmin",
        "/public/%00",
        "/public/%23",
        "/public/%3fx",
        "/public/\\admin",
        "/public/../admin",
        "/public/./admin",
        "/public/%2e%2e/admin",
        "/public/%2E/admin",
        "/public/.%2e/admin",
        "/public/..;x=1/admin",
        "/public/..",
        "/public/.",
        "//public",
        "/public//admin",
        "/public/admin;x=1",
        "/public/%zz",
        "/public/%2",
        "/public/%",
        "/public/%0a",
        "/public/%7f",
        "/public/a%0d%0ab",
    ] {
        assert_eq!(status(house.address, &get(&house, target, "")).await, 400, "{target}");
    }
    assert_eq!(house.upstream.requests(), 0);
}

#[tokio::test]
async fn cve_2025_54576_a_query_does_not_make_a_path_public() {
    let house = House::open().await;
    for target in ["/admin?/public/", "/admin?x=/public", "/administrator/../public"] {
        let status = status(house.address, &get(&house, target, "")).await;
        assert!(matches!(status, 400 | 401), "{target} → {status}");
    }
    assert_eq!(house.upstream.requests(), 0);
}

#[tokio::test]
async fn n_127_there_is_exactly_one_host() {
    let house = House::open().await;
    let host = house.address;
    for request in [
        "GET /public/ HTTP/1.1\r\n\r\n".to_owned(),
        format!("GET /public/ HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n"),
        format!("GET /public/ HTTP/1.1\r\nHost: {host}\r\nHost: evil.example.com\r\n\r\n"),
        "GET /public/ HTTP/1.1\r\nHost: \r\n\r\n".to_owned(),
        format!("GET /public/ HTTP/1.1\r\nHost: user@{host}\r\n\r\n"),
        format!("GET /public/ HTTP/1.1\r\nHost: {host},evil.example.com\r\n\r\n"),
        format!("GET /public/ HTTP/1.1\r\nHost: {host}/x\r\n\r\n"),
        format!("GET http://evil.example.com/public/ HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET http://{host}/public/ HTTP/1.1\r\nHost: evil.example.com\r\n\r\n"),
    ] {
        assert_eq!(status(house.address, request.as_bytes()).await, 400, "{request:?}");
    }
    assert_eq!(house.upstream.requests(), 0);
}

#[tokio::test]
async fn every_form_of_target_but_two_is_refused() {
    let house = House::open().await;
    let host = house.address;
    for line in [
        "GET * HTTP/1.1",
        "GET public HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET public/ HTTP/1.1",
    ] {
        assert_eq!(
            status(house.address, format!("{line}\r\nHost: {host}\r\n\r\n").as_bytes()).await,
            400,
            "{line}"
        );
    }
    for line in [format!("CONNECT {host} HTTP/1.1"), "TRACE /public/ HTTP/1.1".to_owned()] {
        let status = status(house.address, format!("{line}\r\nHost: {host}\r\n\r\n").as_bytes()).await;
        assert!(matches!(status, 400 | 405), "{line} → {status}");
    }
    assert_eq!(house.upstream.requests(), 0);
    let absolute = format!("GET http://{host}/public/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
    assert_eq!(
        status(house.address, absolute.as_bytes()).await,
        200,
        "absolute-form is fine when it agrees"
    );
}

#[tokio::test]
async fn an_unknown_host_has_no_route() {
    let house = House::open().await;
    assert_eq!(
        status(
            house.address,
            b"GET /public/ HTTP/1.1\r\nHost: evil.example.com\r\n\r\n"
        )
        .await,
        404
    );
    assert_eq!(
        status(house.address, b"GET /public/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await,
        404
    );
}

#[tokio::test]
async fn n_131_requests_that_are_framed_twice_or_oddly_reach_nobody_as_two() {
    let house = House::open().await;
    let head = format!("POST /public/ HTTP/1.1\r\nHost: {}\r\n", house.address);
    let smuggled = "GET /admin/ HTTP/1.1\r\nHost: a\r\n\r\n";
    for (framing, body) in [
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        ("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
        (
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        ("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"),
        ("Content-Length: +3\r\n", "abc"),
        ("Content-Length: 3, 3\r\n", "abc"),
        ("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
    ] {
        let request = format!("{head}{framing}\r\n{body}{smuggled}");
        let answer = exchange(house.address, request.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 501"),
            "{framing:?} → {answer}"
        );
    }
    assert_eq!(house.upstream.requests(), 0);
}

#[tokio::test]
async fn n_131_both_framings_are_one_request_with_one_framing_or_none() {
    let house = House::open().await;
    let request = format!(
        "POST /public/ HTTP/1.1\r\nHost: {}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /public/smuggled HTTP/1.1\r\nHost: {}\r\n\r\n",
        house.address, house.address
    );
    let answer = exchange(house.address, request.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 200"),
        "{answer}"
    );
    assert!(house.upstream.requests() <= 1);
    assert_ne!(house.upstream.last()["target"], "/public/smuggled");
}

#[tokio::test]
async fn i_4_no_spelling_of_an_identity_header_gets_through() {
    let house = House::open().await;
    let token = house.jwt("alice");
    let spellings = [
        "X-Forwarded-User",
        "x-forwarded-user",
        "X_Forwarded_User",
        "X-Forwarded_User",
        "X.Forwarded.User",
        "X-FORWARDED-USER",
        "X-Forwarded-Email",
        "X-Forwarded-Groups",
        "X_Forwarded_Groups",
        "Remote-User",
        "Remote_User",
        "X-Remote-User",
        "X-Auth-Request-User",
        "X-Auth-Request-Email",
        "X-WebAuth-User",
        "X-Real-IP",
        "Forwarded",
        "True-Client-IP",
        "X-Original-URL",
        "X-Rewrite-URL",
        "CF-Connecting-IP",
        // Not an identity, but HTTP_PROXY to a CGI program (CVE-2016-5385).
        "Proxy",
        "X-Custom-Identity",
        "X_Custom_Identity",
    ];
    for spelling in spellings {
        for (target, authorization) in [
            ("/public/", String::new()),
            ("/", format!("Authorization: Bearer {token}\r\n")),
        ] {
            let spoof = format!("{spelling}: mallory\r\n{authorization}");
            let answer = exchange(house.address, &get(&house, target, &spoof)).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{spelling} at {target}: {answer}");
            assert!(
                !answer.contains("mallory"),
                "{spelling} at {target} got through: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn i_5_a_claim_that_is_absent_lets_no_header_in() {
    let house = House::open().await;
    let token = house.jwt("nobody-special");
    let spoof =
        format!("X-Custom-Identity: mallory\r\nX-Forwarded-Email: mallory\r\nAuthorization: Bearer {token}\r\n");
    let answer = exchange(house.address, &get(&house, "/", &spoof)).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && !answer.contains("mallory"),
        "{answer}"
    );
    assert!(told(&house.upstream.last(), "x-forwarded-email").is_empty());
}

#[tokio::test]
async fn i_4_a_trailer_cannot_say_who_somebody_is() {
    let house = House::open().await;
    let request = format!(
        "POST /public/ HTTP/1.1\r\nHost: {}\r\nTE: trailers\r\nTrailer: X-Forwarded-User\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Forwarded-User: mallory\r\n\r\n",
        house.address
    );
    let answer = exchange(house.address, request.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && !answer.contains("mallory"),
        "{answer}"
    );
    assert_eq!(house.upstream.last()["trailers"], 0);
    assert_eq!(house.upstream.last()["body"], "hi");
}

#[tokio::test]
async fn i_6_connection_cannot_nominate_what_the_gateway_says() {
    let house = House::open().await;
    let token = house.jwt("alice");
    let nominate = format!(
        "Connection: close, X-Forwarded-User\r\nConnection: x-forwarded-groups, X-Forwarded-For, x-secret\r\nX-Secret: 1\r\nAuthorization: Bearer {token}\r\n"
    );
    exchange(house.address, &get(&house, "/", &nominate)).await;
    let seen = house.upstream.last();
    assert_eq!(told(&seen, "x-forwarded-user"), ["alice"]);
    assert_eq!(told(&seen, "x-forwarded-for"), ["127.0.0.1"]);
    assert!(told(&seen, "x-secret").is_empty());
}

#[tokio::test]
async fn i_7_forwarded_metadata_comes_from_the_socket() {
    let house = House::open().await;
    let spoof = "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example.com\r\n";
    exchange(house.address, &get(&house, "/public/", spoof)).await;
    let seen = house.upstream.last();
    assert_eq!(told(&seen, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(told(&seen, "x-forwarded-proto"), ["http"]);
    assert_eq!(told(&seen, "x-forwarded-host"), [house.address.to_string()]);
}

#[tokio::test]
async fn n_083_credentials_stay_here_and_other_cookies_go_on() {
    let house = House::open().await;
    let token = house.jwt("alice");
    let headers = format!(
        "Cookie: a=1; vestibule=x; b=\"2\"; vestibule-1=y; __Host-vestibule=z; vestibule-login-1=w; c=3\r\nAuthorization: Bearer {token}\r\nProxy-Authorization: Basic eA==\r\n"
    );
    exchange(house.address, &get(&house, "/", &headers)).await;
    let seen = house.upstream.last();
    assert_eq!(told(&seen, "cookie"), ["a=1; b=\"2\"; c=3"]);
    assert!(told(&seen, "authorization").is_empty() && told(&seen, "proxy-authorization").is_empty());
}

#[tokio::test]
async fn i_1_no_other_spelling_of_a_path_or_of_a_method_takes_another_route() {
    let house = House::open_with(|address| {
        let at = |path: &str| format!("url = \"http://{address}/open{path}\"\nupstream = \"http://127.0.0.1:9\"\n");
        format!(
            "\n[route.open]\n{}auth = [\"public\"]\n[route.purge]\n{}[route.team]\n{}[route.write]\n{}methods = [\"POST\"]\n",
            at(""),
            at("/users:purge"),
            at("/@admin"),
            at(""),
        )
    })
    .await;
    for target in [
        "/open/users:purge",
        "/open/users%3Apurge",
        "/open/users%3apurge",
        "/open/%40admin/x",
        "/open/@admin/x",
    ] {
        assert_eq!(status(house.address, &get(&house, target, "")).await, 401, "{target}");
    }
    let asked = String::from_utf8(get(&house, "/open/page", "")).unwrap();
    assert_eq!(status(house.address, asked.as_bytes()).await, 502, "nobody is there");
    assert_eq!(
        status(house.address, asked.replacen("GET", "POST", 1).as_bytes()).await,
        401
    );
    for method in ["post", "Post", "pOST", "trace", "connect"] {
        assert_eq!(
            status(house.address, asked.replacen("GET", method, 1).as_bytes()).await,
            405,
            "{method}"
        );
    }
}

#[tokio::test]
async fn i_10_h2c_is_never_forwarded() {
    let house = House::open().await;
    let upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n";
    let answer = exchange(house.address, &get(&house, "/public/", upgrade)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let seen = house.upstream.last();
    assert!(told(&seen, "upgrade").is_empty() && told(&seen, "http2-settings").is_empty());
}

#[tokio::test]
async fn f_09_heads_that_are_too_large_are_refused() {
    let house = House::open().await;
    let long = format!("X-Long: {}\r\n", "x".repeat(70_000));
    assert_eq!(status(house.address, &get(&house, "/public/", &long)).await, 431);
    let many = (0..200).map(|index| format!("X-{index}: 1\r\n")).collect::<String>();
    assert_eq!(status(house.address, &get(&house, "/public/", &many)).await, 431);
    let target = format!("/public/{}", "x".repeat(9_000));
    assert_eq!(status(house.address, &get(&house, &target, "")).await, 414);
}

#[tokio::test]
async fn reserved_paths_are_never_sent_upstream() {
    let house = House::open().await;
    for target in [
        "/oauth2",
        "/oauth2/",
        "/oauth2/nothing",
        "/oauth2/callback/x",
        "/oauth2/start/x",
    ] {
        assert_eq!(status(house.address, &get(&house, target, "")).await, 404, "{target}");
    }
    assert_eq!(house.upstream.requests(), 0);
}
