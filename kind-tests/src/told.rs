//! What a person is told of a failure: phase, conditions, column, event, exit code.

use serde_json::Value;

use crate::Scenario;
use crate::runner::exit_code_of;

impl Scenario {
    /// Waits until a `Backup` or `RestoreRequest` has failed, and checks that
    /// everything about it tells the same: the reason, words that name what
    /// happened, and a hint. Gives the object.
    ///
    /// # Panics
    /// When it tells anything else.
    pub fn wait_for_failure(&self, what: &str, reason: &str, words: &[&str]) -> Value {
        let object = self.wait_for_condition(what, "Failed");
        let status = &object["status"];
        assert_eq!(status["error"]["reason"], reason, "{status}");
        assert_eq!(status["phase"], "Failed", "{status}");
        let hint = status["error"]["hint"].as_str().unwrap_or_default();
        assert!(hint.ends_with('.'), "the hint is no sentence: {status}");
        let mut told: Vec<_> = ["Ready=False", "Stalled=True", "Failed=True"]
            .map(|expected| condition(&object, expected, reason))
            .to_vec();
        let types: Vec<_> = conditions(&object).map(|found| found["type"].clone()).collect();
        assert_eq!(types, ["Ready", "Stalled", "Failed"], "{status}");
        told.push(self.wait_for_warning(what, reason));
        for text in &told {
            for word in words {
                assert!(text.contains(word), "{word:?} is not in: {text}");
            }
            assert!(
                text.contains("create another one") || text.contains("Create another"),
                "{text}"
            );
        }
        eprintln!("{}", self.kubectl(&["describe", what])); // cargo test -- --show-output
        let column = status["display"].as_str().unwrap_or_default();
        assert!(column.contains(reason), "the column is {column:?}");
        object
    }

    /// Waits until an object says a reason in its condition `Ready` while it goes
    /// on or waits. Gives its column and the condition's message.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_for_reason(&self, what: &str, reason: &str) -> (String, String) {
        self.wait_until(&format!("{what} says {reason}"), || {
            let object = self.object(what);
            let ready = conditions(&object).find(|found| found["type"] == "Ready")?;
            (ready["status"] == "False" && ready["reason"] == reason).then(|| {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                (text(&object["status"]["display"]), text(&ready["message"]))
            })
        })
    }

    /// Waits for an event of type `Warning` about an object, and gives its words.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_for_warning(&self, what: &str, reason: &str) -> String {
        // Others may have the same name: a schedule, say.
        let (kind, name) = what.split_once('/').unwrap_or_default();
        let kind = match kind {
            "backuprepository" => "BackupRepository",
            "backupschedule" => "BackupSchedule",
            "restorerequest" => "RestoreRequest",
            "pitrrestore" => "PitrRestore",
            _ => "Backup",
        };
        let fields = format!(
            "--field-selector=involvedObject.kind={kind},involvedObject.name={name},reason={reason},type=Warning"
        );
        self.wait_until(&format!("an event of {what} says {reason}"), || {
            let notes = "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}";
            let found = self.kubectl(&["get", "events", &fields, "--output", notes]);
            found.lines().last().map(str::to_owned).filter(|note| !note.is_empty())
        })
    }

    /// Waits until the runner's newest pod of an object has ended with this code.
    ///
    /// # Panics
    /// When it ends with another one.
    pub fn assert_exit_code(&self, subject: &str, expected: i64) {
        let code = self.wait_until(&format!("the runner of {subject} has ended"), || {
            exit_code_of(self, subject)
        });
        assert_eq!(code, expected, "exit code of {subject}");
    }
}

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object["status"]["conditions"].as_array().into_iter().flatten()
}

/// The message of a condition, given as `TYPE=STATUS`, that must have this reason.
fn condition(object: &Value, expected: &str, reason: &str) -> String {
    let found = conditions(object)
        .find(|found| format!("{}={}", text(&found["type"]), text(&found["status"])) == expected);
    let found = found.unwrap_or_else(|| panic!("there is no {expected}: {}", object["status"]));
    assert_eq!(found["reason"], reason, "{found}");
    text(&found["message"]).to_owned()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
