//! The secrets and config maps of a task, each mounted whole in a folder of its own.

use dbbackup_contract::{SECRETS_DIR, SecretFile};
use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, SecretVolumeSource, Volume, VolumeMount};

/// What is mounted: each object once, however often it is named.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    objects: Vec<Object>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Object {
    Secret(String),
    ConfigMap(String),
}

/// Readable by owner and group: the group is the pod's `fsGroup`.
const MODE: i32 = 0o440;

impl Mounts {
    /// The file of a secret's key. `named_by` says which field of which object names it.
    pub fn secret(&mut self, name: &str, key: &str, named_by: String) -> SecretFile {
        self.file(Object::Secret(name.to_owned()), key, named_by)
    }

    /// The file of a config map's key.
    pub fn config_map(&mut self, name: &str, key: &str, named_by: String) -> SecretFile {
        self.file(Object::ConfigMap(name.to_owned()), key, named_by)
    }

    fn file(&mut self, object: Object, key: &str, named_by: String) -> SecretFile {
        let called = match &object {
            Object::Secret(name) => format!("the Secret {name}"),
            Object::ConfigMap(name) => format!("the ConfigMap {name}"),
        };
        let index = self.objects.iter().position(|known| *known == object).unwrap_or_else(|| {
            self.objects.push(object);
            self.objects.len() - 1
        });
        SecretFile {
            dir: format!("{SECRETS_DIR}/{index}"),
            key: key.to_owned(),
            object: called,
            named_by,
        }
    }

    /// The pod's volumes. They are optional: a pod that waits for a secret
    /// hangs without a word, a runner that finds an empty folder says which one is missing.
    pub(super) fn volumes(&self) -> Vec<Volume> {
        let volume = |(index, object): (usize, &Object)| {
            let name = volume_name(index);
            match object {
                Object::Secret(secret) => Volume {
                    name,
                    secret: Some(SecretVolumeSource {
                        secret_name: Some(secret.clone()),
                        optional: Some(true),
                        default_mode: Some(MODE),
                        items: None,
                    }),
                    ..Volume::default()
                },
                Object::ConfigMap(map) => Volume {
                    name,
                    config_map: Some(ConfigMapVolumeSource {
                        name: map.clone(),
                        optional: Some(true),
                        default_mode: Some(MODE),
                        items: None,
                    }),
                    ..Volume::default()
                },
            }
        };
        self.objects.iter().enumerate().map(volume).collect()
    }

    /// Where the container sees them.
    pub(super) fn volume_mounts(&self) -> Vec<VolumeMount> {
        (0..self.objects.len())
            .map(|index| VolumeMount {
                name: volume_name(index),
                mount_path: format!("{SECRETS_DIR}/{index}"),
                read_only: Some(true),
                ..VolumeMount::default()
            })
            .collect()
    }
}

fn volume_name(index: usize) -> String {
    format!("secret-{index}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_is_named_twice_is_mounted_once() {
        let mut mounts = Mounts::default();
        let user = mounts.secret("shop-db", "username", String::new());
        let password = mounts.secret("shop-db", "password", String::new());
        let ca = mounts.config_map("shop-db", "ca.crt", String::new());
        assert_eq!(user.dir, password.dir);
        assert_ne!(user.dir, ca.dir);
        assert_eq!(mounts.volumes().len(), 2);
    }
}
