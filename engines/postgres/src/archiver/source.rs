//! The server that is followed: which one it is, and where its log goes on from what is archived.

use dbbackup_contract::{Failure, Reason};

use super::ancestry::Ancestry;
use super::tail::{Tail, common_timeline};
use super::{ArchiveOptions, LogArchive, slot};
use crate::lsn::Lsn;
use crate::physical::may_replicate;
use crate::replication::{ReplicationSession, SystemIdentity};
use crate::server::Server;
use crate::wal::Lineage;

/// A server, over both protocols.
pub(super) struct Source {
    pub(super) server: Server,
    pub(super) session: ReplicationSession,
    pub(super) identity: SystemIdentity,
    pub(super) lineage: Lineage,
}

/// Where a server's log goes another way than what is archived.
pub(super) struct Fork {
    pub(super) before: u32,
    pub(super) next: u32,
    pub(super) at: Lsn,
}

impl Source {
    pub(super) async fn open(options: &ArchiveOptions) -> Result<Self, Failure> {
        let server = Server::open(&options.server).await?;
        may_replicate(&server.session).await?;
        let mut session = ReplicationSession::open(&options.server).await?;
        let identity = session.identify().await?;
        let segment_bytes = segment_bytes(&server).await?;
        let lineage = Lineage { system_identifier: identity.system_identifier, segment_bytes };
        Ok(Self { server, session, identity, lineage })
    }

    /// Where the log of this server leaves what is archived; `None` where it goes on at its end.
    /// What was archived behind that is of no server any more, and stays where it is.
    ///
    /// # Errors
    /// `ServerGoneAway` of an old primary, `TimelineForeign` of a server whose log nowhere goes on
    /// from the archived one.
    pub(super) async fn fork_from(
        &mut self,
        tail: &Tail,
        archive: &dyn LogArchive,
    ) -> Result<Option<Fork>, Failure> {
        let (own, archived) = (self.identity.timeline, tail.timeline);
        if archived > own {
            let message = format!(
                "the server is on timeline {own}, and the archive has timeline {archived} already"
            );
            return Err(Failure::new(Reason::ServerGoneAway, message)
                .with_hint("Is this an old primary? Its Service should lead to the new one."));
        }
        if archived == own {
            return Ok(None);
        }
        let ancestry = Ancestry::read(&self.session.history(own).await?.text);
        if let Some((next, at)) = ancestry.after(archived, own) {
            return Ok((at < tail.start).then_some(Fork { before: archived, next, at }));
        }
        // It was recovered to a point before the archive's last timeline began.
        let common = common_timeline(archive, &ancestry).await?;
        let fork = common.and_then(|before| {
            let (next, at) = ancestry.after(before, own)?;
            Some(Fork { before, next, at })
        });
        fork.map(Some).ok_or_else(|| {
            let message = format!(
                "the server's timeline {own} does not come from timeline {archived}, which the \
                 archive has, nor from an older one at a point of which it has the log"
            );
            Failure::new(Reason::TimelineForeign, message)
        })
    }
}

/// From where on the slot keeps the log.
pub(super) async fn kept_from(
    server: &Server,
    slot: &str,
    identity: &SystemIdentity,
) -> Result<Lsn, Failure> {
    let slot = slot::look(&server.session, slot).await?;
    Ok(slot.and_then(|slot| slot.restart).unwrap_or(identity.position))
}

async fn segment_bytes(server: &Server) -> Result<u64, Failure> {
    let doing = "asking for the size of the log's files";
    let sql = "SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'";
    let row = server.session.query_one(sql, &[]).await;
    let row = row.map_err(|error| crate::errors::query_failure(&error, doing))?;
    u64::try_from(row.get::<_, i64>(0)).map_err(|_| Failure::new(Reason::Internal, doing))
}
