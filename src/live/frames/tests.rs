use proptest::prelude::*;

use super::*;
use crate::error::{Error, SubscriptionFault};
use crate::live::WireFrame;
use crate::live::encoding::{MapWriter, Tail, Wire};
use crate::live::testing::{notes, rows_of, seq, text};
use crate::model::result::ResultSchema;
use crate::model::{Role, Seq, UserId};

fn wire(format: Format) -> Wire {
    Wire { format, compress: true }
}

fn request(options: Option<SubscribeOptions>) -> ClientMessage {
    let subscription = SubscribeRequest { id: "s1".into(), sql: "SELECT * FROM demo.notes".into(), options };
    ClientMessage::Subscribe { subscription }
}

#[test]
fn each_message_of_a_client() {
    let protocol = Protocol { serialization: Serialization::Json, compression: Compression::Gzip };
    let none = SubscribeOptions::default();
    let sub = |options: &str| {
        format!(r#"{{"type":"subscribe","subscription":{{"id":"s1","sql":"SELECT * FROM demo.notes"{options}}}}}"#)
    };
    let cases: Vec<(String, ClientMessage)> = vec![
        (
            r#"{"type":"authenticate","method":"jwt","token":"A","protocol":{"serialization":"json","compression":"gzip"}}"#
                .into(),
            ClientMessage::Authenticate { method: "jwt".into(), token: "A".into(), protocol },
        ),
        (sub(""), request(None)),
        (sub(r#","options":null"#), request(None)),
        (sub(r#","options":{}"#), request(Some(none.clone()))),
        (
            sub(r#","options":{"batch_size":1,"last_rows":2,"extra":true}"#),
            request(Some(SubscribeOptions { batch_size: Some(1), last_rows: Some(2), ..none.clone() })),
        ),
        (
            sub(r#","options":{"from":301200000200000001}"#),
            request(Some(SubscribeOptions { from: Some(seq(301_200_000_200_000_001).into()), ..none.clone() })),
        ),
        (
            sub(r#","options":{"from_seq_id":"301200000200000001","snapshot_end_seq":"9"}"#),
            request(Some(SubscribeOptions {
                from: Some(seq(301_200_000_200_000_001).into()),
                snapshot_end_seq: Some(seq(9)),
                ..none.clone()
            })),
        ),
        (sub(r#","options":{"from":null}"#), request(Some(none.clone()))),
        (
            r#"{"type":"next_batch","subscription_id":"s1","last_seq_id":7}"#.into(),
            ClientMessage::NextBatch { subscription_id: "s1".into(), last_seq_id: Some(seq(7)) },
        ),
        (
            r#"{"type":"next_batch","subscription_id":"s1"}"#.into(),
            ClientMessage::NextBatch { subscription_id: "s1".into(), last_seq_id: None },
        ),
        (
            r#"{"type":"unsubscribe","subscription_id":"s1"}"#.into(),
            ClientMessage::Unsubscribe { subscription_id: "s1".into() },
        ),
        (r#"{"type":"ping"}"#.into(), ClientMessage::Ping),
    ];
    for (json, expected) in cases {
        assert_eq!(ClientMessage::from_json(json.as_bytes()), Ok(expected), "{json}");
    }
}

#[test]
fn a_message_that_is_not_understood_says_why() {
    let cases: &[(&str, &str)] = &[
        ("", "EOF while parsing"),
        ("hello", "expected value at line 1 column 1"),
        ("[]", "Invalid message: "),
        ("{}", "missing field `type`"),
        (r#"{"type":"shout"}"#, "unknown variant `shout`, expected one of `authenticate`, `subscribe`"),
        (r#"{"type":"authenticate","method":"jwt","token":"A"}"#, "missing field `protocol`"),
        (
            r#"{"type":"authenticate","method":"jwt","token":"A","protocol":{"serialization":"json"}}"#,
            "missing field `compression`",
        ),
        (
            r#"{"type":"authenticate","method":"jwt","token":"A","protocol":{"serialization":"xml","compression":"gzip"}}"#,
            "unknown variant `xml`",
        ),
        (r#"{"type":"subscribe"}"#, "missing field `subscription`"),
        (r#"{"type":"subscribe","subscription":{"sql":"SELECT 1"}}"#, "missing field `id`"),
        (r#"{"type":"subscribe","subscription":{"id":"a"}}"#, "missing field `sql`"),
        (r#"{"type":"subscribe","subscription":{"id":"a","sql":"x","options":{"batch_size":-1}}}"#, "invalid value"),
        (r#"{"type":"subscribe","subscription":{"id":"a","sql":"x","options":{"from":-1}}}"#, "a sequence id is"),
        (r#"{"type":"subscribe","subscription":{"id":"a","sql":"x","options":{"from":1.5}}}"#, "a sequence id is"),
        (r#"{"type":"subscribe","subscription":{"id":"a","sql":"x","options":{"from":"x"}}}"#, "a sequence id is"),
        (r#"{"type":"next_batch"}"#, "missing field `subscription_id`"),
        (r#"{"type":"unsubscribe"}"#, "missing field `subscription_id`"),
    ];
    for (json, expected) in cases {
        let fault = ClientMessage::from_json(json.as_bytes()).unwrap_err().to_string();
        assert!(fault.contains(expected), "{json}: {fault}");
        assert!(fault.starts_with("Invalid message: "), "{fault}");
    }
    assert!(ClientMessage::from_msgpack(&[0xc1], 100).is_err());
    assert!(ClientMessage::from_msgpack(&[0x1f, 0x8b, 0], 100).is_err());
}

#[test]
fn each_message_of_the_server() {
    let alice = UserId::parse("alice").unwrap();
    let protocol = Protocol { serialization: Serialization::MsgPack, compression: Compression::None };
    let slow = Error::from(SubscriptionFault::SlowConsumer { last_delivered: Some(seq(12)) });
    let invalid = Error::InvalidSql("no".into());
    let seven = rows_of(&[7]);
    let never = Error::from(SubscriptionFault::SlowConsumer { last_delivered: None });
    let schema = ResultSchema::of_table_projection(&notes(), &[1], &["body".into()]);
    let cases: Vec<(ServerMessage<'_>, &str)> = vec![
        (
            ServerMessage::AuthSuccess { user: &alice, role: Role::Dba, protocol },
            r#"{"type":"auth_success","user":"alice","role":"dba","protocol":{"serialization":"msgpack","compression":"none"}}"#,
        ),
        (
            ServerMessage::AuthError { message: "Invalid credentials" },
            r#"{"type":"auth_error","message":"Invalid credentials"}"#,
        ),
        (
            ServerMessage::SubscriptionAck {
                subscription_id: "s1",
                control: BatchControl::new(0, true, Some(seq(5)), Some(seq(9))),
                schema: &schema,
            },
            r#"{"type":"subscription_ack","subscription_id":"s1","total_rows":0,"batch_control":{"batch_num":0,"has_more":true,"status":"loading","last_seq_id":5,"snapshot_end_seq":9},"schema":[{"name":"body","data_type":"Text","index":0}]}"#,
        ),
        (
            ServerMessage::InitialDataBatch {
                subscription_id: "s1",
                rows: &seven,
                control: BatchControl::new(1, false, None, None),
            },
            r#"{"type":"initial_data_batch","subscription_id":"s1","batch_control":{"batch_num":1,"has_more":false,"status":"ready","last_seq_id":null,"snapshot_end_seq":null},"rows":[7]}"#,
        ),
        (
            ServerMessage::Error { subscription_id: "s\"1", error: &invalid },
            r#"{"type":"error","subscription_id":"s\"1","code":"INVALID_SQL","message":"Invalid SQL: no"}"#,
        ),
        (
            ServerMessage::Error { subscription_id: "s", error: &slow },
            r#"{"type":"error","subscription_id":"s","code":"SLOW_CONSUMER","message":"The subscriber can not keep up; reconnect and subscribe with \"from\": 12","last_seq_id":12}"#,
        ),
        (
            ServerMessage::Error { subscription_id: "s", error: &never },
            r#"{"type":"error","subscription_id":"s","code":"SLOW_CONSUMER","message":"The subscriber can not keep up; reconnect and subscribe with \"from\": null","last_seq_id":null}"#,
        ),
    ];
    for (message, expected) in cases {
        assert_eq!(text(&message.frame(wire(Format::Json)).unwrap()), expected);
    }
}

#[test]
fn authentication_and_errors_are_text_in_any_format() {
    let alice = UserId::parse("alice").unwrap();
    let protocol = Protocol { serialization: Serialization::MsgPack, compression: Compression::None };
    for message in [
        ServerMessage::AuthSuccess { user: &alice, role: Role::User, protocol },
        ServerMessage::AuthError { message: "no" },
        ServerMessage::Error { subscription_id: "s", error: &Error::Busy },
    ] {
        assert!(matches!(message.frame(wire(Format::MsgPack)).unwrap(), WireFrame::Text(_)), "{message:?}");
    }
}

#[test]
fn a_load_says_where_it_stands() {
    let status = |num, more| BatchControl::new(num, more, None, None).status;
    assert_eq!(status(0, true), BatchStatus::Loading);
    assert_eq!(status(3, true), BatchStatus::LoadingBatch);
    assert_eq!(status(0, false), BatchStatus::Ready);
    assert_eq!(status(3, false), BatchStatus::Ready);
    assert_eq!(serde_json::to_string(&BatchStatus::LoadingBatch).unwrap(), r#""loading_batch""#);
}

fn any_seq() -> impl Strategy<Value = Option<Seq>> {
    proptest::option::of((0..=i64::MAX).prop_map(seq))
}

fn any_client_message() -> impl Strategy<Value = ClientMessage> {
    let options = (any::<Option<u32>>(), any::<Option<u32>>(), any_seq(), any_seq()).prop_map(
        |(batch_size, last_rows, from, snapshot_end_seq)| SubscribeOptions {
            batch_size,
            last_rows,
            from: from.map(Into::into),
            snapshot_end_seq,
            group: None,
        },
    );
    prop_oneof![
        Just(ClientMessage::Ping),
        any::<String>().prop_map(|subscription_id| ClientMessage::Unsubscribe { subscription_id }),
        (any::<String>(), any_seq())
            .prop_map(|(subscription_id, last_seq_id)| ClientMessage::NextBatch { subscription_id, last_seq_id }),
        (any::<String>(), any::<String>(), proptest::option::of(options)).prop_map(|(id, sql, options)| {
            ClientMessage::Subscribe { subscription: SubscribeRequest { id, sql, options } }
        }),
    ]
}

proptest! {
    #[test]
    fn a_clients_message_survives_both_formats(message in any_client_message()) {
        let json = serde_json::to_vec(&message).unwrap();
        let read = ClientMessage::from_json(&json);
        prop_assert_eq!(read.as_ref(), Ok(&message));
        let packed = rmp_serde::to_vec_named(&message).unwrap();
        let read = ClientMessage::from_msgpack(&packed, packed.len());
        prop_assert_eq!(read.as_ref(), Ok(&message));
    }

    #[test]
    fn a_servers_message_is_the_same_in_both_formats(
        id in any::<String>(),
        body in any::<String>(),
        last in any_seq(),
        end in any_seq(),
        batch in any::<u32>(),
        more in any::<bool>(),
    ) {
        let row = serde_json::json!([{"body": body}]);
        let control = BatchControl::new(batch, more, last, end);
        let frame = |format| {
            let mut rows = MapWriter::tail(format);
            rows.entry("rows", &row).unwrap();
            let rows = &Tail::new(rows);
            ServerMessage::InitialDataBatch { subscription_id: &id, rows, control }.frame(wire(format)).unwrap()
        };
        let json: serde_json::Value = serde_json::from_str(&text(&frame(Format::Json))).unwrap();
        let WireFrame::Binary(packed) = frame(Format::MsgPack) else { panic!("text") };
        let packed = crate::live::encoding::unpack(&packed, usize::MAX).unwrap();
        let packed: serde_json::Value = rmp_serde::from_slice(&packed).unwrap();
        prop_assert_eq!(&packed, &json);
        prop_assert_eq!(&json["rows"], &row);
        prop_assert_eq!(&json["subscription_id"], &serde_json::json!(id));
    }
}
