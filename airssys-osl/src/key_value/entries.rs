//! The tables of the store, and the one transaction that changes entries and account together.

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::fault::KeyValueError;
use super::space::{KeyValueSpace, Swapped};

/// Component, bucket and key, each with a length of its own: no text in one reaches into another.
type Name = (&'static str, &'static str, &'static str);

const ENTRIES: TableDefinition<'_, Name, &[u8]> = TableDefinition::new("entries");
/// Bytes of each component that has any.
const USED: TableDefinition<'_, &str, u64> = TableDefinition::new("used");
/// Bytes of all components.
const TOTAL: TableDefinition<'_, (), u64> = TableDefinition::new("total");

/// Whose entries, and how many bytes of them there may be.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub(super) component: Arc<str>,
    pub(super) quota_bytes: u64,
}

/// Why an operation of a transaction has not taken place.
pub(super) enum Refusal {
    /// By its own fault; the others of the transaction go on.
    Of(KeyValueError),
    /// By the store's; none of them takes place.
    Store(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

/// The tables of a transaction that writes.
pub(super) struct Ledger<'t> {
    entries: Table<'t, Name, &'static [u8]>,
    used: Table<'t, &'static str, u64>,
    total: Table<'t, (), u64>,
    max_bytes: u64,
}

impl<'t> Ledger<'t> {
    pub(super) fn open(
        transaction: &'t WriteTransaction,
        max_bytes: u64,
    ) -> Result<Self, redb::Error> {
        Ok(Self {
            entries: transaction.open_table(ENTRIES)?,
            used: transaction.open_table(USED)?,
            total: transaction.open_table(TOTAL)?,
            max_bytes,
        })
    }

    /// Sets all or none. Of a key that is named twice the last value counts.
    pub(super) fn put(
        &mut self,
        owner: &Owner,
        bucket: &str,
        entries: &[(Box<str>, Box<[u8]>)],
    ) -> Result<(), Refusal> {
        let last: BTreeMap<&str, &[u8]> = entries.iter().map(|(k, v)| (&**k, &**v)).collect();
        let component = &*owner.component;
        let (mut freed, mut added) = (0, 0);
        for (key, value) in &last {
            freed += self.bytes_of(component, bucket, key)?;
            added += KeyValueSpace::entry_bytes(component, bucket, key, value.len());
        }
        self.charge(owner, freed, added)?;
        for (key, value) in last {
            self.entries.insert((component, bucket, key), value)?;
        }
        Ok(())
    }

    pub(super) fn delete(
        &mut self,
        owner: &Owner,
        bucket: &str,
        keys: &[Box<str>],
    ) -> Result<(), Refusal> {
        let component = &*owner.component;
        let mut freed = 0;
        for key in keys {
            freed += self.bytes_of(component, bucket, key)?;
            self.entries.remove((component, bucket, &**key))?;
        }
        self.charge(owner, freed, 0)
    }

    pub(super) fn increment(
        &mut self,
        owner: &Owner,
        bucket: &str,
        key: &str,
        delta: i64,
    ) -> Result<i64, Refusal> {
        let value: i64 = match self.entries.get((&*owner.component, bucket, key))? {
            None => 0,
            Some(stored) => std::str::from_utf8(stored.value())
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or(Refusal::Of(KeyValueError::NotANumber))?,
        };
        let sum = value
            .checked_add(delta)
            .ok_or(Refusal::Of(KeyValueError::OutOfRange { value, delta }))?;
        let text = sum.to_string().into_bytes().into();
        self.put(owner, bucket, &[(key.into(), text)])?;
        Ok(sum)
    }

    pub(super) fn swap(
        &mut self,
        owner: &Owner,
        bucket: &str,
        key: &str,
        expected: Option<&[u8]>,
        new: &[u8],
    ) -> Result<Swapped, Refusal> {
        if let Some(found) = self.differing(owner, bucket, key, expected)? {
            return Ok(found);
        }
        self.put(owner, bucket, &[(key.into(), new.into())])?;
        Ok(Swapped::Done)
    }

    fn differing(
        &self,
        owner: &Owner,
        bucket: &str,
        key: &str,
        expected: Option<&[u8]>,
    ) -> Result<Option<Swapped>, Refusal> {
        let stored = self.entries.get((&*owner.component, bucket, key))?;
        let stored = stored.as_ref().map(|stored| stored.value());
        Ok((stored != expected).then(|| Swapped::Differs(stored.map(<[u8]>::to_vec))))
    }

