//! One mail, by SMTP (RFC 5321). A connection that is not protected as it should be is
//! given up before anything is said in it.

use data_encoding::BASE64;
use dbbackup_contract::{Failure, Notice, Reason, SecretString, SmtpTls};
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, SinglePart};
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::{Error as SmtpError, authentication};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

use crate::trust::{tls_fault, unproved};
use crate::{answer, invalid, words};

/// Where mail goes, and through which server.
#[derive(Debug)]
pub struct Email {
    /// The mail server.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// Who writes.
    pub from: String,
    /// Who is written to.
    pub to: Vec<String>,
    /// Where the server asks for them.
    pub credentials: Option<Credentials>,
    /// The CA's certificates (PEM); the system's CAs where absent.
    pub ca: Option<Vec<u8>>,
}

/// User name and password at a mail server.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user's name.
    pub username: SecretString,
    /// The password.
    pub password: SecretString,
}

/// A mail that is ready.
pub(crate) struct Prepared {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    message: Message,
    who: String,
    credentials: Option<Credentials>,
}

/// Nobody's vacation is told of by an answer (RFC 3834).
#[derive(Clone, Debug)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

impl Email {
    pub(crate) fn prepare(&self, notice: &Notice) -> Result<Prepared, Failure> {
        if self.credentials.is_some() && self.tls == SmtpTls::None {
            return Err(invalid("no password is sent over a connection without TLS"));
        }
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&self.host)
            .port(self.port)
            // The whole has a limit.
            .timeout(None)
            .tls(self.protection()?);
        if let Some(Credentials { username, password }) = &self.credentials {
            builder = builder.credentials(authentication::Credentials::new(
                username.expose().to_owned(),
                password.expose().to_owned(),
            ));
        }
        Ok(Prepared {
            transport: builder.build(),
            message: self.message(notice)?,
            who: format!("the mail server {}:{}", self.host, self.port),
            credentials: self.credentials.clone(),
        })
    }

    fn protection(&self) -> Result<Tls, Failure> {
        let with = |wrap: fn(TlsParameters) -> Tls| {
            let none = |_| invalid("the CA of the mail server holds no certificate in PEM");
            let mut builder = TlsParameters::builder(self.host.clone());
            if let Some(pem) = &self.ca {
                builder = builder
                    .certificate_store(CertificateStore::None)
                    .add_root_certificate(Certificate::from_pem(pem).map_err(none)?);
            }
            builder
                .build_rustls()
                .map(wrap)
                .map_err(|error| invalid(format!("TLS to the mail server {}: {error}", self.host)))
        };
        match self.tls {
            SmtpTls::StartTls => with(Tls::Required),
            SmtpTls::Tls => with(Tls::Wrapper),
            SmtpTls::None => Ok(Tls::None),
        }
    }

    fn message(&self, notice: &Notice) -> Result<Message, Failure> {
        let mailbox = |address: &str| {
            let none = |_| invalid(format!("{} is no address of mail", words::plain(address, 254)));
            Ok::<_, Failure>(Mailbox::new(None, address.parse().map_err(none)?))
        };
        let from = mailbox(&self.from)?;
        // The same for the same notice, so that one that arrives twice is seen as one.
        let id = format!("<{}@{}>", notice.id, from.email.domain());
        let mut builder = Message::builder()
            .from(from)
            .subject(words::subject(notice))
            .message_id(Some(id))
            .date_now()
            .header(AutoSubmitted);
        for to in &self.to {
            builder = builder.to(mailbox(to)?);
        }
        builder
            .singlepart(SinglePart::plain(words::letter(notice)))
            .map_err(|error| invalid(format!("the mail cannot be written: {error}")))
    }
}

impl Prepared {
    pub(crate) fn who(&self) -> &str {
        &self.who
    }

    pub(crate) async fn send(self) -> Result<(), Failure> {
        match self.transport.send(self.message).await {
            Ok(_) => Ok(()),
            Err(error) => Err(refused(&self.who, &error, self.credentials.as_ref())),
        }
    }
}

fn refused(who: &str, error: &SmtpError, credentials: Option<&Credentials>) -> Failure {
    if let Some(fault) = tls_fault(error) {
        return unproved(who, fault);
    }
    let cause =
        std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let secrets: Vec<SecretString> = credentials.into_iter().flat_map(sent).collect();
    let words = answer::told(cause.as_bytes(), secrets.iter().map(SecretString::expose));
    let answered = |reason| {
        let code = error.status().map(|code| format!(" with {code}")).unwrap_or_default();
        Failure::new(reason, format!("{who} answered{code}{words}"))
    };
    if error.is_permanent() {
        return answered(Reason::NotificationRefused);
    }
    if error.is_transient() {
        return answered(Reason::NotificationFailed);
    }
    // What this end would not do: go on without STARTTLS, or without a way to say who it is.
    if error.is_client() {
        let message = format!("{who} does not offer what is needed{words}");
        return Failure::new(Reason::NotificationRefused, message).with_hint(
            "Use the port at which it offers TLS and takes a password, and say which with tls: StartTLS or TLS.",
        );
    }
    Failure::new(Reason::NotificationFailed, format!("{who} cannot be reached{words}"))
}

/// The forms in which a password goes over the line (RFC 4616, and LOGIN).
fn sent(credentials: &Credentials) -> [SecretString; 3] {
    let (name, password) = (credentials.username.expose(), credentials.password.expose());
    [
        password.to_owned(),
        BASE64.encode(password.as_bytes()),
        BASE64.encode(format!("\0{name}\0{password}").as_bytes()),
    ]
    .map(SecretString::new)
}
