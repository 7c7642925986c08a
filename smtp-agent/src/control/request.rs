//! What a command asks of the agent: one line of JSON. Whatever the line holds, it is a request in full or none.

use serde::{Deserialize, Serialize};

use crate::by_hand::{
    Says, Subject,
    entry::{duration_fault, reason_fault},
};

/// Longest request, in bytes, with its line break.
pub const REQUEST_LIMIT: usize = 4096;

// Variants without fields are written with braces: serde would pass over unknown fields of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Every event from now on, one line each, until the connection closes.
    Events {},
    /// Load the configuration anew.
    Reload {},
    /// Never limit, or
    Allow(Order),
    /// refuse everywhere, until told otherwise.
    Block(Order),
    /// Take back what was said, and let begin anew.
    Release { whom: Subject },
    /// Everything that is said by hand.
    Said {},
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub whom: Subject,
    /// `None`: for ever.
    pub for_seconds: Option<u64>,
    pub reason: Option<String>,
    /// Block whom `[allow]` names, too.
    #[serde(default)]
    pub force: bool,
}

impl Order {
    fn fault(&self) -> Option<String> {
        let of_time = self.for_seconds.and_then(duration_fault);
        of_time.or_else(|| self.reason.as_deref().and_then(reason_fault))
    }
}

impl Request {
    /// Reads a line as it came, its line break included.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let Some(line) = line.strip_suffix(b"\n") else {
            return Err(if line.len() < REQUEST_LIMIT {
                "it does not end with a line break".to_owned()
            } else {
                format!("it is longer than {REQUEST_LIMIT} bytes")
            });
        };
        let request: Self = serde_json::from_slice(line).map_err(|e| e.to_string())?;
        request.check()?;
        Ok(request)
    }

    /// The line of a request, if it is one that the agent takes.
    pub fn line(&self) -> Result<String, String> {
        self.check()?;
        let mut line = serde_json::to_string(self).map_err(|e| e.to_string())?;
        line.push('\n');
        if line.len() > REQUEST_LIMIT {
            return Err(format!(
                "this takes more than the {REQUEST_LIMIT} bytes of a request; write a shorter pattern or reason"
            ));
        }
        Ok(line)
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::Allow(order) | Self::Block(order) => order.fault().map_or(Ok(()), Err),
            _ => Ok(()),
        }
    }

    /// What an order has the gate do.
    pub fn order(says: Says, order: Order) -> Self {
        match says {
            Says::Allowed => Self::Allow(order),
            Says::Blocked => Self::Block(order),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: &str = r#"{"request":"block","whom":{"user":"shop"},"for_seconds":7200,"reason":"spam","force":true}"#;

    fn parse(text: &str) -> Result<Request, String> {
        Request::parse(format!("{text}\n").as_bytes())
    }

    #[test]
    fn every_request_is_read_back_as_written() {
        let order = Order {
            whom: Subject::user("shop").unwrap(),
            for_seconds: Some(7200),
            reason: Some("spam".into()),
            force: true,
        };
        assert_eq!(parse(BLOCK), Ok(Request::Block(order.clone())));
        let whom = Subject::cgroup("/a/*").unwrap();
        for request in [
            Request::Events {},
            Request::Reload {},
            Request::Said {},
            Request::Allow(Order { force: false, reason: None, for_seconds: None, whom: whom.clone() }),
            Request::Block(order),
            Request::Release { whom },
        ] {
            assert_eq!(Request::parse(request.line().unwrap().as_bytes()), Ok(request));
        }
        assert_eq!(
            parse(r#"{"request":"allow","whom":{"group":"staff"}}"#).unwrap().line().unwrap().matches("null").count(),
            2
        );
    }

    #[test]
    fn what_is_nearly_a_request_is_none() {
        for text in [
            "",
            "{}",
            "[]",
            "reload",
            r#"{"request":"shutdown"}"#,
            r#"{"request":"reload","now":true}"#,
            r#"{"request":"reload"} {"request":"reload"}"#,
            r#"{"request":"reload","request":"reload"}"#,
            r#"{"request":"release"}"#,
            r#"{"request":"release","whom":{"user":"a"},"force":true}"#,
            r#"{"request":"release","whom":"shop"}"#,
            r#"{"request":"block","whom":{"user":"a","group":"b"}}"#,
            r#"{"request":"block","whom":{"user":"a"},"for_seconds":0}"#,
            r#"{"request":"block","whom":{"user":"a"},"for_seconds":-1}"#,
            r#"{"request":"block","whom":{"user":"a"},"for_seconds":1e3}"#,
            r#"{"request":"block","whom":{"user":"a"},"for_seconds":400000000}"#,
            r#"{"request":"block","whom":{"user":"a"},"reason":"a\nb"}"#,
            r#"{"request":"block","whom":{"user":"a"},"until":"tomorrow"}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        for (bytes, why) in
            [(&BLOCK.as_bytes()[..40], "line break"), (BLOCK.as_bytes(), "line break"), (&[b' '; 4096], "4096")]
        {
            let told = Request::parse(bytes).expect_err("half a request");
            assert!(told.contains(why), "{told}");
        }
        let long = Order {
            whom: Subject::cgroup(&format!("/{}", "x".repeat(4090))).unwrap(),
            for_seconds: None,
            reason: None,
            force: false,
        };
        assert!(Request::Block(long).line().unwrap_err().contains("shorter pattern"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Request::parse(&bytes);
        }

        #[test]
        fn what_is_taken_says_what_it_does(cuts in prop::collection::vec((0_usize..BLOCK.len(), any::<u8>(), 0_u8..3), 1..4)) {
            let mut bytes = BLOCK.as_bytes().to_vec();
            for (at, byte, how) in cuts {
                let at = at % bytes.len().max(1);
                match how {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => drop(bytes.remove(at)),
                }
            }
            bytes.push(b'\n');
            // Read by nobody's rules but those of JSON, a line that is taken says the same.
            if let Ok(request) = Request::parse(&bytes) {
                let plain: serde_json::Value = serde_json::from_slice(&bytes).expect("it was taken");
                let told: serde_json::Value = serde_json::from_str(&request.line().expect("it can be sent")).expect("JSON");
                let fields = plain.as_object().expect("an object");
                for (field, value) in fields {
                    prop_assert_eq!(&told[field], value, "{}", field);
                }
                prop_assert!(fields.contains_key("request"));
            }
        }

        #[test]
        fn json_of_any_shape_is_a_request_only_where_it_names_one(
            request in prop::option::of("[a-z]{0,8}"), whom in prop::option::of("[ -~]{0,20}"), seconds: Option<i64>, more in "[a-z]{0,4}",
        ) {
            let mut object = serde_json::Map::new();
            request.clone().map(|request| object.insert("request".into(), request.into()));
            whom.map(|whom| object.insert("whom".into(), serde_json::json!({ "user": whom })));
            seconds.map(|seconds| object.insert("for_seconds".into(), seconds.into()));
            object.insert(more, 1.into());
            let known = ["events", "reload", "allow", "block", "release", "said"];
            if parse(&serde_json::Value::from(object).to_string()).is_ok() {
                prop_assert!(request.is_some_and(|request| known.contains(&request.as_str())));
            }
        }
    }
}
