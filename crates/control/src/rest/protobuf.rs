//! Kubernetes' protobuf form of the few objects that kubectl sends so.
//!
//! Only decoding, driven by tables of fields: numbers and names from Kubernetes' published `generated.proto` files.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use serde_json::{Map, Value, json};

/// What a field holds.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    /// Bytes, which JSON writes in base64.
    Bytes,
    Flag,
    Number,
    Message(&'static [Field]),
    /// Seconds since 1970.
    Time,
    TextMap,
    BytesMap,
}

#[derive(Clone, Copy)]
struct Field {
    number: u64,
    name: &'static str,
    shape: Shape,
    repeated: bool,
}

const fn field(number: u64, name: &'static str, shape: Shape) -> Field {
    Field {
        number,
        name,
        shape,
        repeated: false,
    }
}

const fn list(number: u64, name: &'static str, shape: Shape) -> Field {
    Field {
        number,
        name,
        shape,
        repeated: true,
    }
}

const TIME: Shape = Shape::Time;

const OWNER: &[Field] = &[
    field(1, "kind", Shape::Text),
    field(3, "name", Shape::Text),
    field(4, "uid", Shape::Text),
    field(5, "apiVersion", Shape::Text),
    field(6, "controller", Shape::Flag),
    field(7, "blockOwnerDeletion", Shape::Flag),
];

const METADATA: &[Field] = &[
    field(1, "name", Shape::Text),
    field(2, "generateName", Shape::Text),
    field(3, "namespace", Shape::Text),
    field(5, "uid", Shape::Text),
    field(6, "resourceVersion", Shape::Text),
    field(8, "creationTimestamp", TIME),
    field(11, "labels", Shape::TextMap),
    field(12, "annotations", Shape::TextMap),
    list(13, "ownerReferences", Shape::Message(OWNER)),
    list(14, "finalizers", Shape::Text),
];

const NAMESPACE: &[Field] = &[field(1, "metadata", Shape::Message(METADATA))];

const SECRET: &[Field] = &[
    field(1, "metadata", Shape::Message(METADATA)),
    field(2, "data", Shape::BytesMap),
    field(3, "type", Shape::Text),
    field(4, "stringData", Shape::TextMap),
    field(5, "immutable", Shape::Flag),
];

const CONFIG_MAP: &[Field] = &[
    field(1, "metadata", Shape::Message(METADATA)),
    field(2, "data", Shape::TextMap),
    field(3, "binaryData", Shape::BytesMap),
    field(4, "immutable", Shape::Flag),
];

const OBJECT_REFERENCE: &[Field] = &[
    field(1, "kind", Shape::Text),
    field(2, "namespace", Shape::Text),
    field(3, "name", Shape::Text),
];

const SERVICE_ACCOUNT: &[Field] = &[
    field(1, "metadata", Shape::Message(METADATA)),
    list(2, "secrets", Shape::Message(OBJECT_REFERENCE)),
    list(
        3,
        "imagePullSecrets",
        Shape::Message(&[field(1, "name", Shape::Text)]),
    ),
    field(4, "automountServiceAccountToken", Shape::Flag),
];

const ACCESS_REVIEW: &[Field] = &[field(
    2,
    "spec",
    Shape::Message(&[
        field(
            1,
            "resourceAttributes",
            Shape::Message(&[
                field(1, "namespace", Shape::Text),
                field(2, "verb", Shape::Text),
                field(3, "group", Shape::Text),
                field(4, "version", Shape::Text),
                field(5, "resource", Shape::Text),
                field(6, "subresource", Shape::Text),
                field(7, "name", Shape::Text),
            ]),
        ),
        field(
            2,
            "nonResourceAttributes",
            Shape::Message(&[field(1, "path", Shape::Text), field(2, "verb", Shape::Text)]),
        ),
    ]),
)];

const DELETE_OPTIONS: &[Field] = &[
    field(1, "gracePeriodSeconds", Shape::Number),
    field(
        2,
        "preconditions",
        Shape::Message(&[
            field(1, "uid", Shape::Text),
            field(2, "resourceVersion", Shape::Text),
        ]),
    ),
    field(3, "orphanDependents", Shape::Flag),
    field(4, "propagationPolicy", Shape::Text),
    list(5, "dryRun", Shape::Text),
];

