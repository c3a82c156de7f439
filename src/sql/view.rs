//! Views in queries: the query of a view in the place of its name.
//!
//! Owns how a view is planned where it is named: its text is read anew, its names are those of where it was made, its rows and
//! rights those of whoever reads it. It shows the columns that it had when it was made, found by their names.
//! Never decides who may read: what the view names is asked for like everything else, by [`CallerCatalog`].
//! Invariant: LQ-3, a view gives nothing that its text would not give to its reader.
//! [`CallerCatalog`]: super::caller_catalog::CallerCatalog

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use datafusion::common::Column;
use datafusion::datasource::ViewTable;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast;

use super::engine::{QueryContext, from_datafusion, plan_naming, prepare, result_schema};
use super::parse;
use super::statement::Statement;
use crate::error::{Error, Result};
use crate::model::{ResultSchema, TableName, ViewColumn, ViewMeta};

/// Views over views: each level plans within the one above.
const DEPTH_MAX: usize = 8;

/// Stack that the planning of one view may take, of an unoptimised build as well; and what is added where less is left.
const PLAN_STACK: usize = 1 << 20;
const MORE_STACK: usize = 4 << 20;

/// Views in one statement, those below others counted each time: a pair of joins a level doubles them.
const EXPANDED_MAX: usize = 200;

/// What one query names, while it is planned.
#[derive(Debug, Default)]
pub(crate) struct NamedObjects {
    /// Views above.
    depth: usize,
    /// In the whole statement.
    expanded: Rc<Cell<usize>>,
    objects: RefCell<BTreeSet<TableName>>,
    system: Cell<bool>,
}

impl NamedObjects {
    /// A table or a view is named.
    pub(crate) fn note(&self, name: &TableName) {
        self.objects.borrow_mut().insert(name.clone());
    }

    /// A system table is named.
    pub(crate) fn note_system(&self) {
        self.system.set(true);
    }

    /// For the query of a view that is named in this one.
    fn below(&self, view: &ViewMeta) -> Result<NamedObjects> {
        self.expanded.set(self.expanded.get() + 1);
        if self.depth == DEPTH_MAX {
            let message =
                format!("{} is more than {DEPTH_MAX} views over views below; read a view below it", view.name);
            return Err(Error::InvalidSql(message));
        }
        if self.expanded.get() > EXPANDED_MAX {
            let message = format!("the statement reads more than {EXPANDED_MAX} views, those below others included");
            return Err(Error::InvalidSql(message));
        }
        Ok(NamedObjects { depth: self.depth + 1, expanded: self.expanded.clone(), ..NamedObjects::default() })
    }
}

/// What a query would be as a view.
#[derive(Debug)]
pub struct QueryShape {
    pub schema: ResultSchema,
    /// Tables and views that it names itself.
    pub reads: Vec<TableName>,
    pub reads_system: bool,
}

/// Plans a query that has no parameters, to see what it shows and names.
///
/// # Errors
/// What planning it answers.
pub(crate) fn shape_of(state: &SessionState, ctx: &QueryContext, query: &ast::Query) -> Result<QueryShape> {
    // Once it is a view, it stands below the statement that names it.
    let named = NamedObjects { depth: 1, ..NamedObjects::default() };
    let plan = plan(state, ctx, query, &named)?;
    Ok(QueryShape {
        schema: result_schema(&plan),
        reads: named.objects.into_inner().into_iter().collect(),
        reads_system: named.system.get(),
    })
}

/// The columns of a view that is made of `shape`, under the names `given`; none given: its own.
///
/// # Errors
/// `INVALID_SQL`: another number of names, or a name twice.
pub fn view_columns(shape: &QueryShape, given: &[String]) -> Result<Vec<ViewColumn>> {
    let columns = shape.schema.columns();
    if !given.is_empty() && given.len() != columns.len() {
        return Err(Error::InvalidSql(format!(
            "The view has {} column name(s) for the {} column(s) of its query",
            given.len(),
            columns.len()
        )));
    }
    let sources: HashSet<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    if sources.len() < columns.len() {
        return Err(Error::InvalidSql(
            "The view's query gives two columns of one name; name one otherwise: AS".to_owned(),
        ));
    }
    let mut names = HashSet::new();
    let mut shown = Vec::with_capacity(columns.len());
    for (position, column) in columns.iter().enumerate() {
        let name = given.get(position).unwrap_or(&column.name).clone();
        if !names.insert(name.clone()) {
            return Err(Error::InvalidSql(format!("The view has two columns '{name}'")));
        }
        let source = (name != column.name).then(|| column.name.clone());
        shown.push(ViewColumn { name, source, data_type: column.data_type, comment: None });
    }
    Ok(shown)
}

/// The SELECT of a view.
///
/// # Errors
/// `INTERNAL` where the record is damaged: the text was read before it was stored.
pub fn query_of(view: &ViewMeta) -> Result<Box<ast::Query>> {
    let mut statements = parse::parse_whole(&view.query).map_err(Error::internal)?;
    match statements.pop().map(|parsed| parsed.statement) {
        Some(Statement::Query(query)) => Ok(query),
        _ => Err(Error::internal(format!("the text of view {} is no query", view.name))),
    }
}

/// The view as a table of the query that names it.
///
/// # Errors
/// `PERMISSION_DENIED` where the reader may not read what is below, `INVALID_SQL` where views nest too deep.
pub(crate) fn table_of(
    state: &SessionState,
    ctx: &QueryContext,
    view: &ViewMeta,
    above: &NamedObjects,
) -> Result<Arc<ViewTable>> {
    let below = above.below(view)?;
    let ctx = QueryContext { namespace: view.namespace.clone(), params: Arc::new([]), ..ctx.clone() };
    let query = query_of(view)?;
    let plan = stacker::maybe_grow(PLAN_STACK, MORE_STACK, || plan(state, &ctx, &query, &below))?;
    let shown = view.columns.iter().map(|column| column_of(&plan, view, column)).collect::<Result<Vec<_>>>()?;
    let plan = LogicalPlanBuilder::from(plan).project(shown).and_then(LogicalPlanBuilder::build);
    Ok(Arc::new(ViewTable::new(plan.map_err(from_datafusion)?, Some(view.query.clone()))))
}

fn plan(state: &SessionState, ctx: &QueryContext, query: &ast::Query, named: &NamedObjects) -> Result<LogicalPlan> {
    let statement = prepare(&ast::Statement::Query(Box::new(query.clone())), &ctx.params)?;
    plan_naming(state, ctx, statement, named)
}

/// A column of the view's query, by its name.
fn column_of(plan: &LogicalPlan, view: &ViewMeta, column: &ViewColumn) -> Result<Expr> {
    let mut found = plan.schema().iter().filter(|(_, field)| field.name() == column.source());
    match (found.next(), found.next()) {
        (Some((qualifier, field)), None) => {
            Ok(Expr::Column(Column::new(qualifier.cloned(), field.name())).alias(&column.name))
        }
        (found, _) => Err(Error::InvalidSql(format!(
            "View {}: its query gives {} column '{}' now; CREATE OR REPLACE VIEW it",
            view.name,
            if found.is_some() { "more than one" } else { "no" },
            column.source()
        ))),
    }
}
