//! Which of a container's ports takes what, by Knative's and Istio's rules for their names.

use coracle_serving::PORT_DEFAULT;
use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The ports of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ports {
    /// All of them; the first takes HTTP.
    pub(super) all: Vec<u16>,
    /// The one that is named for gRPC.
    pub(super) grpc: Option<u16>,
    /// Whether HTTP is asked at the port for gRPC, since there is no other, and so in HTTP/2.
    pub(super) is_h2c: bool,
}

/// Returns the ports that a container declares: `h2c`, else the first of `grpc` and anything after it, takes gRPC; the
/// first of other names takes HTTP.
pub(super) fn declared(container: &Container) -> Result<Ports, String> {
    let mut named = Vec::new();
    for port in container.ports.iter().flatten() {
        let number = number(port.container_port)?;
        named.push((number, port.name.as_deref().unwrap_or_default()));
    }
    let is_grpc = |name: &str| name.starts_with("grpc") && !name.starts_with("grpc-web");
    let find = |is_it: &dyn Fn(&str) -> bool| named.iter().position(|(_, name)| is_it(name));
    let grpc = find(&|name| name == "h2c").or_else(|| find(&is_grpc));
    let http = find(&|name| name != "h2c" && !is_grpc(name));
    let mut all: Vec<u16> = named.iter().map(|(number, _)| *number).collect();
    let is_h2c = grpc.is_some() && http.is_none();
    let grpc_port = grpc.and_then(|index| all.get(index).copied());
    if let Some(first) = http.or(grpc) {
        // The others keep their order.
        let first = all.remove(first);
        all.insert(0, first);
    }
    Ok(Ports {
        all,
        grpc: grpc_port,
        is_h2c,
    })
}

/// Returns a port by number or by name; 0 is the one that takes requests, as Knative has it.
pub(super) fn resolve(port: &IntOrString, container: &Container) -> Result<u16, String> {
    match port {
        IntOrString::Int(0) => {
            let ports = declared(container)?;
            Ok(ports.all.first().copied().unwrap_or(PORT_DEFAULT))
        }
        IntOrString::Int(port) => number(*port),
        IntOrString::String(name) => {
            let mut own = container.ports.iter().flatten();
            let named = own.find(|port| port.name.as_deref() == Some(name.as_str()));
            let found = named
                .map(|port| port.container_port)
                .or_else(|| name.parse().ok());
            number(found.ok_or_else(|| format!("no port is named {name:?}"))?)
        }
    }
}

/// Returns the port that a gRPC probe asks; 0 is the one that takes gRPC.
pub(super) fn resolve_grpc(port: i32, container: &Container) -> Result<u16, String> {
    match declared(container)?.grpc.filter(|_| port == 0) {
        Some(grpc) => Ok(grpc),
        None => resolve(&IntOrString::Int(port), container),
    }
}

fn number(port: i32) -> Result<u16, String> {
    let number = u16::try_from(port).ok().filter(|port| *port > 0);
    number.ok_or_else(|| format!("port {port} is none; there are 1 to 65535"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(ports: serde_json::Value, all: &[u16], grpc: Option<u16>, is_h2c: bool) {
        let container = json!({"name": "c", "ports": ports});
        let container: Container = serde_json::from_value(container).unwrap();
        let expected = Ports {
            all: all.to_vec(),
            grpc,
            is_h2c,
        };
        assert_eq!(declared(&container).unwrap(), expected, "{ports}");
    }

    #[test]
    fn names_tell_what_a_port_takes() {
        let port = |number: u16, name: &str| json!({"containerPort": number, "name": name});
        check(json!([]), &[], None, false);
        check(json!([{"containerPort": 9000}]), &[9000], None, false);
        check(json!([port(9000, "h2c")]), &[9000], Some(9000), true);
        check(json!([port(9000, "grpc")]), &[9000], Some(9000), true);
        check(json!([port(9000, "grpc-web")]), &[9000], None, false);
        check(json!([port(9000, "http1")]), &[9000], None, false);
        check(
            json!([port(8080, "http1"), port(8081, "h2c")]),
            &[8080, 8081],
            Some(8081),
            false,
        );
        check(
            json!([port(8500, "grpc-data"), port(1, "h2c"), port(8501, "http")]),
            &[8501, 8500, 1],
            Some(1),
            false,
        );
        check(
            json!([port(8001, "grpc-predict"), port(8000, "http-rest")]),
            &[8000, 8001],
            Some(8001),
            false,
        );
    }

    #[test]
    fn port_0_is_the_one_that_takes_requests() {
        let container = json!({"name": "c", "ports": [
            {"containerPort": 8001, "name": "grpc"}, {"containerPort": 8000, "name": "web"}
        ]});
        let container: Container = serde_json::from_value(container).unwrap();
        let resolve = |port| resolve(&port, &container);
        assert_eq!(resolve(IntOrString::Int(0)), Ok(8000));
        assert_eq!(resolve(IntOrString::Int(70)), Ok(70));
        assert_eq!(resolve(IntOrString::String("grpc".to_owned())), Ok(8001));
        assert!(resolve(IntOrString::Int(70_000)).is_err());
        let grpc = [0, 8000].map(|port| resolve_grpc(port, &container));
        assert_eq!(grpc, [Ok(8001), Ok(8000)]);
    }
}
