//! What is told, in words. Names and messages come from anywhere: they can end no line and
//! no header, and call nobody.

use dbbackup_contract::{Failure, Notice, NotificationEvent};
use jiff::Timestamp;

/// Longest subject, in bytes.
const MOST_OF_A_SUBJECT: usize = 180;
/// Longest message or hint: that of a status.
const MOST_OF_A_MESSAGE: usize = 2048;

/// One line of text: control characters and those that turn the direction of a line become
/// spaces; cut at a character's border.
pub(crate) fn plain(text: &str, most: usize) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut line = text.replace(|c: char| c.is_control() || turns(c), " ");
    if line.len() > most {
        line.truncate(line.floor_char_boundary(most - '…'.len_utf8()));
        line.push('…');
    }
    line
}

/// What happened, in a line: `Backup failed: shop/nightly: ServerUnreachable`.
pub(crate) fn subject(notice: &Notice) -> String {
    let what = match notice.event {
        NotificationEvent::Succeeded => "Backup succeeded",
        NotificationEvent::PartiallyFailed => "Backup failed in part",
        NotificationEvent::Failed => "Backup failed",
        NotificationEvent::Recovered => "Backup works again",
    };
    let Notice { namespace, schedule, .. } = notice;
    let why = match (&notice.error, notice.backup.databases) {
        (_, Some(count)) if notice.event == NotificationEvent::PartiallyFailed => {
            format!(": {} of {} databases", count.succeeded, count.total)
        }
        (Some(error), _) => format!(": {}", error.reason),
        (None, _) => String::new(),
    };
    plain(&format!("{what}: {namespace}/{schedule}{why}"), MOST_OF_A_SUBJECT)
}

/// The same with message and hint, in a line.
pub(crate) fn sentence(notice: &Notice) -> String {
    match &notice.error {
        None => format!("{}.", subject(notice)),
        Some(Failure { message, hint, .. }) => {
            let (message, hint) = (part(message), part(hint));
            format!("{}: {}. {hint}", subject(notice), message.trim_end_matches('.'))
                .trim_end()
                .to_owned()
        }
    }
}

fn part(text: &str) -> String {
    plain(text, MOST_OF_A_MESSAGE)
}

/// All that is known, in lines.
pub(crate) fn letter(notice: &Notice) -> String {
    let mut lines = vec![subject(notice), String::new()];
    if let Some(error) = &notice.error {
        lines.push(format!("{}: {}", error.reason, part(&error.message)));
        if !error.hint.is_empty() {
            lines.push(format!("What to do: {}", part(&error.hint)));
        }
        lines.push(String::new());
    }
    let backup = &notice.backup;
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let databases = backup.databases.map(|count| format!("{} of {}", count.succeeded, count.total));
    let bytes = backup
        .bytes
        .as_ref()
        .map(|bytes| format!("{} read, {} new, {} stored", bytes.read, bytes.new, bytes.stored));
    for (name, value) in [
        ("Backup", Some(backup.name.clone())),
        ("Namespace", Some(notice.namespace.clone())),
        ("Schedule", Some(notice.schedule.clone())),
        ("Started", time(backup.start_time)),
        ("Ended", time(backup.completion_time)),
        ("Last success", time(notice.last_successful_time).or(Some("never".to_owned()))),
        ("Databases", databases),
        ("Bytes", bytes),
        ("Repository", backup.repository.clone()),
        ("Snapshot", backup.snapshot_id.clone()),
        ("Cluster", Some(notice.cluster.clone())),
    ] {
        if let Some(value) = value {
            lines.push(format!("{:<14}{}", format!("{name}:"), part(&value)));
        }
    }
    let (namespace, name) = (part(&notice.namespace), part(&backup.name));
    lines.push(String::new());
    lines.push(format!("kubectl --namespace {namespace} describe backup {name}"));
    lines.join("\n")
}

/// A text for a chat.
pub(crate) fn chat(notice: &Notice) -> String {
    let mut lines = vec![format!("*{}*", harmless(&subject(notice)))];
    if let Some(error) = &notice.error {
        lines.push(harmless(&part(&error.message)));
        if !error.hint.is_empty() {
            lines.push(harmless(&part(&error.hint)));
        }
    }
    if notice.error.is_some() {
        let last = notice.last_successful_time.map(|time| time.to_string());
        lines.push(format!("Last success: {}", last.as_deref().unwrap_or("never")));
    }
    let (namespace, name) = (harmless(&notice.namespace), harmless(&notice.backup.name));
    lines.push(format!("`kubectl --namespace {namespace} describe backup {name}`"));
    lines.join("\n")
}

/// Text that a chat shows as it stands: `<!channel>` and `@all` would call everybody.
fn harmless(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    // A space of no width: what follows is nobody's name then.
    text.replace('@', "@\u{200b}").replace('`', "'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbbackup_contract::Reason;

    fn hostile() -> Notice {
        let json = serde_json::json!({
            "version": 1, "id": "u-ops", "event": "Failed", "cluster": "c", "namespace": "shop",
            "schedule": "nightly\r\nBcc: all@example.com", "notification": "ops",
            "backup": {"name": "nightly-1", "uid": "u", "phase": "Failed"},
        });
        let message = "relation \"<!channel> @all\"\r\n.\r\nQUIT \u{202e}`x`";
        let error = Failure::new(Reason::StatementFailed, message).with_hint("Look.");
        Notice { error: Some(error), ..serde_json::from_value(json).unwrap() }
    }

    #[test]
    fn the_subject_says_at_once_what_happened() {
        let mut notice = Notice { schedule: "nightly".into(), ..hostile() };
        assert_eq!(subject(&notice), "Backup failed: shop/nightly: StatementFailed");
        notice.event = NotificationEvent::PartiallyFailed;
        let count = dbbackup_contract::DatabaseCount { total: 3, succeeded: 2, failed: 1 };
        notice.backup.databases = Some(count);
        assert_eq!(subject(&notice), "Backup failed in part: shop/nightly: 2 of 3 databases");
        (notice.event, notice.error) = (NotificationEvent::Recovered, None);
        assert_eq!(sentence(&notice), "Backup works again: shop/nightly.");
        notice.namespace = "é".repeat(300);
        assert!(subject(&notice).len() <= MOST_OF_A_SUBJECT);
    }

    #[test]
    fn what_a_server_says_ends_no_line_and_calls_nobody() {
        let notice = hostile();
        for line in [subject(&notice), sentence(&notice)] {
            assert!(!line.contains(char::is_control) && !line.contains('\u{202e}'), "{line:?}");
        }
        let letter = letter(&notice);
        assert!(!letter.contains('\r') && letter.lines().all(|line| line != "."), "{letter}");
        assert!(!letter.lines().any(|line| line.starts_with("Bcc:")), "{letter}");
        assert!(letter.contains("What to do: Look."), "{letter}");
        let chat = chat(&notice);
        assert!(!chat.contains("<!channel>") && !chat.contains("@all"), "{chat}");
        assert_eq!(chat.matches('`').count(), 2, "{chat}");
    }
}
