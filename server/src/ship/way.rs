//! How a region's shipments get to where they are read: through a place, or without one.

use super::direct::{Shelf, There};
use super::ports::Place;
use super::remote::{Bills, Remote};
use bytes::Bytes;
use std::sync::Arc;

/// One region's shipments, as this node gets at them.
pub enum Way {
    /// In a directory or a bucket.
    Store(Remote),
    /// Ours, which others ask us for.
    Here(Arc<Shelf>),
    /// Another region's, which it is asked for.
    There(There),
}

impl Place for Way {
    fn keeps(&self) -> bool {
        matches!(self, Way::Store(_))
    }

    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<bool, String> {
        match self {
            Way::Store(remote) => remote.put_new(name, bytes).await,
            Way::Here(_) | Way::There(_) => Err(format!("{name}: nothing is put where others are asked")),
        }
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), String> {
        match self {
            Way::Store(remote) => remote.put(name, bytes).await,
            Way::Here(shelf) => shelf.say(name, bytes),
            Way::There(_) => Err(format!("{name}: nothing is put with another region")),
        }
    }

    async fn get(&self, name: &str, most: u64) -> Result<Option<Bytes>, String> {
        match self {
            Way::Store(remote) => remote.get(name, most).await,
            Way::Here(shelf) => Ok(shelf.said(name)),
            Way::There(there) => there.get(name, most).await,
        }
    }

    async fn bills(&self, at: u64) -> Result<Bills, String> {
        match self {
            Way::Store(remote) => remote.bills(at).await,
            // A bill is made when it is asked for, by its name.
            Way::Here(_) | Way::There(_) => Ok(Bills::default()),
        }
    }
}
