//! Opening a subscription: compile, count, attach, then read. The order is what LQ-1 rests on.

use std::sync::Arc;

use super::{Attachment, LiveEndpoint};
use crate::error::{Result, SubscriptionFault};
use crate::live::Subscriber;
use crate::live::directory::{LiveConnection, SubscriptionSpec};
use crate::live::pages::{LiveReader, PageJob};
use crate::live::session::{OpenRequest, Opened};
use crate::live::subscription::Start;
use crate::model::Principal;

/// # Errors
/// Whatever of it fails; what was done before is undone.
pub(super) async fn open(
    endpoint: Arc<LiveEndpoint>,
    connection: Arc<LiveConnection>,
    principal: Principal,
    request: OpenRequest,
) -> Result<(Opened, Attachment)> {
    let OpenRequest { key, request, start, wire } = request;
    let database = &endpoint.database;
    let target = database.compile(&principal, &request.sql).await?;

    let options = request.options.as_ref().and_then(|options| serde_json::to_string(options).ok());
    let spec = SubscriptionSpec { subscription_id: request.id, query: request.sql, options };
    let entry = endpoint.directory.subscribe(
        key,
        (&connection, &principal.user),
        (&target, spec),
        endpoint.limits.max_subscriptions_per_user,
        endpoint.clock.now_us(),
    )?;

    // 1. attached: from here on every change comes. 2. the view is opened: it contains every change before. A change
    // between the two is in both, and is told once: the cut says by whom.
    let subscriber = Subscriber { key, format: wire.format, outbox: connection.outbox().clone() };
    let attached = database.attach(&target, subscriber).await?;
    let (mut cut, mut reader, mut first) = (attached.head, None, None);
    if start != Start::Changes {
        let view = database.open_reader(&target).await?;
        cut = cut.max(view.head());
        check_position(start, &*view)?;
        if let Some(request) = start.first_page(cut) {
            let job = PageJob { query: target.query.clone(), reader: view.clone(), request, wire };
            first = Some(database.read_page(job).await?);
        }
        reader = Some(view);
    }
    let opened = Opened { schema: target.query.schema().clone(), cut, first };
    Ok((opened, Attachment { query: target.query, reader, wire, entry, _attached: attached.guard }))
}

/// Are all changes above the position that a replay starts from still there?
fn check_position(start: Start, view: &dyn LiveReader) -> Result<()> {
    let from = match start {
        Start::Resume { from } => from,
        Start::Continue { end, .. } => end,
        Start::Changes | Start::Load { .. } | Start::Newest { .. } => return Ok(()),
    };
    if from < view.replayable_from() { Err(SubscriptionFault::PositionLost { from }.into()) } else { Ok(()) }
}
