//! Where the program finds who it is in Azure and in Google Cloud, when no keys are said.
//! Small servers of the test's own answer as the clouds' services do.

use data_encoding::BASE64URL_NOPAD;

use crate::cloud_authority::Authority;
use crate::cloud_server::{ACCOUNT, Kind, Server, Tls};
use crate::clouds::Cloud;
use crate::s3_credentials::{Service, header};
use crate::support::{Ended, write_secret};

/// Azurite with tokens, which it takes over TLS alone.
fn azure() -> Cloud {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("127.0.0.1");
    let tls = Tls { certificate: &certificate, key: &key, ca: &authority.pem };
    let cloud = Cloud::on(Server::start_with(Kind::Azurite, Some(&tls)));
    std::fs::write(cloud.place.path("ca"), &authority.pem).unwrap();
    cloud
}

/// What Microsoft Entra gives: Azurite looks at everything but the signature.
fn token(audience: &str) -> String {
    let claims = format!(
        "{{\"aud\": \"{audience}\", \"iss\": \"https://sts.windows.net/tenant/\", \"nbf\": 1, \
          \"iat\": 1, \"exp\": 4070908800, \"oid\": \"1\"}}"
    );
    let encoded = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    format!("{}.{}.c2ln", encoded("{\"alg\": \"RS256\", \"typ\": \"JWT\"}"), encoded(&claims))
}

fn init(cloud: &Cloud, variables: &[(&str, &str)]) -> Ended {
    let mut command = cloud.command(&["init"]);
    if cloud.server.kind == Kind::Azurite {
        command.arg("--azure-ca-file").arg(cloud.place.path("ca"));
    }
    command.env("HOME", cloud.place.folder.path()).envs(variables.iter().copied());
    command.output().unwrap().into()
}

/// What AKS puts into a pod whose service account has an identity.
fn init_by_workload_identity(cloud: &Cloud, entra: &Service) -> Ended {
    let file = cloud.place.path("federated-token");
    write_secret(&file, b"a-token-of-the-cluster");
    let variables = [
        ("AZURE_CLIENT_ID", "client"),
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap()),
        ("AZURE_AUTHORITY_HOST", &format!("{}/", entra.address())),
    ];
    init(cloud, &variables)
}

#[test]
fn a_token_of_the_cluster_is_exchanged_for_one_of_azure() {
    let cloud = azure();
    let entra = Service::start(|request| {
        assert!(request.head.starts_with("POST /tenant/oauth2/v2.0/token "), "{}", request.head);
        assert!(request.body.contains("client_assertion=a-token-of-the-cluster"));
        assert!(request.body.contains("client_id=client"), "{}", request.body);
        let token = token("https://storage.azure.com");
        (200, format!("{{\"access_token\": \"{token}\", \"expires_in\": 3600}}"))
    });
    init_by_workload_identity(&cloud, &entra).well();
    assert_eq!(entra.seen().len(), 1, "{:?}", entra.seen());
}

#[test]
fn an_identity_that_trusts_somebody_else_is_denied_in_the_words_of_the_service() {
    let cloud = azure();
    let entra = Service::start(|_| {
        let words = "{\"error\": \"invalid_client\", \"error_description\": \"AADSTS70021: No \
                     matching federated identity record found\"}";
        (401, words.to_owned())
    });
    let ended = init_by_workload_identity(&cloud, &entra);
    assert_eq!(ended.code, Some(67), "{}", ended.err);
    assert!(ended.err.contains("AADSTS70021"), "{}", ended.err);
    assert!(!ended.err.contains("a-token-of-the-cluster"), "{}", ended.err);
}

#[test]
fn a_token_for_something_else_is_denied() {
    let cloud = azure();
    let entra = Service::start(|_| {
        let token = token("https://graph.microsoft.com");
        (200, format!("{{\"access_token\": \"{token}\", \"expires_in\": 3600}}"))
    });
    let ended = init_by_workload_identity(&cloud, &entra);
    assert_eq!(ended.code, Some(67), "{}", ended.err);
    assert!(ended.err.contains("(StoragePermissionDenied)"), "{}", ended.err);
}

#[test]
fn a_machine_of_azure_gives_tokens_of_its_identity() {
    let cloud = azure();
    let metadata = Service::start(|request| {
        assert_eq!(header(&request.head, "metadata"), Some("true"));
        assert!(request.head.contains("resource=https%3A%2F%2Fstorage.azure.com"));
        let token = token(&format!("https://{ACCOUNT}.blob.core.windows.net"));
        let answer = format!(
            "{{\"access_token\": \"{token}\", \"expires_on\": \"4070908800\", \
              \"token_type\": \"Bearer\", \"resource\": \"x\"}}"
        );
        (200, answer)
    });
    init(&cloud, &[("IDENTITY_ENDPOINT", &metadata.address())]).well();
}

#[test]
fn the_metadata_server_of_google_gives_tokens() {
    let cloud = Cloud::new(Kind::FakeGcs);
    let metadata = Service::start(|request| {
        assert_eq!(header(&request.head, "metadata-flavor"), Some("Google"));
        let path = "/computeMetadata/v1/instance/service-accounts/default/token";
        assert!(request.head.starts_with(&format!("GET {path}")), "{}", request.head);
        (200, "{\"access_token\": \"t0ken\", \"expires_in\": 3600}".to_owned())
    });
    let host = metadata.address().replace("http://", "");
    init(&cloud, &[("GCE_METADATA_HOST", &host)]).well();
    assert_eq!(metadata.seen().len(), 1, "{:?}", metadata.seen());
}

#[test]
fn a_file_that_the_environment_names_gives_the_account_of_google() {
    let cloud = Cloud::new(Kind::FakeGcs);
    let file = cloud.place.path("key.json");
    init(&cloud, &[("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap())]).well();
    let ended = init(&cloud, &[("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")]);
    assert_eq!(ended.code, Some(64), "{}", ended.err);
    assert!(ended.err.contains("/nowhere/key.json does not exist"), "{}", ended.err);
}