const ROLE_BINDING: &[Field] = &[
    field(1, "metadata", Shape::Message(METADATA)),
    list(
        2,
        "subjects",
        Shape::Message(&[
            field(1, "kind", Shape::Text),
            field(2, "apiGroup", Shape::Text),
            field(3, "name", Shape::Text),
            field(4, "namespace", Shape::Text),
        ]),
    ),
    field(
        3,
        "roleRef",
        Shape::Message(&[
            field(1, "apiGroup", Shape::Text),
            field(2, "kind", Shape::Text),
            field(3, "name", Shape::Text),
        ]),
    ),
];

const TOKEN_REQUEST: &[Field] = &[
    field(1, "metadata", Shape::Message(METADATA)),
    field(
        2,
        "spec",
        Shape::Message(&[
            list(1, "audiences", Shape::Text),
            field(4, "expirationSeconds", Shape::Number),
        ]),
    ),
];

const RULES_REVIEW: &[Field] = &[field(
    2,
    "spec",
    Shape::Message(&[field(1, "namespace", Shape::Text)]),
)];

fn fields_of(kind: &str) -> Option<&'static [Field]> {
    Some(match kind {
        "Namespace" => NAMESPACE,
        "Secret" => SECRET,
        "ConfigMap" => CONFIG_MAP,
        "ServiceAccount" => SERVICE_ACCOUNT,
        "SelfSubjectAccessReview" => ACCESS_REVIEW,
        "SelfSubjectRulesReview" => RULES_REVIEW,
        "SelfSubjectReview" => &[],
        "RoleBinding" | "ClusterRoleBinding" => ROLE_BINDING,
        "TokenRequest" => TOKEN_REQUEST,
        "DeleteOptions" => DELETE_OPTIONS,
        _ => return None,
    })
}

/// The bytes that every object in this form starts with.
const MAGIC: &[u8] = b"k8s\0";

