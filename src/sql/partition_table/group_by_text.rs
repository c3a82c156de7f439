//! The groups of one share's rows by a column of texts.
//!
//! Owns the way from a text to its group's number: a file's texts that repeat themselves are keys into a dictionary there, so a
//! text is looked up once a dictionary, not once a row. What is added up for each group is DataFusion's own, and so is the
//! putting together of all shares' groups. Groups come in the order in which rows first name them.
//! Bounded: [`MOST_GROUPS`] at a time; then they are handed on as they are, and begun anew.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int64Array, RecordBatch, StringBuilder};
use arrow::datatypes::{Int32Type, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures_util::TryStreamExt;
use indexmap::IndexSet;

use super::count_rows::counts_rows;

const MOST_GROUPS: usize = 65_536;
/// Bytes of a text beside its own: its place in the set, and the allocator's.
const BYTES_EACH: usize = 64;
const UNKNOWN: usize = usize::MAX;

/// What is added up for each group.
#[derive(Debug, Clone)]
pub(super) struct Sums {
    pub functions: Vec<Arc<AggregateFunctionExpr>>,
    /// For each function: the rows that it is told of.
    pub filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    /// The text, then the functions' states: what a partial aggregate gives.
    pub schema: SchemaRef,
}

/// The groups of its input by the texts in one of its columns, a `Dictionary(Int32, Utf8)`.
pub(super) struct GroupByText {
    input: Arc<dyn ExecutionPlan>,
    column: usize,
    sums: Arc<Sums>,
    properties: Arc<PlanProperties>,
}

impl GroupByText {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, column: usize, sums: Arc<Sums>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(sums.schema.clone()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { input, column, sums, properties: Arc::new(properties) }
    }
}

impl fmt::Debug for GroupByText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as(DisplayFormatType::Default, f)
    }
}

