//! Storages beside each other, opened and altered, and a bucket's server that is not there.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::*;
use crate::model::{StorageCredentials, TableName, UserId};
use crate::storage::row_codec::tests::table_with;

pub(crate) fn stores(data: &Path) -> ColdStores {
    let second = Duration::from_secs(1);
    let timeouts = RemoteTimeouts { request_timeout: second, connect_timeout: second };
    ColdStores::new(data, timeouts, RemoteIo::new(Handle::current()))
}

fn storage(id: &str, kind: StorageKind, base: &str) -> StorageMeta {
    let local = ColdStores::local(1);
    StorageMeta { id: StorageId::parse(id).unwrap(), kind, base: parse_base(kind, base).unwrap(), ..local }
}

fn bucket_at(endpoint: &str) -> StorageMeta {
    let mut meta = storage("b", StorageKind::S3, "bucket");
    meta.config.insert("endpoint".to_owned(), endpoint.to_owned());
    let secrets = [("access_key_id", "AKIA1234"), ("secret_access_key", "hunter2")];
    meta.credentials = StorageCredentials::new(secrets.map(|(n, s)| (n.to_owned(), s.to_owned())).into());
    meta
}

#[tokio::test]
async fn opens_once_and_anew_only_where_the_way_changes() {
    let folder = tempfile::tempdir().unwrap();
    let stores = stores(folder.path());
    let mut meta = storage("archive", StorageKind::Filesystem, "archive");
    let id = meta.id.clone();
    assert!(matches!(stores.get(&id), Err(Error::NotFound(_))));
    stores.set(Arc::new(meta.clone())).unwrap();
    assert!(!folder.path().join("archive").exists(), "nothing is opened before it is used");
    let opened = stores.get(&id).unwrap();
    assert!(Arc::ptr_eq(&opened, &stores.get(&id).unwrap()));
    meta.name = "Another".to_owned();
    stores.set(Arc::new(meta.clone())).unwrap();
    assert!(Arc::ptr_eq(&opened, &stores.get(&id).unwrap()), "a new name changes no file");
    meta.base = "elsewhere".to_owned();
    stores.set(Arc::new(meta)).unwrap();
    assert!(!Arc::ptr_eq(&opened, &stores.get(&id).unwrap()));
    stores.forget(&id);
    assert!(matches!(stores.get(&id), Err(Error::NotFound(_))));
}

#[tokio::test]
async fn each_owner_has_a_folder_by_the_template() {
    let folder = tempfile::tempdir().unwrap();
    let stores = stores(folder.path());
    let mut meta = ColdStores::local(1);
    meta.user_template = "{shard}/{namespace}/{tableName}/{userId}".to_owned();
    stores.set(Arc::new(meta.clone())).unwrap();
    let mut table = table_with(&[crate::model::DataType::Int], &[0]);
    let alice = Owner::User(UserId::parse("alice").unwrap());
    assert!(stores.folder_of(&table.storage, &table.name, &alice).unwrap().ends_with("/t/t/alice"));
    table.kind = TableKind::Shared;
    table.name = TableName::new(table.name.namespace().clone(), "notes").unwrap();
    assert_eq!(stores.folder_of(&table.storage, &table.name, &Owner::Shared).unwrap(), "t/notes");
    table.storage = StorageId::parse("nowhere").unwrap();
    assert!(matches!(stores.folder_of(&table.storage, &table.name, &alice), Err(Error::NotFound(_))));
    meta.user_template = "{userId}".to_owned();
    assert!(matches!(stores.set(Arc::new(meta)), Err(Error::InvalidInput(_))));
}

#[tokio::test]
async fn no_storage_lies_in_another_or_in_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    std::os::unix::fs::symlink(&data, folder.path().join("link")).unwrap();
    let stores = stores(&data);
    let at = |path: &str| folder.path().join(path).to_str().unwrap().to_owned();
    let folders = [("a", at("srv/a")), ("inner", "archive".to_owned())];
    let mut there = vec![Arc::new(ColdStores::local(1)), Arc::new(storage("s", StorageKind::S3, "bucket/x"))];
    there.extend(folders.map(|(id, base)| Arc::new(storage(id, StorageKind::Filesystem, &base))));
    let refused = [
        (StorageKind::Filesystem, at("srv/a"), "of storage 'a'"),
        (StorageKind::Filesystem, at("srv/a/b"), "of storage 'a'"),
        (StorageKind::Filesystem, at("srv"), "of storage 'a'"),
        (StorageKind::Filesystem, "cold".to_owned(), "of storage 'local'"),
        (StorageKind::Filesystem, "cold/x".to_owned(), "of storage 'local'"),
        (StorageKind::Filesystem, at("data/archive/y"), "of storage 'inner'"),
        (StorageKind::Filesystem, at("link/archive"), "of storage 'inner'"),
        (StorageKind::Filesystem, "hot".to_owned(), "the database's own folder"),
        (StorageKind::Filesystem, "spool/b".to_owned(), "the database's own folder"),
        (StorageKind::Filesystem, at("link/hot/x"), "the database's own folder"),
        (StorageKind::Filesystem, at("data"), "of storage 'local'"),
        (StorageKind::S3, "bucket".to_owned(), "of storage 's'"),
        (StorageKind::S3, "bucket/x/y".to_owned(), "of storage 's'"),
    ];
    for (kind, base, expected) in refused {
        let error = stores.check_place(&storage("new", kind, &base), &there).unwrap_err();
        assert!(error.to_string().contains(expected), "{base}: {error} should say {expected}");
    }
    let good = [
        (StorageKind::Filesystem, at("srv/ab")),
        (StorageKind::Filesystem, "another".to_owned()),
        (StorageKind::S3, "bucket/xy".to_owned()),
        (StorageKind::S3, "other/x".to_owned()),
        (StorageKind::Gcs, "bucket/x".to_owned()),
    ];
    for (kind, base) in good {
        stores.check_place(&storage("new", kind, &base), &there).unwrap_or_else(|e| panic!("{base}: {e}"));
    }
    let elsewhere = bucket_at("http://another.host:9000");
    stores.check_place(&elsewhere, &there).unwrap();
    // Itself, altered.
    stores.check_place(&there[2], &there).unwrap();
    stores.check_place(&there[0], &there).unwrap();
}