    /// What an entry counts; 0 where there is none.
    fn bytes_of(&self, component: &str, bucket: &str, key: &str) -> Result<u64, redb::Error> {
        let stored = self.entries.get((component, bucket, key))?;
        Ok(stored.map_or(0, |stored| {
            KeyValueSpace::entry_bytes(component, bucket, key, stored.value().len())
        }))
    }

    /// Writes the change into the account, unless it grows past a bound.
    fn charge(&mut self, owner: &Owner, freed: u64, added: u64) -> Result<(), Refusal> {
        let component = &*owner.component;
        let used = self.used.get(component)?.map_or(0, |used| used.value());
        let total = self.total.get(())?.map_or(0, |total| total.value());
        let asked = added.saturating_sub(freed);
        let (now, now_total) = (changed(used, freed, added)?, changed(total, freed, added)?);
        if asked > 0 && now > owner.quota_bytes {
            let quota = owner.quota_bytes;
            return Err(Refusal::Of(KeyValueError::QuotaExceeded {
                quota,
                used,
                asked,
            }));
        }
        if asked > 0 && now_total > self.max_bytes {
            return Err(Refusal::Of(KeyValueError::StoreFull {
                max: self.max_bytes,
                used: total,
                asked,
            }));
        }
        if now == 0 {
            self.used.remove(component)?;
        } else {
            self.used.insert(component, now)?;
        }
        self.total.insert((), now_total)?;
        Ok(())
    }
}

/// A sum of the account after a change. One below zero was not written by a store.
fn changed(sum: u64, freed: u64, added: u64) -> Result<u64, redb::Error> {
    sum.checked_sub(freed)
        .and_then(|sum| sum.checked_add(added))
        .ok_or_else(|| redb::Error::Corrupted("the account is not of these entries".to_owned()))
}

/// Makes the tables where there are none, so that no reader finds one missing.
pub(super) fn prepare(database: &Database) -> Result<(), redb::Error> {
    let there = match database.begin_read()?.open_table(TOTAL) {
        Ok(_) => true,
        Err(redb::TableError::TableDoesNotExist(_)) => false,
        Err(error) => return Err(error.into()),
    };
    if !there {
        let transaction = database.begin_write()?;
        Ledger::open(&transaction, 0)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Bytes of all components.
pub(super) fn total(database: &Database) -> Result<u64, redb::Error> {
    let total = database.begin_read()?.open_table(TOTAL)?;
    Ok(total.get(())?.map_or(0, |total| total.value()))
}

/// Bytes of one component.
pub(super) fn used(database: &Database, component: &str) -> Result<u64, redb::Error> {
    let used = database.begin_read()?.open_table(USED)?;
    Ok(used.get(component)?.map_or(0, |used| used.value()))
}

pub(super) fn exists(
    database: &Database,
    component: &str,
    bucket: &str,
    key: &str,
) -> Result<bool, redb::Error> {
    let entries = database.begin_read()?.open_table(ENTRIES)?;
    Ok(entries.get((component, bucket, key))?.is_some())
}

/// The values of keys, as they were at one moment; `None` when they are more than a batch holds.
pub(super) fn values(
    database: &Database,
    component: &str,
    bucket: &str,
    keys: &[&str],
) -> Result<Option<Vec<Option<Vec<u8>>>>, redb::Error> {
    let entries = database.begin_read()?.open_table(ENTRIES)?;
    let mut room = KeyValueSpace::MAX_BATCH_BYTES;
    let mut values = Vec::with_capacity(keys.len());
    for key in keys {
        let Some(stored) = entries.get((component, bucket, *key))? else {
            values.push(None);
            continue;
        };
        let Some(left) = room.checked_sub(stored.value().len()) else {
            return Ok(None);
        };
        room = left;
        values.push(Some(stored.value().to_vec()));
    }
    Ok(Some(values))
}

/// Keys that begin with `prefix` and come after `after`, in order, and whether there are more.
pub(super) fn keys(
    database: &Database,
    (component, bucket): (&str, &str),
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<String>, bool), redb::Error> {
    let entries = database.begin_read()?.open_table(ENTRIES)?;
    let from = after.map_or(prefix, |after| after.max(prefix));
    let mut keys = Vec::new();
    for entry in entries.range((component, bucket, from)..)? {
        let (name, _) = entry?;
        let (of, within, key) = name.value();
        if of != component || within != bucket || !key.starts_with(prefix) {
            break;
        }
        if Some(key) == after {
            continue;
        }
        if keys.len() == limit.min(KeyValueSpace::MAX_PAGE_KEYS) {
            return Ok((keys, true));
        }
        keys.push(key.to_owned());
    }
    Ok((keys, false))
}
