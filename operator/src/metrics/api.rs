//! Requests to the API server are counted: what an operator asks for when nothing happens
//! should be next to nothing.

use kube::client::ClientBuilder;
use kube::{Client, Config};
use tower::util::MapRequestLayer;

use super::Metrics;

type Request = http::Request<kube::client::Body>;

impl Metrics {
    /// A client of the API server whose requests are counted.
    ///
    /// # Errors
    /// No API server is known, or its certificate cannot be read.
    pub async fn client(&self) -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
        let counter = self.api_requests.clone();
        let counting = MapRequestLayer::new(move |request: Request| {
            let resource = resource_of(request.uri().path());
            counter.with_label_values(&[request.method().as_str(), resource]).inc();
            request
        });
        let builder = ClientBuilder::try_from(Config::infer().await?)?;
        Ok(builder.with_layer(&counting).build())
    }
}

/// `pods` of `/api/v1/namespaces/shop/pods/a/log`, and `namespaces` of a namespace itself.
fn resource_of(path: &str) -> &str {
    let mut parts = path.trim_matches('/').split('/');
    let group = if parts.next() == Some("apis") { parts.next() } else { Some("") };
    let (Some(_), Some(_version), Some(first)) = (group, parts.next(), parts.next()) else {
        return "other";
    };
    match (first, parts.next(), parts.next()) {
        ("namespaces", Some(_), Some(resource)) => resource,
        (resource, ..) => resource,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_for_its_resource_whatever_its_namespace_and_name() {
        for (path, resource) in [
            ("/api/v1/namespaces/shop/pods/a", "pods"),
            ("/api/v1/namespaces/kube-system", "namespaces"),
            ("/api/v1/pods", "pods"),
            ("/apis/batch/v1/namespaces/shop/jobs", "jobs"),
            ("/apis/dbbackup.dev/v1alpha1/backups", "backups"),
            ("/apis/dbbackup.dev/v1alpha1/namespaces/a/backups/b/status", "backups"),
            ("/apis/authentication.k8s.io/v1/tokenreviews", "tokenreviews"),
            ("/version", "other"),
        ] {
            assert_eq!(resource_of(path), resource, "{path}");
        }
    }
}
