//! From failure codes to the statuses of HTTP and gRPC: the only place that knows both.

use coracle_base::Code;

/// Returns the HTTP status of a failure.
#[must_use]
pub fn http_status(code: Code) -> u16 {
    match code {
        Code::InvalidArgument | Code::FailedPrecondition => 400,
        Code::NotFound => 404,
        Code::AlreadyExists => 409,
        Code::ResourceExhausted => 429,
        Code::Internal => 500,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
    }
}

/// Returns the gRPC status of a failure.
#[must_use]
pub fn grpc_status(code: Code) -> i32 {
    match code {
        Code::InvalidArgument => 3,
        Code::DeadlineExceeded => 4,
        Code::NotFound => 5,
        Code::AlreadyExists => 6,
        Code::ResourceExhausted => 8,
        Code::FailedPrecondition => 9,
        Code::Unimplemented => 12,
        Code::Internal => 13,
        Code::Unavailable => 14,
    }
}

/// Returns the failure that a gRPC status is; `None` for a call that went well. What has no code of ours is `Internal`.
#[must_use]
pub fn code_of_grpc(status: i32) -> Option<Code> {
    if status == 0 {
        return None;
    }
    let same = |code: &Code| grpc_status(*code) == status;
    Some(Code::ALL.into_iter().find(same).unwrap_or(Code::Internal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_of_grpc_are_read_back() {
        for code in Code::ALL {
            assert_eq!(code_of_grpc(grpc_status(code)), Some(code));
        }
        assert_eq!(code_of_grpc(0), None);
        // CANCELLED, UNAUTHENTICATED, and none at all.
        for status in [1, 16, 99, -1] {
            assert_eq!(code_of_grpc(status), Some(Code::Internal));
        }
    }

    #[test]
    fn the_published_table_has_every_code_with_its_statuses() {
        let document = include_str!("../../../docs/compatibility.md");
        for code in Code::ALL {
            let row = format!(
                "| `{code}` | {} | {} |",
                http_status(code),
                grpc_status(code)
            );
            assert!(
                document.contains(&row),
                "docs/compatibility.md lacks {row:?}"
            );
        }
    }
}
