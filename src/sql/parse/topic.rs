//! CREATE, ALTER, CLEAR and DROP TOPIC, CONSUME and ACK.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::StatementParser;
use crate::error::{Error, Result};
use crate::model::{ChangeKind, ConsumeFrom, GroupId, PayloadMode};
use crate::sql::statement::{AckTopic, AddSource, ConsumeTopic, CreateTopic, Statement, TableRef, TopicOperation};

/// Messages of a CONSUME without a LIMIT.
const DEFAULT_LIMIT: u64 = 100;

impl StatementParser<'_> {
    /// `TOPIC [IF NOT EXISTS] name [PARTITIONS n] [WITH (…)]`.
    pub(super) fn create_topic(&mut self) -> Result<Statement> {
        self.expect_word("TOPIC")?;
        let if_not_exists = self.accept_words(&["IF", "NOT", "EXISTS"]);
        let name = self.topic_ref()?;
        let partitions = match self.accept_word("PARTITIONS") {
            true => self.number("a number of partitions")?,
            false => 1,
        };
        let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
        let options = if self.accept_word("WITH") { self.topic_options()? } else { Vec::new() };
        Ok(Statement::CreateTopic(Box::new(CreateTopic { name, if_not_exists, partitions, options })))
    }

    /// `TOPIC name ADD SOURCE … | DROP SOURCE … | SET (…) | DROP GROUP 'g'`.
    pub(super) fn alter_topic(&mut self) -> Result<Statement> {
        self.expect_word("TOPIC")?;
        let name = self.topic_ref()?;
        let operation = if self.accept_words(&["ADD", "SOURCE"]) {
            TopicOperation::AddSource(self.source_to_add()?)
        } else if self.accept_words(&["DROP", "SOURCE"]) {
            let table = self.table_ref()?;
            let op = if self.accept_word("ON") { Some(self.change_kind()?) } else { None };
            TopicOperation::DropSource { table, op }
        } else if self.accept_words(&["DROP", "GROUP"]) {
            TopicOperation::DropGroup(self.group()?)
        } else if self.accept_word("SET") {
            let options = self.topic_options()?;
            if options.is_empty() {
                return Err(Error::InvalidSql("ALTER TOPIC … SET needs an option".to_owned()));
            }
            TopicOperation::SetOptions(options)
        } else {
            return Err(self.expected("ADD SOURCE, DROP SOURCE, DROP GROUP or SET"));
        };
        Ok(Statement::AlterTopic { name, operation: Box::new(operation) })
    }

    /// `CLEAR TOPIC name`.
    pub(super) fn clear_topic(&mut self) -> Result<Statement> {
        self.expect_word("CLEAR")?;
        self.expect_word("TOPIC")?;
        Ok(Statement::ClearTopic { name: self.topic_ref()? })
    }

    /// `TOPIC [IF EXISTS] name`.
    pub(super) fn drop_topic(&mut self) -> Result<Statement> {
        self.expect_word("TOPIC")?;
        let if_exists = self.accept_words(&["IF", "EXISTS"]);
        Ok(Statement::DropTopic { name: self.topic_ref()?, if_exists })
    }

    /// `CONSUME FROM name [GROUP 'g'] [PARTITION n] [FROM LATEST | EARLIEST | n] [LIMIT n]`.
    pub(super) fn consume(&mut self) -> Result<Statement> {
        self.expect_word("CONSUME")?;
        self.expect_word("FROM")?;
        let name = self.topic_ref()?;
        let group = if self.accept_word("GROUP") { Some(self.group()?) } else { None };
        let partition = if self.accept_word("PARTITION") { Some(self.partition()?) } else { None };
        let mut from = ConsumeFrom::default();
        if self.accept_word("FROM") {
            from = if self.accept_word("LATEST") {
                ConsumeFrom::Latest
            } else if self.accept_word("EARLIEST") {
                ConsumeFrom::Earliest
            } else {
                ConsumeFrom::Offset(self.number("LATEST, EARLIEST or an offset")?)
            };
        }
        let limit = match self.accept_word("LIMIT") {
            true => self.number("a number of messages")?,
            false => DEFAULT_LIMIT,
        };
        Ok(Statement::Consume(Box::new(ConsumeTopic { name, group, partition, from, limit })))
    }

    /// `ACK name GROUP 'g' [PARTITION n] UPTO OFFSET n`.
    pub(super) fn ack(&mut self) -> Result<Statement> {
        self.expect_word("ACK")?;
        let name = self.topic_ref()?;
        self.expect_word("GROUP")?;
        let group = self.group()?;
        let partition = if self.accept_word("PARTITION") { self.partition()? } else { 0 };
        self.expect_word("UPTO")?;
        self.expect_word("OFFSET")?;
        let upto = self.number("an offset")?;
        Ok(Statement::Ack(Box::new(AckTopic { name, group, partition, upto })))
    }

    fn source_to_add(&mut self) -> Result<AddSource> {
        let table = self.table_ref()?;
        self.expect_word("ON")?;
        let op = self.change_kind()?;
        let mut condition = None;
        if self.accept_word("WHERE") {
            let start = self.place();
            self.with(|parser| parser.parse_expr())?;
            let end = self.place();
            condition = Some(self.source.slice(start, end).to_owned());
        }
        let mut payload = PayloadMode::default();
        if self.accept_word("WITH") {
            for (name, value) in self.options()? {
                if !name.eq_ignore_ascii_case("payload") {
                    return Err(Error::InvalidSql(format!("Unknown option '{name}' of a source; there is payload")));
                }
                payload = value.parse()?;
            }
        }
        Ok(AddSource { table, op, condition, payload })
    }

    fn change_kind(&mut self) -> Result<ChangeKind> {
        let kinds = [ChangeKind::Insert, ChangeKind::Update, ChangeKind::Delete];
        let found = kinds.into_iter().find(|kind| self.accept_word(kind.as_str()));
        found.ok_or_else(|| self.expected("INSERT, UPDATE or DELETE"))
    }

    fn topic_ref(&mut self) -> Result<TableRef> {
        let name = self.table_ref()?;
        if name.namespace.is_none() {
            return Err(Error::InvalidSql(format!("Topic '{name}' needs its namespace: namespace.{name}")));
        }
        Ok(name)
    }

    fn topic_options(&mut self) -> Result<Vec<(String, String)>> {
        Ok(self.options()?.into_iter().map(|(name, value)| (name.to_ascii_uppercase(), value)).collect())
    }

    fn group(&mut self) -> Result<GroupId> {
        GroupId::parse(&self.name_or_string("a group's name")?)
    }

    fn partition(&mut self) -> Result<u32> {
        Ok(u32::try_from(self.number("a partition's number")?).unwrap_or(u32::MAX))
    }

    fn number(&mut self, what: &str) -> Result<u64> {
        let number = match &self.parser.peek_token_ref().token {
            Token::Number(text, _) => text.parse::<u64>().ok(),
            _ => None,
        };
        let number = number.ok_or_else(|| self.expected(what))?;
        self.parser.advance_token();
        Ok(number)
    }
}