#[tokio::test]
async fn a_folder_is_tried_out_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let stores = stores(folder.path());
    let store = stores.open(&ColdStores::local(1)).unwrap();
    let check = store.check("1").await;
    let all = StoreCheck { writable: true, readable: true, listable: true, deletable: true, error: None };
    assert_eq!((check.status(), &check), ("healthy", &all));
    assert_eq!(fs::read_dir(folder.path().join("cold")).unwrap().count(), 0);
    let space = store.disk_space().unwrap();
    assert!(space.total_bytes > 0 && space.used_bytes <= space.total_bytes);

    fs::write(folder.path().join("cold/inboxdb-check"), "a file where the folder should be").unwrap();
    let check = store.check("2").await;
    assert!(!check.writable && !check.deletable && check.status() != "healthy", "{check:?}");
    assert!(check.error.unwrap().starts_with("write: "));
}

#[tokio::test]
async fn a_server_that_is_away_is_given_up_soon_and_no_secret_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let stores = stores(folder.path());
    // Takes connections, by its backlog, and answers nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        gone.local_addr().unwrap()
    };
    for address in [silent.local_addr().unwrap(), refusing] {
        let meta = bucket_at(&format!("http://{address}"));
        let store = stores.open(&meta).unwrap();
        assert_eq!(store.disk_space(), None);
        let began = Instant::now();
        let check = store.check("1").await;
        assert_eq!(check.status(), "unreachable", "{check:?}");
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        let said = format!("{check:?} {store:?} {meta:?}");
        assert!(!said.contains("hunter2") && !said.contains("AKIA1234"), "{said}");
        let error = store.replace("a/1", b"x").await.unwrap_err();
        assert!(matches!(&error, Error::ColdUnavailable { path, .. } if path == "a/1"), "{error:?}");
    }
}

/// Its secret is part of every URL.
#[tokio::test]
async fn a_token_in_a_url_is_not_said() {
    let folder = tempfile::tempdir().unwrap();
    let stores = stores(folder.path());
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut meta = storage("z", StorageKind::Azure, "az://container");
    meta.config.insert("account".to_owned(), "acme".to_owned());
    meta.config.insert("endpoint".to_owned(), format!("http://{gone}"));
    let sas = [("sas_token".to_owned(), "sv=2024-11-04&sp=rwdl&sig=aHVudGVyMi9odW50ZXIy%2BQ%3D%3D".to_owned())];
    meta.credentials = StorageCredentials::new(sas.into());
    let error = stores.open(&meta).unwrap().replace("a/1", b"x").await.unwrap_err().to_string();
    assert!(error.contains("error sending request") && !error.contains("aHVudGVy"), "{error}");
}

#[tokio::test]
async fn clients_of_every_kind_are_made_of_what_they_need() {
    let folder = tempfile::tempdir().unwrap();
    let stores = stores(folder.path());
    let mut azure = storage("z", StorageKind::Azure, "az://container/p");
    azure.config.insert("account".to_owned(), "acme".to_owned());
    let sas = [("sas_token".to_owned(), "sv=2024-11-04&sig=aHVudGVyMg%3D%3D".to_owned())];
    azure.credentials = StorageCredentials::new(sas.into());
    let mut gcs = storage("g", StorageKind::Gcs, "gs://bucket/p");
    gcs.config.insert("skip_signature".to_owned(), "true".to_owned());
    let mut s3 = storage("s", StorageKind::S3, "s3://bucket/p");
    s3.config.insert("region".to_owned(), "eu-central-1".to_owned());
    for meta in [azure, gcs, s3] {
        ColdStores::check(&meta).unwrap();
        let store = stores.open(&meta).unwrap_or_else(|e| panic!("{}: {e}", meta.base));
        assert_eq!(format!("{store:?}"), "ColdStore(PrefixObjectStore(p))");
    }
    let mut broken = storage("g", StorageKind::Gcs, "gs://bucket");
    let key = [("client_email", "a@b"), ("private_key_id", "1"), ("private_key", "no key at all")];
    broken.credentials = StorageCredentials::new(key.map(|(n, s)| (n.to_owned(), s.to_owned())).into());
    let error = stores.open(&broken).unwrap_err();
    assert!(matches!(&error, Error::ColdUnavailable { .. }) && !error.to_string().contains("no key at all"), "{error}");
}

#[tokio::test]
async fn what_was_on_its_way_into_a_bucket_goes_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let left = folder.path().join("spool/b");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("1.tmp"), "half").unwrap();
    stores(folder.path());
    assert!(!left.exists());
}
