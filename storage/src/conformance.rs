//! One suite for every driver: what the contract promises, tried out.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;

use crate::{CreateIfAbsent, Creation, ErrorKind, MAX_OBJECT_BYTES, Store, collect_listing};

/// A promise of the contract that a driver did not keep.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// The driver failed where it should have worked.
    #[error("{step}: {source}")]
    Failed {
        /// What was tried.
        step: &'static str,
        /// What the driver said.
        source: crate::Error,
    },
    /// The driver answered something else than the contract says.
    #[error("{step}: {found}")]
    Different {
        /// What was tried.
        step: &'static str,
        /// What came instead.
        found: String,
    },
}

type Outcome = Result<(), ConformanceError>;

/// Tries every promise of [`Store`] on an empty store. A race may have several
/// winners only where the store's capabilities admit it.
///
/// # Errors
/// The first promise that was not kept.
pub async fn check_conformance(store: Arc<dyn Store>) -> Outcome {
    creates_once(&*store).await?;
    reads_parts(&*store).await?;
    lists_by_prefix(&*store).await?;
    refuses_bad_names(&*store).await?;
    races_have_one_winner(&store).await?;
    takes_large_objects(&*store).await?;
    deletes(&*store).await
}

async fn creates_once(store: &dyn Store) -> Outcome {
    let step = "create, create again, get";
    expect(step, store.create("once/a", Bytes::from_static(b"first")).await, &Creation::Created)?;
    expect(step, store.create("once/a", Bytes::from_static(b"second")).await, &Creation::Exists)?;
    expect(step, store.get("once/a").await, &Bytes::from_static(b"first"))?;
    expect(step, store.create("once/empty", Bytes::new()).await, &Creation::Created)?;
    expect(step, store.get("once/empty").await, &Bytes::new())?;
    expect_error(step, store.get("once/none").await, ErrorKind::NotFound)?;
    expect_error(step, store.get("nowhere/none").await, ErrorKind::NotFound)
}

async fn reads_parts(store: &dyn Store) -> Outcome {
    let step = "read parts of an object";
    let bytes = Bytes::from_static(b"0123456789");
    expect(step, store.create("parts/a", bytes).await, &Creation::Created)?;
    expect(step, store.get_range("parts/a", 2..5).await, &Bytes::from_static(b"234"))?;
    expect(step, store.get_range("parts/a", 9..10).await, &Bytes::from_static(b"9"))?;
    expect(step, store.get_range("parts/a", 4..4).await, &Bytes::new())?;
    expect_error(step, store.get_range("parts/a", 8..11).await, ErrorKind::Truncated)?;
    expect_error(step, store.get_range("parts/a", 20..21).await, ErrorKind::Truncated)?;
    expect_error(step, store.get_range("parts/b", 0..1).await, ErrorKind::NotFound)?;
    expect(step, store.head("parts/a").await.map(|info| info.size), &10)?;
    expect(step, store.head("parts/a").await.map(|info| info.name), &"parts/a".to_owned())?;
    expect_error(step, store.head("parts/b").await, ErrorKind::NotFound)
}

