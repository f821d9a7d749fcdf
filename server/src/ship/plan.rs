//! How a range is cut into what a record takes. Nothing here waits or reads.

use engine::event::{IMPORT_BYTES_MAX, Item, Position};

/// How many of these items fit one `Imported` of at most `most` bytes; one at least.
pub fn fitting(items: &[Item], most: usize) -> usize {
    let most = most.min(IMPORT_BYTES_MAX);
    let mut bytes = 0;
    let fits = |item: &&Item| {
        bytes += raft::weight_of_item(item);
        bytes <= most
    };
    let count = items.iter().take(engine::event::ITEMS_MAX).take_while(fits).count();
    count.max(1).min(items.len())
}

/// How many of the items of a range that begins at `from` stand before `at`.
pub fn before(from: Position, items: &[Item], at: Position) -> usize {
    engine::event::positioned(from, items).take_while(|(place, _)| *place < at).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::event::{Envelope, Event};
    use engine::ids::TenantId;
    use engine::log::Lsn;

    fn received() -> Event {
        let tenant = TenantId::new("t").unwrap();
        Event::Received(Envelope { tenant, received_at_ms: 1, salt: [0; 16], body: vec![1; 1000] })
    }

    #[test]
    fn a_range_is_cut_into_what_fits() {
        let mut items: Vec<Item> = (0..10).map(|_| Item::Event { signature: 0, event: received() }).collect();
        items.push(Item::End);
        assert_eq!(fitting(&items, 5000), 4);
        assert_eq!(fitting(&items, 10), 1);
        assert_eq!(fitting(&items, usize::MAX), 11);
        let from = Position::of(Lsn(3));
        assert_eq!(before(from, &items, from), 0);
        assert_eq!(before(from, &items, Position { lsn: Lsn(3), nth: 4 }), 4);
        assert_eq!(before(from, &items, Position::of(Lsn(4))), 11);
    }
}
