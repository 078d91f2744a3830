//! Servers of gRPC that are asked whether they serve, in gRPC's own words.

use std::net::SocketAddr;

use tokio::time::{Duration, sleep, timeout};

use crate::support::{
    grpc::{Call, Service, installed},
    h2c::Application,
    house::House,
    wire::PATIENCE,
};

/// A house before these servers, which are asked about the service of this name.
async fn house_before(servers: &[SocketAddr], service: &str) -> House {
    let servers: Vec<_> = servers.iter().map(|address| format!("\"h2c://{address}\"")).collect();
    House::open_with_h2c(|address| {
        format!(
            r#"
[route.app]
url = "http://{address}/house.Open"
upstream = [{}]
auth = ["public"]
health = {{ grpc_service = "{service}", interval = "50ms", healthy = 1, unhealthy = 2 }}
"#,
            servers.join(", ")
        )
    })
    .await
}

/// A whole call to a server or to the gateway, and its last line.
async fn call(address: SocketAddr, method: &str, message: &str) -> Vec<String> {
    let mut call = Call::begin(address, method, &[]);
    call.say(message);
    call.rest().await
}

/// From now on, this is said of a service.
async fn becomes(server: &Service, service: &str, status: &str) {
    let message = format!("{service} {status}");
    assert_eq!(call(server.address, "house.Open/Become", &message).await[0], "so be it");
}

async fn until_healthy_is(house: &House, server: SocketAddr, expected: u64) {
    let line = format!("vestibule_upstream_healthy{{route=\"app\",upstream=\"h2c://{server}\"}} {expected}\n");
    let waited = async {
        while !house.admin("/metrics").await.1.contains(&line) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE * 2, waited).await.expect("its health does not change");
}

#[tokio::test]
async fn a_server_of_grpc_is_asked_whether_it_serves_and_left_out_while_it_does_not() {
    if !installed() {
        return;
    }
    let (one, other) = (Service::start(), Service::start());
    let house = house_before(&[one.address, other.address], "house.Open").await;
    // NOT_SERVING, UNKNOWN, SERVICE_UNKNOWN, and errors of the call.
    for ill in ["2", "0", "3", "UNAVAILABLE", "NOT_FOUND", "UNIMPLEMENTED"] {
        becomes(&one, "house.Open", ill).await;
        until_healthy_is(&house, one.address, 0).await;
        becomes(&one, "house.Open", "1").await;
        until_healthy_is(&house, one.address, 1).await;
    }
    becomes(&one, "house.Open", "2").await;
    until_healthy_is(&house, one.address, 0).await;
    // Whoever does not serve is asked for nothing else: what is said there is said of the other alone.
    for _ in 0..4 {
        let said = call(house.address, "house.Open/Become", "house.Open 1").await;
        assert_eq!(said[0], "so be it", "{said:?}");
    }
    until_healthy_is(&house, other.address, 1).await;
    until_healthy_is(&house, one.address, 0).await;
}

#[tokio::test]
async fn the_server_as_a_whole_may_be_well_while_a_service_is_not() {
    if !installed() {
        return;
    }
    let server = Service::start();
    becomes(&server, "house.Open", "2").await;
    let whole = house_before(&[server.address], "").await;
    let service = house_before(&[server.address], "house.Open").await;
    until_healthy_is(&service, server.address, 0).await;
    until_healthy_is(&whole, server.address, 1).await;
    becomes(&server, "", "2").await;
    until_healthy_is(&whole, server.address, 0).await;
    // One that nobody knows, and a server that has no such protocol.
    let unknown = house_before(&[server.address], "house.Nowhere").await;
    until_healthy_is(&unknown, server.address, 0).await;
    let other = Application::start().await;
    let house = house_before(&[other.address], "").await;
    until_healthy_is(&house, other.address, 0).await;
    assert_eq!(
        other.last()["target"],
        format!("http://{}/grpc.health.v1.Health/Check", house.address)
    );
}
