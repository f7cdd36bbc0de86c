//! Which level of the Pod Security Standards a namespace asks for, as its labels say.

use std::fmt;

use serde_json::Value;

use crate::api::invalid::{Errors, Path};

/// How much a pod may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    #[default]
    Privileged,
    /// No known way to more privilege.
    Baseline,
    /// Hardened.
    Restricted,
}

impl Level {
    /// Of its name.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "privileged" => Level::Privileged,
            "baseline" => Level::Baseline,
            "restricted" => Level::Restricted,
            _ => return None,
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        })
    }
}

/// Which release's standard: a minor version of Kubernetes 1, or the newest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// The newest known.
    #[default]
    Latest,
    /// That of 1.N.
    Minor(u32),
}

impl Version {
    /// Of its name.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Version::Latest);
        }
        let minor = text.strip_prefix("v1.")?;
        // No sign and no leading zeros.
        let plain = minor == "0" || (!minor.starts_with('0') && minor.bytes().all(|b| b.is_ascii_digit()));
        if plain { minor.parse().ok().map(Version::Minor) } else { None }
    }

    /// Whether this version's standard has what `since` brought.
    pub fn has(self, since: u32) -> bool {
        match self {
            Version::Latest => true,
            Version::Minor(minor) => minor >= since,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Latest => f.write_str("latest"),
            Version::Minor(minor) => write!(f, "v1.{minor}"),
        }
    }
}

/// A level of one version's standard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standard {
    /// The level.
    pub level: Level,
    /// The version.
    pub version: Version,
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

/// What a namespace asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// What is refused.
    pub enforce: Standard,
    /// What the audit log tells of.
    pub audit: Standard,
    /// What clients are warned of.
    pub warn: Standard,
}

const PREFIX: &str = "pod-security.kubernetes.io";

/// The policy that labels stand for where `defaults` hold without them, and what is wrong with them.
pub fn of_labels(labels: &Value, defaults: &Policy) -> (Policy, Errors) {
    let mut errors = Errors::default();
    // A mode whose level cannot be read is as strict as can be where it refuses, and silent where it warns.
    let enforce = mode(labels, "enforce", Level::Restricted, &mut errors);
    let audit = mode(labels, "audit", Level::Privileged, &mut errors);
    let warn = mode(labels, "warn", Level::Privileged, &mut errors);
    let mut policy = Policy {
        enforce: enforce.over(defaults.enforce),
        audit: audit.over(defaults.audit),
        warn: warn.over(defaults.warn),
    };
    // Who enforces without saying anything about the others is warned of the same, and the log tells of it: that is how one
    // learns of templates whose pods will be refused.
    if enforce.understood {
        audit.follow(policy.enforce, &mut policy.audit);
        warn.follow(policy.enforce, &mut policy.warn);
    }
    (policy, errors)
}

struct Mode {
    level: Option<Level>,
    understood: bool,
    version: Option<Version>,
}

impl Mode {
    fn over(&self, default: Standard) -> Standard {
        Standard {
            level: self.level.unwrap_or(default.level),
            version: self.version.unwrap_or(default.version),
        }
    }

    /// What this mode is where it says nothing of a level and something stricter is enforced.
    fn follow(&self, enforced: Standard, standard: &mut Standard) {
        if self.level.is_none() && enforced.level > standard.level {
            *standard = Standard { level: enforced.level, version: self.version.unwrap_or(enforced.version) };
        }
    }
}

fn mode(labels: &Value, mode: &str, fallback: Level, errors: &mut Errors) -> Mode {
    let mut out = Mode { level: None, understood: false, version: None };
    let read = |name: String| {
        let text = labels[name.as_str()].as_str()?;
        Some((Path::new("metadata.labels").key(&name), text.to_owned()))
    };
    if let Some((path, text)) = read(format!("{PREFIX}/{mode}")) {
        let level = Level::parse(&text);
        out.understood = level.is_some();
        out.level = Some(level.unwrap_or(fallback));
        if level.is_none() {
            errors.invalid(&path, text, "must be one of privileged, baseline, restricted");
        }
    }
    if let Some((path, text)) = read(format!("{PREFIX}/{mode}-version")) {
        let version = Version::parse(&text);
        out.version = Some(version.unwrap_or_default());
        if version.is_none() {
            errors.invalid(&path, text, "must be \"latest\" or \"v1.x\"");
        }
    }
    out
}
