use std::os::unix::fs::MetadataExt;

use serde_json::json;

use super::*;

fn pod(volumes: serde_json::Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "u1", "labels": {"a": "b", "c": "d"}},
        "spec": {"containers": [{"name": "c"}], "volumes": volumes},
    }))
    .unwrap()
}

fn inputs(value: &str) -> Inputs {
    Inputs {
        config_maps: [
            ("cm".to_owned(), Some([("k".into(), value.into()), ("other".into(), b"x".to_vec())].into())),
            ("gone".to_owned(), None),
        ]
        .into(),
        secrets: [("sec".to_owned(), Some([("p".into(), b"word".to_vec())].into()))].into(),
        tokens: [(
            (String::new(), 3607),
            payload::Token { text: "jwt".into(), refresh_at: SystemTime::UNIX_EPOCH },
        )]
        .into(),
        ..Inputs::default()
    }
}

#[test]
fn projected_files_appear_and_change_atomically() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::new(dir.path());
    let owner = pod(json!([
        {"name": "v", "configMap": {"name": "cm", "items": [{"key": "k", "path": "sub/file", "mode": 0o400}]}},
        {"name": "p", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "cm"}},
            {"configMap": {"name": "gone", "optional": true}},
            {"secret": {"name": "sec", "items": [{"key": "p", "path": "password"}]}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        ]}},
        {"name": "e", "emptyDir": {}},
    ]));
    let mounted = volumes.mount(&owner, &inputs("one")).unwrap();
    let path = |name: &str| mounted.paths[name].0.clone();
    let text = |name: &str, file: &str| std::fs::read_to_string(path(name).join(file)).unwrap();
    assert_eq!(text("v", "sub/file"), "one");
    assert_eq!(std::fs::metadata(path("v").join("sub/file")).unwrap().mode() & 0o777, 0o400);
    for (file, wanted) in
        [("token", "jwt"), ("other", "x"), ("password", "word"), ("labels", "a=\"b\"\nc=\"d\"")]
    {
        assert_eq!(text("p", file), wanted, "{file}");
    }
    assert_eq!(std::fs::metadata(path("e")).unwrap().mode() & 0o7777, 0o777);
    assert_eq!(mounted.refresh_at, Some(SystemTime::UNIX_EPOCH));
    let data = std::fs::read_link(path("v").join("..data")).unwrap();
    volumes.mount(&owner, &inputs("one")).unwrap();
    assert_eq!(
        std::fs::read_link(path("v").join("..data")).unwrap(),
        data,
        "an equal payload changes nothing"
    );
    volumes.mount(&owner, &inputs("two")).unwrap();
    assert_eq!(text("v", "sub/file"), "two");
    let old = std::fs::read_dir(path("v")).unwrap().flatten().filter(|e| e.file_name() == data.as_os_str());
    assert_eq!(old.count(), 0, "the old files are gone");
    volumes.remove("u1").unwrap();
    assert!(volumes.pods().is_empty());
}

#[test]
fn what_is_wrong_with_a_volume_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (volume, wanted) in [
        (json!({"configMap": {"name": "gone"}}), "configmap \"gone\" not found"),
        (
            json!({"configMap": {"name": "cm", "items": [{"key": "z", "path": "z"}]}}),
            "references non-existent configmap key: z",
        ),
        (
            json!({"hostPath": {"path": "/nonexistent", "type": "Directory"}}),
            "hostPath type check failed: /nonexistent is not a directory",
        ),
        (json!({"nfs": {"path": "/", "server": "s"}}), "this kind of volume is not supported"),
    ] {
        let mut volume = volume;
        volume["name"] = "v".into();
        let error = Volumes::new(dir.path()).mount(&pod(json!([volume])), &inputs("")).unwrap_err();
        assert_eq!(error.to_string(), format!("MountVolume.SetUp failed for volume \"v\" : {wanted}"));
    }
}

#[test]
fn sub_paths_stay_inside_their_volume() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
    let mounted =
        Mounted { paths: [("v".to_owned(), (dir.path().to_owned(), false))].into(), refresh_at: None };
    let mount = |sub: &str| {
        let mounts = [VolumeMount {
            name: "v".into(),
            mount_path: "/data".into(),
            sub_path: Some(sub.into()),
            ..VolumeMount::default()
        }];
        Volumes::bind_mounts(&mounts, &mounted, str::to_owned)
    };
    let made = mount("a/b").unwrap();
    assert!(made[0].host_path.ends_with("/a/b") && Path::new(&made[0].host_path).is_dir());
    for bad in ["..", "a/../../x", "/etc", "out", "out/passwd", "out/new"] {
        assert!(mount(bad).is_err(), "{bad}");
    }
}
