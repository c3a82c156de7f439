//! Who says what: the conversations, dealt to the users, and every message numbered.
//!
//! Owns the numbering: a message's number is its primary key, which is what makes writing it again harmless.
//! Pure and fixed once made: everything that is seen later is judged against it.

use std::fmt;
use std::ops::Range;

use super::conversations::{Conversation, Speaker};

/// A user of the demo, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UserNumber(usize);

impl UserNumber {
    pub(crate) fn all(users: usize) -> impl Iterator<Item = UserNumber> {
        (0..users).map(UserNumber)
    }

    pub(crate) fn index(self) -> usize {
        self.0
    }
}

/// The user's name at the server.
impl fmt::Display for UserNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user_{:03}", self.0 + 1)
    }
}

/// A message of the script, counted from 0; also the row's primary key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MessageNumber(usize);

impl MessageNumber {
    pub(crate) fn index(self) -> usize {
        self.0
    }
}

impl fmt::Display for MessageNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {}", self.0)
    }
}

#[derive(Debug)]
pub(crate) struct Message {
    /// Whose mailbox it belongs into, whoever says it.
    pub(crate) owner: UserNumber,
    pub(crate) conversation: String,
    pub(crate) turn: usize,
    pub(crate) speaker: Speaker,
    pub(crate) language: String,
    pub(crate) content: String,
}

#[derive(Debug)]
pub(crate) struct Script {
    messages: Vec<Message>,
    /// By user: the messages of each of their conversations.
    conversations: Vec<Vec<Range<usize>>>,
}

impl Script {
    /// Deals `count` conversations to `users` in turn, beginning again where there are fewer.
    pub(crate) fn deal(conversations: &[Conversation], users: usize, count: usize) -> Self {
        let mut script = Self { messages: Vec::new(), conversations: vec![Vec::new(); users] };
        for (nth, conversation) in conversations.iter().cycle().take(count).enumerate() {
            let owner = UserNumber(nth % users);
            let name = match nth / conversations.len() {
                0 => conversation.name.clone(),
                round => format!("{} ({})", conversation.name, round + 1),
            };
            let first = script.messages.len();
            for (turn, spoken) in conversation.turns.iter().enumerate() {
                script.messages.push(Message {
                    owner,
                    conversation: name.clone(),
                    turn,
                    speaker: spoken.speaker,
                    language: conversation.language.clone(),
                    content: spoken.content.clone(),
                });
            }
            script.conversations[owner.0].push(first..script.messages.len());
        }
        script
    }

    pub(crate) fn users(&self) -> impl Iterator<Item = UserNumber> + use<> {
        UserNumber::all(self.conversations.len())
    }

    pub(crate) fn user_named(&self, name: &str) -> Option<UserNumber> {
        let counted: usize = name.strip_prefix("user_")?.parse().ok()?;
        let user = UserNumber(counted.checked_sub(1)?);
        (user.0 < self.conversations.len()).then_some(user)
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// The message with this primary key.
    pub(crate) fn message_with_key(&self, key: &str) -> Option<MessageNumber> {
        let number = key.parse().ok()?;
        (number < self.messages.len()).then_some(MessageNumber(number))
    }

    pub(crate) fn message(&self, number: MessageNumber) -> &Message {
        &self.messages[number.0]
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = (MessageNumber, &Message)> {
        self.messages.iter().enumerate().map(|(number, message)| (MessageNumber(number), message))
    }

    /// What the users say: the agent's work.
    pub(crate) fn questions(&self) -> impl Iterator<Item = (MessageNumber, &Message)> {
        self.messages().filter(|(_, message)| message.speaker == Speaker::User)
    }

    pub(crate) fn messages_of(&self, owner: UserNumber) -> impl Iterator<Item = MessageNumber> {
        self.conversations_of(owner).flatten()
    }

    pub(crate) fn conversations_of(
        &self,
        owner: UserNumber,
    ) -> impl Iterator<Item = impl Iterator<Item = MessageNumber> + use<>> {
        self.conversations[owner.0].iter().map(|range| range.clone().map(MessageNumber))
    }

    /// What the assistant says to `question`: all it says before the user speaks again.
    pub(crate) fn answers_to(&self, question: MessageNumber) -> impl Iterator<Item = MessageNumber> {
        let conversation = &self.messages[question.0].conversation;
        let rest = self.messages.iter().enumerate().skip(question.0 + 1);
        rest.take_while(move |(_, message)| {
            message.speaker == Speaker::Assistant && message.conversation == *conversation
        })
        .map(|(number, _)| MessageNumber(number))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::conversations::Turn;
    use super::*;

    /// Conversations as words: `ua` is a question and its answer.
    pub(crate) fn conversations(shapes: &[&str]) -> Vec<Conversation> {
        let speaker = |letter| if letter == 'u' { Speaker::User } else { Speaker::Assistant };
        let named = |(nth, shape): (usize, &&str)| Conversation {
            name: format!("c{nth}"),
            language: "english".to_owned(),
            turns: shape
                .chars()
                .map(|letter| Turn { speaker: speaker(letter), content: format!("{nth}{letter}") })
                .collect(),
        };
        shapes.iter().enumerate().map(named).collect()
    }

    #[test]
    fn conversations_are_dealt_in_turn_and_begin_again() {
        let script = Script::deal(&conversations(&["ua", "u", "uau"]), 2, 4);
        assert_eq!(script.len(), 2 + 1 + 3 + 2);
        let numbers = |user: usize| script.messages_of(UserNumber(user)).map(MessageNumber::index).collect::<Vec<_>>();
        assert_eq!((numbers(0), numbers(1)), (vec![0, 1, 3, 4, 5], vec![2, 6, 7]));
        assert_eq!(script.message(MessageNumber(6)).conversation, "c0 (2)");
        assert!(script.messages().all(|(number, message)| numbers(message.owner.0).contains(&number.0)));
    }

    #[test]
    fn answers_end_where_the_user_speaks_again_or_the_conversation_ends() {
        let script = Script::deal(&conversations(&["uaaua", "u", "ua"]), 1, 3);
        let cases: [(usize, &[usize]); 4] = [(0, &[1, 2]), (3, &[4]), (5, &[]), (6, &[7])];
        for (question, expected) in cases {
            let answers: Vec<usize> = script.answers_to(MessageNumber(question)).map(MessageNumber::index).collect();
            assert_eq!(answers, expected, "to {question}");
        }
    }

    #[test]
    fn names_and_keys_lead_back() {
        let script = Script::deal(&conversations(&["ua"]), 3, 3);
        for user in script.users() {
            assert_eq!(script.user_named(&user.to_string()), Some(user));
        }
        for stranger in ["user_000", "user_004", "root", "user_x"] {
            assert_eq!(script.user_named(stranger), None, "{stranger}");
        }
        assert_eq!(script.message_with_key("5"), Some(MessageNumber(5)));
        assert_eq!((script.message_with_key("6"), script.message_with_key("-1")), (None, None));
    }
}
