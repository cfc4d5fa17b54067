//! Asks `grpc.health.v1.Health/Check` over HTTP/2 without TLS, as the kubelet does. One message each way, so that no
//! client of gRPC is needed for it.

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::ResponseFuture;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use tokio::net::TcpStream;

/// The most bytes that are read of an answer: a message has two after its prefix of five.
const ANSWER_BYTES_MAX: usize = 4 << 10;
/// Statuses of gRPC that mean something to a probe.
const OK: &str = "0";
const NOT_FOUND: &str = "5";
const UNIMPLEMENTED: &str = "12";

/// Asks how `service` is, or the whole server if it is empty; an error says what was wrong with the answer.
pub(super) async fn check(stream: TcpStream, service: &str) -> Result<(), String> {
    let what = match service {
        "" => "grpc health".to_owned(),
        service => format!("grpc health of {service:?}"),
    };
    let asked = ask(stream, service).await;
    asked.map_err(|why| format!("{what}: {why}"))
}

async fn ask(stream: TcpStream, service: &str) -> Result<(), String> {
    let lost = |error: h2::Error| match error.is_library() {
        true => "what listens there speaks no HTTP/2, and so no gRPC".to_owned(),
        false => error.to_string(),
    };
    let (sender, connection) = h2::client::handshake(stream).await.map_err(lost)?;
    let exchange = async {
        let mut sender = sender.ready().await.map_err(lost)?;
        let (answer, mut body) = sender.send_request(request()?, false).map_err(lost)?;
        body.send_data(message(service), true).map_err(lost)?;
        read(answer).await.map_err(lost)?
    };
    tokio::pin!(connection, exchange);
    tokio::select! {
        biased;
        result = &mut exchange => result,
        ended = &mut connection => match ended {
            // What it had sent before it ended may be the answer.
            Ok(()) => exchange.await,
            Err(error) => Err(lost(error)),
        },
    }
}

fn request() -> Result<Request<()>, String> {
    Request::post("http://localhost/grpc.health.v1.Health/Check")
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, "kube-probe/coracle")
        .body(())
        .map_err(|error| error.to_string())
}

/// Returns a HealthCheckRequest with what stands before it: its field 1 is the service.
fn message(service: &str) -> Bytes {
    let mut field = BytesMut::new();
    if !service.is_empty() {
        field.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            field.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        field.put_u8(length as u8);
        field.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(field.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(&field);
    framed.freeze()
}

/// Reads an answer to its end, and judges it.
async fn read(answer: ResponseFuture) -> Result<Result<(), String>, h2::Error> {
    let (head, mut body) = answer.await?.into_parts();
    let mut read = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        if read.len().saturating_add(data.len()) > ANSWER_BYTES_MAX {
            return Ok(Err("the answer is no HealthCheckResponse".to_owned()));
        }
        read.extend_from_slice(&data);
    }
    let trailers = body.trailers().await?.unwrap_or(head.headers);
    Ok(judge(head.status, &trailers, &read))
}

/// Tells what an answer means; `trailers` are the head's where there is nothing else.
fn judge(status: StatusCode, trailers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        None => Err(format!("HTTP status {}, and no gRPC", status.as_u16())),
        Some(OK) => match body {
            // A prefix of five bytes, then field 1 with the status.
            [0, 0, 0, 0, 2, 0x08, 1] => Ok(()),
            [0, 0, 0, 0, 2, 0x08, 2] => Err("NOT_SERVING".to_owned()),
            [0, 0, 0, 0, 2, 0x08, 3] => Err("SERVICE_UNKNOWN".to_owned()),
            [0, 0, 0, 0, 0] => Err("UNKNOWN".to_owned()),
            _ => Err("the answer is no HealthCheckResponse".to_owned()),
        },
        Some(NOT_FOUND) => Err("the server does not know the service".to_owned()),
        Some(UNIMPLEMENTED) => {
            Err("the server does not implement grpc.health.v1.Health".to_owned())
        }
        Some(other) => {
            let message = text("grpc-message").unwrap_or_default();
            Err(format!("gRPC status {other} {message}")
                .trim_end()
                .to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_travels_in_field_1() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = "x".repeat(300);
        // 300 is 0xac 0x02 in base 128, protobuf's own example.
        assert_eq!(message(&long)[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn only_serving_is_good() {
        let case = |grpc: Option<&'static str>, body: &[u8]| {
            let mut trailers = HeaderMap::new();
            if let Some(grpc) = grpc {
                trailers.insert("grpc-status", http::HeaderValue::from_static(grpc));
            }
            judge(StatusCode::OK, &trailers, body).map_err(|why| why.split(' ').count())
        };
        assert_eq!(case(Some("0"), &[0, 0, 0, 0, 2, 8, 1]), Ok(()));
        let bad: [(Option<&'static str>, &[u8]); 7] = [
            (Some("0"), &[0, 0, 0, 0, 2, 8, 2]),
            (Some("0"), &[0, 0, 0, 0, 0]),
            (Some("0"), &[1, 0, 0, 0, 2, 8, 1]),
            (Some("0"), &[]),
            (Some("12"), &[]),
            (Some("14"), &[0, 0, 0, 0, 2, 8, 1]),
            (None, &[0, 0, 0, 0, 2, 8, 1]),
        ];
        for (status, body) in bad {
            assert!(case(status, body).is_err(), "{status:?} {body:?}");
        }
    }
}
