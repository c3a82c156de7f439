//! Where owners' cold rows go: to their table's storage, or to their own.
//!
//! Owns which users have a storage of their own. Whoever changes that makes it durable first.
//! Where a segment *lies*, its entry says: until it is moved, that may be elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::{Owner, StorageId, TableMeta, UserId};

/// Users with a storage of their own, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Homes(HashMap<UserId, StorageId>);

impl Homes {
    /// The owner's own storage, whichever tables go by it.
    pub fn own(&self, owner: &Owner) -> Option<&StorageId> {
        match owner {
            Owner::User(user) => self.0.get(user),
            Owner::Shared => None,
        }
    }

    /// Where an owner's rows of a table are to lie.
    pub fn of<'h>(&'h self, table: &'h TableMeta, owner: &Owner) -> &'h StorageId {
        match owner {
            Owner::User(user) if table.use_user_storage => self.0.get(user).unwrap_or(&table.storage),
            _ => &table.storage,
        }
    }
}

/// The same, as it is now.
#[derive(Debug, Default)]
pub struct UserStorages(RwLock<Arc<Homes>>);

impl UserStorages {
    pub fn current(&self) -> Arc<Homes> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `None`: the user has no storage of their own.
    pub fn set(&self, user: &UserId, storage: Option<&StorageId>) {
        if self.current().0.get(user) == storage {
            return;
        }
        let mut homes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let homes = &mut Arc::make_mut(&mut *homes).0;
        match storage {
            Some(storage) => homes.insert(user.clone(), storage.clone()),
            None => homes.remove(user),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DataType;
    use crate::storage::row_codec::tests::table_with;

    #[test]
    fn a_users_storage_counts_where_the_table_says_so() {
        let storages = UserStorages::default();
        let (ann, eu) = (UserId::parse("ann").unwrap(), StorageId::parse("eu").unwrap());
        let mut table = table_with(&[DataType::BigInt], &[0]);
        let owner = Owner::User(ann.clone());
        let before = storages.current();
        storages.set(&ann, Some(&eu));
        assert_eq!(*storages.current().of(&table, &owner), table.storage, "the table does not say so");
        table.use_user_storage = true;
        assert_eq!(*storages.current().of(&table, &owner), eu);
        assert_eq!(*before.of(&table, &owner), table.storage, "another moment");
        assert_eq!(*storages.current().of(&table, &Owner::Shared), table.storage);
        storages.set(&ann, None);
        assert_eq!(*storages.current().of(&table, &owner), table.storage);
    }
}