async fn lists_by_prefix(store: &dyn Store) -> Outcome {
    let step = "list by prefix";
    for name in ["list/aa/1", "list/aa/2", "list/ab/1", "list/b", "lister"] {
        expect(step, store.create(name, Bytes::from_static(b"x")).await, &Creation::Created)?;
    }
    for (prefix, names) in [
        ("list/", vec!["list/aa/1", "list/aa/2", "list/ab/1", "list/b"]),
        ("list/a", vec!["list/aa/1", "list/aa/2", "list/ab/1"]),
        ("list/aa/", vec!["list/aa/1", "list/aa/2"]),
        ("list/aa/2", vec!["list/aa/2"]),
        ("lister", vec!["lister"]),
        ("list/c/", vec![]),
        ("none", vec![]),
    ] {
        let found = collect_listing(store.list(prefix))
            .await
            .map(|objects| objects.into_iter().map(|object| object.name).collect::<Vec<_>>());
        expect(step, found, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
    }
    let sizes = collect_listing(store.list("list/b"))
        .await
        .map(|objects| objects.iter().map(|object| object.size).collect::<Vec<_>>());
    expect(step, sizes, &vec![1])
}

async fn refuses_bad_names(store: &dyn Store) -> Outcome {
    let step = "refuse names that are none";
    for name in ["", "/", "..", "a/../b", "/etc", "a//b", "A", "a.b"] {
        expect_error(step, store.get(name).await, ErrorKind::Misuse)?;
        expect_error(step, store.create(name, Bytes::new()).await, ErrorKind::Misuse)?;
        expect_error(step, store.head(name).await, ErrorKind::Misuse)?;
        expect_error(step, store.delete(name).await, ErrorKind::Misuse)?;
    }
    expect_error(step, collect_listing(store.list("../")).await, ErrorKind::Misuse)
}

async fn races_have_one_winner(store: &Arc<dyn Store>) -> Outcome {
    let step = "sixteen create the same object at once";
    for round in 0..8 {
        let name = format!("race/{round}");
        let tries = (0..16_u8).map(|n| {
            let (store, name) = (Arc::clone(store), name.clone());
            async move { (n, store.create(&name, Bytes::from(vec![n; 4096])).await) }
        });
        let mut winners = Vec::new();
        for (n, created) in join_all(tries).await {
            match created {
                Ok(Creation::Created) => winners.push(n),
                Ok(Creation::Exists) => {}
                Err(source) => return Err(ConformanceError::Failed { step, source }),
            }
        }
        let admits_more = matches!(
            store.capabilities().create_if_absent,
            CreateIfAbsent::Ignored | CreateIfAbsent::Refused
        );
        let found = store.get(&name).await;
        let of_a_winner = winners
            .iter()
            .any(|winner| found.as_ref().is_ok_and(|bytes| *bytes == vec![*winner; 4096]));
        if !of_a_winner || (winners.len() > 1 && !admits_more) {
            let found = format!("winners {winners:?}, {:?}", found.map(|bytes| bytes.slice(..1)));
            return Err(ConformanceError::Different { step, found });
        }
    }
    Ok(())
}

async fn takes_large_objects(store: &dyn Store) -> Outcome {
    let step = "an object of the largest size";
    let large = Bytes::from(vec![7_u8; MAX_OBJECT_BYTES]);
    expect(step, store.create("large/a", large.clone()).await, &Creation::Created)?;
    let end = MAX_OBJECT_BYTES as u64;
    expect(step, store.get_range("large/a", end - 1..end).await, &Bytes::from_static(&[7]))?;
    expect(step, store.get("large/a").await.map(|bytes| bytes == large), &true)?;
    let larger = Bytes::from(vec![7_u8; MAX_OBJECT_BYTES + 1]);
    expect_error(step, store.create("large/b", larger).await, ErrorKind::Misuse)
}

async fn deletes(store: &dyn Store) -> Outcome {
    let step = "delete, also what is gone";
    expect(step, store.delete("once/a").await, &())?;
    expect_error(step, store.get("once/a").await, ErrorKind::NotFound)?;
    expect(step, store.delete("once/a").await, &())?;
    expect(step, store.delete("nowhere/none").await, &())?;
    expect(step, store.create("once/a", Bytes::from_static(b"new")).await, &Creation::Created)?;
    expect(step, store.get("once/empty").await, &Bytes::new())
}

fn expect<T: PartialEq + std::fmt::Debug>(
    step: &'static str,
    found: crate::Result<T>,
    expected: &T,
) -> Outcome {
    match found {
        Ok(found) if found == *expected => Ok(()),
        Ok(found) => Err(ConformanceError::Different {
            step,
            found: format!("{found:?} instead of {expected:?}"),
        }),
        Err(source) => Err(ConformanceError::Failed { step, source }),
    }
}

fn expect_error<T: std::fmt::Debug>(
    step: &'static str,
    found: crate::Result<T>,
    kind: ErrorKind,
) -> Outcome {
    match found {
        Err(error) if error.kind == kind => Ok(()),
        other => Err(ConformanceError::Different {
            step,
            found: format!("{other:?} instead of {kind:?}"),
        }),
    }
}
