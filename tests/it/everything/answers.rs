//! A Durable Stream: one who appends and asks again for whatever was not answered, and one who reads on from an offset.

use serde_json::json;

use super::place::Place;
use crate::random::Random;
use crate::server::eventually;

const PATH: &str = "/v1/streams/o/answers/a";
const TEXT: (&str, &str) = ("Content-Type", "text/plain");

pub struct Appender {
    random: Random,
    epoch: u64,
    seq: u64,
    counter: u64,
    /// What was acknowledged, in its order.
    pub text: String,
}

impl Appender {
    pub fn new(random: Random) -> Self {
        Self { random, epoch: 0, seq: 0, counter: 0, text: String::new() }
    }

    pub fn begin(place: &Place) {
        let created = place.client("ann").request(&format!("PUT {PATH}"), &[TEXT], b"").unwrap();
        assert_eq!(created.status, 201, "{created:?}");
    }

    pub fn run(&mut self, place: &Place) {
        let mut client = place.client("ann");
        while !place.is_over() {
            // The program starts anew: its numbers as well.
            if self.random.one_in(30) {
                (self.epoch, self.seq) = (self.epoch + 1, 0);
            }
            self.counter += 1;
            let piece = format!("{} {};", self.counter, "x".repeat(self.random.within(0..200) as usize));
            let (epoch, seq) = (self.epoch.to_string(), self.seq.to_string());
            let headers = [TEXT, ("Producer-Id", "p"), ("Producer-Epoch", &epoch), ("Producer-Seq", &seq)];
            let abandoned = self.random.one_in(5);
            eventually("the append is answered", || {
                if abandoned {
                    client.abandon(&format!("POST {PATH}"), &headers, piece.as_bytes());
                }
                let answer = client.request(&format!("POST {PATH}"), &headers, piece.as_bytes());
                match answer {
                    Ok(answer) if [200, 204].contains(&answer.status) => Some(()),
                    Ok(answer) => {
                        assert_eq!(answer.status, 503, "{answer:?}");
                        None
                    }
                    Err(_) => {
                        client = place.client("ann");
                        None
                    }
                }
            });
            self.text += &piece;
            self.seq += 1;
        }
    }
}

pub struct Reader {
    random: Random,
    offset: String,
    text: String,
}

impl Reader {
    pub fn new(random: Random) -> Self {
        Self { random, offset: "-1".to_owned(), text: String::new() }
    }

    pub fn run(&mut self, place: &Place) {
        let mut client = place.client("ann");
        while !place.is_over() {
            let live = if self.random.one_in(2) { "&live=long-poll" } else { "" };
            let answer = client.request(&format!("GET {PATH}?offset={}{live}", self.offset), &[], b"");
            match answer {
                Ok(answer) if [200, 204].contains(&answer.status) => {
                    self.text += &answer.body;
                    let next = answer.header("stream-next-offset");
                    next.unwrap_or_else(|| panic!("{answer:?}")).clone_into(&mut self.offset);
                }
                Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
                Err(_) => client = place.client("ann"),
            }
        }
    }

    /// Reads on to the end: it is what was acknowledged, and what SQL and a new reader are told.
    pub fn finish(mut self, place: &Place, appended: &str) {
        let mut client = place.client("ann");
        let mut anew = Self { text: String::new(), offset: "-1".to_owned(), random: self.random.clone() };
        for reader in [&mut self, &mut anew] {
            eventually("the end is reached", || {
                let answer = client.get(&format!("{PATH}?offset={}", reader.offset));
                assert_eq!(answer.status, 200, "{answer:?}");
                reader.text += &answer.body;
                answer.header("stream-next-offset").unwrap().clone_into(&mut reader.offset);
                answer.header("stream-up-to-date").map(drop)
            });
            assert_eq!(reader.text, appended);
        }
        let rows = client.rows("SELECT data FROM o.answers WHERE stream = 'a' ORDER BY _seq");
        let rows: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row[0].as_str().unwrap()).collect();
        assert_eq!(json!(rows.concat()), json!(appended));
    }
}