impl DisplayAs for GroupByText {
    fn fmt_as(&self, _form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupByText: by={}, aggr=[", self.sums.schema.field(0).name())?;
        for (number, function) in self.sums.functions.iter().enumerate() {
            write!(f, "{}{}", if number > 0 { ", " } else { "" }, function.name())?;
        }
        f.write_str("]")
    }
}

impl ExecutionPlan for GroupByText {
    fn name(&self) -> &str {
        "GroupByText"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let arguments = self.sums.functions.iter().flat_map(|function| function.expressions());
        for expression in arguments.chain(self.sums.filters.iter().flatten().cloned()) {
            if visit(&expression)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.pop()) {
            (Some(input), None) => Ok(Arc::new(Self::new(input, self.column, self.sums.clone()))),
            _ => internal_err!("GroupByText has one input"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context.clone())?;
        let reserved = MemoryConsumer::new("GroupByText").register(context.memory_pool());
        let groups = Some(Groups::new(self.sums.clone(), reserved)?);
        let column = self.column;
        let batches = futures_util::stream::try_unfold((input, groups), move |(mut input, groups)| async move {
            let Some(mut groups) = groups else { return Ok(None) };
            while let Some(batch) = input.try_next().await? {
                groups.add(&batch, column)?;
                if groups.texts.len() >= MOST_GROUPS {
                    return Ok(Some((groups.take()?, (input, Some(groups)))));
                }
            }
            Ok(Some((groups.take()?, (input, None))))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

/// What is added up by one function.
enum State {
    /// COUNT(*): of each group, in four parts. Neighbouring rows are mostly of the same group: they need not wait for each
    /// other's sum.
    Rows(Vec<[i64; 4]>),
    Other(Box<dyn GroupsAccumulator>),
}

impl State {
    fn new(function: &AggregateFunctionExpr, filtered: bool) -> Result<Self> {
        let rows = !filtered && counts_rows(function);
        Ok(if rows { State::Rows(Vec::new()) } else { State::Other(function.create_groups_accumulator()?) })
    }

    fn size(&self) -> usize {
        match self {
            State::Rows(counts) => counts.capacity() * size_of::<[i64; 4]>(),
            State::Other(state) => state.size(),
        }
    }

    fn take(&mut self) -> Result<Vec<ArrayRef>> {
        match self {
            State::Rows(counts) => {
                let sums = std::mem::take(counts).into_iter().map(|parts| parts.iter().sum::<i64>());
                Ok(vec![Arc::new(Int64Array::from_iter_values(sums))])
            }
            State::Other(state) => state.state(EmitTo::All),
        }
    }
}

/// The groups so far.
struct Groups {
    sums: Arc<Sums>,
    /// One for each function.
    states: Vec<State>,
    /// A text's position is its group's number; NULL is a group as well.
    texts: IndexSet<Option<Box<str>>, foldhash::fast::RandomState>,
    text_bytes: usize,
    /// The dictionary that came last and its values' groups, or [`UNKNOWN`]. Batches of a row group share it.
    known: Option<(ArrayRef, Vec<usize>)>,
    null: usize,
    reserved: MemoryReservation,
}

impl Groups {
    fn new(sums: Arc<Sums>, reserved: MemoryReservation) -> Result<Self> {
        let functions = sums.functions.iter().zip(&sums.filters);
        let states =
            functions.map(|(function, filter)| State::new(function, filter.is_some())).collect::<Result<_>>()?;
        Ok(Self { sums, states, texts: IndexSet::default(), text_bytes: 0, known: None, null: UNKNOWN, reserved })
    }

    /// # Errors
    /// What the memory pool says when it has no room, and what an argument's evaluation says.
    fn add(&mut self, batch: &RecordBatch, column: usize) -> Result<()> {
        let numbers = self.numbers(batch.column(column).as_dictionary::<Int32Type>());
        let total = self.texts.len();
        for (state, (function, filter)) in
            self.states.iter_mut().zip(self.sums.functions.iter().zip(&self.sums.filters))
        {
            match state {
                State::Rows(counts) => count(counts, &numbers, total),
                State::Other(state) => {
                    let array = |of: &Arc<dyn PhysicalExpr>| of.evaluate(batch)?.into_array(batch.num_rows());
                    let arguments = function.expressions().iter().map(array).collect::<Result<Vec<ArrayRef>>>()?;
                    let filter = filter.as_ref().map(array).transpose()?;
                    let filter = filter.as_ref().map(|filter| filter.as_boolean());
                    state.update_batch(&arguments, &numbers, filter, total)?;
                }
            }
        }
        let states: usize = self.states.iter().map(State::size).sum();
        self.reserved.try_resize(states + self.text_bytes + total * BYTES_EACH)
    }

    /// The group of each row.
    fn numbers(&mut self, keys: &DictionaryArray<Int32Type>) -> Vec<usize> {
        let values = keys.values();
        let known = self.known.take().filter(|(of, _)| of.to_data().ptr_eq(&values.to_data()));
        let mut known = known.map_or_else(|| vec![UNKNOWN; values.len()], |(_, known)| known);
        let texts = values.as_string::<i32>();
        let mut numbers = Vec::with_capacity(keys.len());
        if keys.keys().null_count() == 0 && texts.null_count() == 0 {
            numbers.extend(keys.keys().values().iter().map(|key| {
                let key = *key as usize;
                if known[key] == UNKNOWN {
                    known[key] = self.number_of(Some(texts.value(key)));
                }
                known[key]
            }));
        } else {
            for key in keys.keys() {
                let key = key.map(|key| key as usize).filter(|key| texts.is_valid(*key));
                let place = key.map_or(self.null, |key| known[key]);
                let number = if place == UNKNOWN { self.number_of(key.map(|key| texts.value(key))) } else { place };
                match key {
                    Some(key) => known[key] = number,
                    None => self.null = number,
                }
                numbers.push(number);
            }
        }
        self.known = Some((values.clone(), known));
        numbers
    }

    fn number_of(&mut self, text: Option<&str>) -> usize {
        let bytes = text.map_or(0, str::len);
        let text = text.map(Box::from);
        let (number, new) = self.texts.insert_full(text);
        self.text_bytes += if new { bytes } else { 0 };
        number
    }

    /// The groups so far, which begin anew.
    fn take(&mut self) -> Result<RecordBatch> {
        let mut texts = StringBuilder::with_capacity(self.texts.len(), self.text_bytes);
        for text in self.texts.drain(..) {
            texts.append_option(text);
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(texts.finish())];
        for state in &mut self.states {
            columns.extend(state.take()?);
        }
        (self.text_bytes, self.known, self.null) = (0, None, UNKNOWN);
        self.reserved.try_resize(0)?;
        Ok(RecordBatch::try_new(self.sums.schema.clone(), columns)?)
    }
}

/// Each row's group is one of `total`.
fn count(counts: &mut Vec<[i64; 4]>, numbers: &[usize], total: usize) {
    counts.resize(total, [0; 4]);
    for four in numbers.chunks(4) {
        for (part, number) in four.iter().enumerate() {
            counts[*number][part] += 1;
        }
    }
}
