//! What the presets do with each verdict. A recipient has one preset; nothing is merged.

use super::filter::Threat;

/// The policy that protects a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preset {
    /// The default policies.
    #[default]
    Default,
    /// The Standard preset.
    Standard,
    /// The Strict preset.
    Strict,
}

/// What a policy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Into quarantine.
    Quarantine,
    /// Into the Junk Email folder.
    Junk,
    /// Nothing: it is delivered.
    Nothing,
}

impl Preset {
    /// Bulk complaint level from which mail is bulk.
    #[must_use]
    pub const fn bulk_threshold(self) -> u8 {
        match self {
            Self::Default => 7,
            Self::Standard => 6,
            Self::Strict => 5,
        }
    }

    /// What it does with `threat`.
    #[must_use]
    pub const fn action(self, threat: Threat) -> Action {
        match (threat, self) {
            (Threat::Malware | Threat::HighConfidencePhish, _)
            | (
                Threat::Phish | Threat::Impersonation | Threat::HighConfidenceSpam,
                Self::Standard,
            )
            | (
                Threat::Phish
                | Threat::Impersonation
                | Threat::HighConfidenceSpam
                | Threat::Spam
                | Threat::Bulk,
                Self::Strict,
            ) => Action::Quarantine,
            (Threat::Phish | Threat::HighConfidenceSpam, Self::Default)
            | (Threat::Spam | Threat::Bulk, Self::Default | Self::Standard) => Action::Junk,
            (Threat::Impersonation, Self::Default) | (Threat::Nothing, _) => Action::Nothing,
        }
    }
}

/// `EmailActionPolicy` for a verdict; `None` where no policy acts.
#[must_use]
pub const fn policy_name(threat: Threat) -> Option<&'static str> {
    match threat {
        Threat::Malware => Some("Antimalware"),
        Threat::HighConfidencePhish | Threat::Phish => Some("Antispam phishing"),
        Threat::Impersonation => Some("Anti-phishing user impersonation"),
        Threat::HighConfidenceSpam => Some("Antispam high-confidence"),
        Threat::Spam => Some("Antispam"),
        Threat::Bulk => Some("Antispam bulk mail"),
        Threat::Nothing => None,
    }
}