/// Returns the object that `bytes` hold, as JSON would write it.
///
/// # Errors
/// What is wrong with the bytes.
pub(crate) fn decode(bytes: &[u8]) -> Result<Value, String> {
    let unknown = bytes
        .strip_prefix(MAGIC)
        .ok_or("the body does not start with the protobuf prefix")?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut reader = Reader(unknown);
    while let Some((number, part)) = reader.next()? {
        match (number, part) {
            (1, Part::Bytes(type_meta)) => {
                let mut reader = Reader(type_meta);
                while let Some((number, part)) = reader.next()? {
                    match (number, part) {
                        (1, Part::Bytes(text)) => api_version = to_text(text)?,
                        (2, Part::Bytes(text)) => kind = to_text(text)?,
                        _ => {}
                    }
                }
            }
            (2, Part::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let fields = fields_of(&kind)
        .ok_or_else(|| format!("objects of kind {kind:?} are not read from protobuf; send JSON"))?;
    let mut object = decode_message(raw, fields)?;
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(object))
}

fn decode_message(bytes: &[u8], fields: &[Field]) -> Result<Map<String, Value>, String> {
    let mut object = Map::new();
    let mut reader = Reader(bytes);
    while let Some((number, part)) = reader.next()? {
        let Some(field) = fields.iter().find(|field| field.number == number) else {
            continue;
        };
        let value = decode_value(part, field)?;
        // Go writes texts and messages that are empty; JSON leaves them out.
        let empty = value == json!("") || value == json!({}) || value.is_null();
        match value {
            _ if empty && !field.repeated => {}
            Value::Object(entry) if matches!(field.shape, Shape::TextMap | Shape::BytesMap) => {
                let map = object.entry(field.name).or_insert_with(|| json!({}));
                if let Value::Object(map) = map {
                    map.extend(entry);
                }
            }
            value if field.repeated => {
                let list = object.entry(field.name).or_insert_with(|| json!([]));
                if let Value::Array(list) = list {
                    list.push(value);
                }
            }
            value => drop(object.insert(field.name.to_owned(), value)),
        }
    }
    Ok(object)
}

fn decode_value(part: Part<'_>, field: &Field) -> Result<Value, String> {
    Ok(match (field.shape, part) {
        (Shape::Text, Part::Bytes(bytes)) => to_text(bytes)?.into(),
        (Shape::Bytes, Part::Bytes(bytes)) => to_base64(bytes).into(),
        (Shape::Flag, Part::Number(number)) => (number != 0).into(),
        (Shape::Number, Part::Number(number)) => number.into(),
        (Shape::Message(fields), Part::Bytes(bytes)) => {
            Value::Object(decode_message(bytes, fields)?)
        }
        (Shape::Time, Part::Bytes(_)) => Value::Null,
        (Shape::TextMap, Part::Bytes(bytes)) => map_entry(bytes, Shape::Text)?,
        (Shape::BytesMap, Part::Bytes(bytes)) => map_entry(bytes, Shape::Bytes)?,
        _ => return Err(format!("field {} has the wrong wire type", field.name)),
    })
}

fn map_entry(bytes: &[u8], value: Shape) -> Result<Value, String> {
    let fields = [field(1, "key", Shape::Text), field(2, "value", value)];
    let mut entry = decode_message(bytes, &fields)?;
    let key = entry.remove("key").unwrap_or_default();
    let value = entry.remove("value").unwrap_or_else(|| "".into());
    let mut map = Map::new();
    map.insert(key.as_str().unwrap_or_default().to_owned(), value);
    Ok(Value::Object(map))
}

fn to_text(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_not_utf8| "a text is not UTF-8".to_owned())
}

/// Returns standard base64 with padding.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

enum Part<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Reads fields of the wire format.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(u64, Part<'a>)>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let part = match tag & 7 {
            0 => Part::Number(self.varint()?),
            1 => Part::Bytes(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Part::Bytes(self.take(length)?)
            }
            5 => Part::Bytes(self.take(4)?),
            other => return Err(format!("wire type {other} is not known")),
        };
        Ok(Some((tag >> 3, part)))
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0_u64;
        for (index, &byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * index).min(63);
            if byte < 0x80 {
                self.0 = self.0.get(index + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err("a number does not end".to_owned())
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], String> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or("the body ends too early")?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `kubectl create namespace ml-serving`, as kubectl 1.32 sends it.
    const NAMESPACE_BODY: &[u8] = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12\x20\x0a\x1a\x0a\x0aml-serving\x12\x00\x1a\x00\x22\x00\x2a\x00\x32\x00\x38\x00\x12\x00\x1a\x00\x1a\x00\x22\x00";

    #[test]
    fn namespaces_are_read() {
        assert_eq!(
            decode(NAMESPACE_BODY).unwrap(),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ml-serving"}})
        );
    }

    #[test]
    fn secrets_are_read() {
        let mut raw =
            b"\x0a\x03\x0a\x01s\x12\x08\x0a\x01k\x12\x03abc\x12\x05\x0a\x01l\x12\x00\x1a\x06Opaque"
                .to_vec();
        let mut body = b"k8s\0\x0a\x0c\x0a\x02v1\x12\x06Secret\x12".to_vec();
        body.push(u8::try_from(raw.len()).unwrap());
        body.append(&mut raw);
        assert_eq!(
            decode(&body).unwrap(),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "YWJj", "l": ""}, "type": "Opaque"})
        );
    }

    #[test]
    fn damage_is_an_error_and_no_more() {
        for end in 0..NAMESPACE_BODY.len() {
            drop(decode(&NAMESPACE_BODY[..end]));
        }
        for index in 0..NAMESPACE_BODY.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut body = NAMESPACE_BODY.to_vec();
                body[index] = byte;
                drop(decode(&body));
            }
        }
        assert!(
            decode(b"k8s\0\x0a\x05\x12\x03Pod")
                .unwrap_err()
                .contains("\"Pod\"")
        );
    }
}
