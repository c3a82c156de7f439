//! What a reader of flush-load asks, and what must be in each answer.
//!
//! Owns the numbering of a writer's rows. A writer writes one row after the other, so a mailbox has no gaps.

use std::cell::{Cell, RefCell};

use serde_json::Value;

use crate::payload::Payload;
use crate::peers::{Failure, Session, rows_of};
use crate::zipf::Random;

pub(super) const PAGE: usize = 50;
/// Ids of two writers never meet.
const IDS_A_WRITER: i64 = 1 << 40;
/// Positions that a reader keeps to begin pages at.
const POSITIONS: usize = 1_000;

/// One writer's rows are numbered from 0; those below `acknowledged` are there, those from `issued` on are not.
#[derive(Default)]
pub(super) struct Mark {
    pub(super) issued: Cell<i64>,
    pub(super) acknowledged: Cell<i64>,
}

pub(super) fn id(owner: usize, number: i64) -> i64 {
    owner as i64 * IDS_A_WRITER + number + 1
}

/// Reads one user's mailbox and knows what must be in it.
pub(super) struct Reader<'a> {
    pub(super) session: Session,
    pub(super) owner: usize,
    pub(super) mark: &'a Mark,
    pub(super) payload: &'a Payload,
    pub(super) positions: &'a RefCell<Vec<(i64, String)>>,
    pub(super) random: Random,
}

impl Reader<'_> {
    pub(super) async fn row(&mut self) -> Result<(), Failure> {
        let number = self.random.below(self.mark.acknowledged.get().unsigned_abs() as usize) as i64;
        let id = id(self.owner, number);
        self.session.select_row("chat.messages", id, self.payload.body(id)).await
    }

    pub(super) async fn newest(&mut self) -> Result<(), Failure> {
        let least = self.mark.acknowledged.get() - 1;
        let page =
            self.page(&format!("SELECT id, body, _seq FROM chat.messages ORDER BY _seq DESC LIMIT {PAGE}")).await?;
        let first = page.first().map_or(-1, |(number, _)| *number);
        if first < least || first >= self.mark.issued.get() {
            return Err(Failure::Wrong(format!("the newest row is {first}, {least} was acknowledged before")));
        }
        self.check(page, first)
    }

    pub(super) async fn before(&mut self) -> Result<(), Failure> {
        let (number, seq) = {
            let positions = self.positions.borrow();
            positions[self.random.below(positions.len())].clone()
        };
        let sql =
            format!("SELECT id, body, _seq FROM chat.messages WHERE _seq < {seq} ORDER BY _seq DESC LIMIT {PAGE}");
        let page = self.page(&sql).await?;
        self.check(page, number - 1)
    }

    /// The numbers and positions of the rows; their bodies are right.
    async fn page(&mut self, sql: &str) -> Result<Vec<(i64, String)>, Failure> {
        self.session.request.clear();
        for part in ["{\"sql\":\"", sql, "\"}"] {
            self.session.request.push_str(part);
        }
        let answer = self.session.send().await?;
        let wrong = || Failure::Wrong(format!("{sql} was answered {:.300}", answer.body));
        let value: Value = serde_json::from_str(&answer.body).map_err(|_| wrong())?;
        let rows = rows_of(&value, 0).ok_or_else(wrong)?;
        let read = |row: Vec<String>| {
            let [id_text, body, seq] = <[String; 3]>::try_from(row).ok()?;
            let found: i64 = id_text.parse().ok()?;
            (body == self.payload.body(found)).then_some((found - id(self.owner, 0), seq))
        };
        rows.into_iter().map(read).collect::<Option<_>>().ok_or_else(wrong)
    }

    /// The page must hold the numbers from `first` downwards, each once.
    fn check(&mut self, page: Vec<(i64, String)>, first: i64) -> Result<(), Failure> {
        let numbers: Vec<i64> = page.iter().map(|(number, _)| *number).collect();
        let expected: Vec<i64> = (0..=first).rev().take(PAGE).collect();
        if numbers != expected {
            return Err(Failure::Wrong(format!("a page from row {first} of u{} on holds {numbers:?}", self.owner)));
        }
        let mut positions = self.positions.borrow_mut();
        if let Some(last) = page.into_iter().last().filter(|(number, _)| *number > 0) {
            let slot = self.random.below(POSITIONS);
            match positions.get_mut(slot) {
                Some(known) => *known = last,
                None => positions.push(last),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_never_share_an_id() {
        assert_eq!((id(0, 0), id(1, 0)), (1, IDS_A_WRITER + 1));
    }
}
