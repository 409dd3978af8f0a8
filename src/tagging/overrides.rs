//! Which overrides a row names, what each asked for and which setting it is. What they did is `decide`'s
//! business.

use crate::domain::{Direction, Level, OverrideKind};
use crate::normalize::{Column, Row};

/// An override as a record names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Whose setting it is: told by the column, never by the policy text.
    pub level: Level,
    /// What it asked for.
    pub direction: Direction,
    /// Which setting it is.
    pub kind: OverrideKind,
    /// The policy text, unchanged but for blanks around it.
    pub policy: Box<str>,
    /// Whether the text names several policies.
    pub several: bool,
    /// Whether the source says that this one decided (`FinalOverride`); `None` where it does not tell.
    pub decided: Option<bool>,
}

/// The columns of an override of `level`: action and policy.
#[must_use]
pub const fn columns_of(level: Level) -> (Column, Column) {
    match level {
        Level::Tenant => (Column::OrgLevelAction, Column::OrgLevelPolicy),
        Level::User => (Column::UserLevelAction, Column::UserLevelPolicy),
    }
}

/// The overrides that a row of `EmailEvents` names, tenant before user. An action or a policy alone is
/// enough; both empty is none.
#[must_use]
pub fn of_row(row: &Row<'_>) -> Vec<Asked> {
    let mut asked = Vec::new();
    for level in [Level::Tenant, Level::User] {
        let (action, policy) = columns_of(level);
        let (action, policy) = (row.text(action), row.text(policy));
        if action.is_some() || policy.is_some() {
            let direction = action.as_deref().and_then(direction_of);
            asked.push(asked_for(level, direction, policy.as_deref().unwrap_or_default()));
        }
    }
    asked
}

/// An override of `level` with this policy text; no direction is an unknown one.
#[must_use]
pub fn asked_for(level: Level, direction: Option<Direction>, policy: &str) -> Asked {
    Asked {
        level,
        direction: direction.unwrap_or(Direction::Unknown),
        kind: kind_of(policy, level),
        policy: policy.into(),
        several: first_policy(policy).len() < policy.len(),
        decided: None,
    }
}

/// What an action word asks for; `None` for a word that is neither.
#[must_use]
pub fn direction_of(action: &str) -> Option<Direction> {
    let starts_with = |word: &str| {
        action.trim().get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
    };
    if starts_with("allow") {
        Some(Direction::Allow)
    } else if starts_with("block") {
        Some(Direction::Block)
    } else {
        None
    }
}

/// The kind that a policy text names. Letter case, blanks and punctuation do not matter, nor does what
/// stands in brackets at the end.
#[must_use]
pub fn kind_of(policy: &str, level: Level) -> OverrideKind {
    let text = Words::of(first_policy(policy));
    if text.squeezed.is_empty() {
        return OverrideKind::Unspecified;
    }
    let list = |tenant, user| match level {
        Level::Tenant => tenant,
        Level::User => user,
    };
    if text.contains("simulation") {
        OverrideKind::PhishSimulation
    } else if text.contains("secops") {
        OverrideKind::SecopsMailbox
    } else if text.begins("3rdpartyfilter") || text.begins("thirdpartyfilter") {
        OverrideKind::ThirdPartyFilter
    } else if let Some(rest) =
        text.behind("tenantallowblocklist").or_else(|| text.behind_word("tabl"))
    {
        tabl(&text, rest)
    } else if text.begins("exchangetransportrule")
        || text.begins("mailflowrule")
        || text.behind_word("etr").is_some()
    {
        OverrideKind::TransportRule
    } else if ["connectionpolicy", "ipallow", "ipblock"].iter().any(|head| text.begins(head)) {
        OverrideKind::IpList
    } else if ["senderaddresslist", "organizationallowedsenders", "usersafesender"]
        .iter()
        .any(|head| text.begins(head))
    {
        list(OverrideKind::AntispamSenderList, OverrideKind::UserSenderList)
    } else if ["senderdomainlist", "organizationalloweddomains", "usersafedomain"]
        .iter()
        .any(|head| text.begins(head))
    {
        list(OverrideKind::AntispamDomainList, OverrideKind::UserDomainList)
    } else {
        const HEADS: [(&str, OverrideKind); 15] = [
            ("antispampolicy", OverrideKind::AntispamSetting),
            ("antimalwarepolicyblock", OverrideKind::CommonAttachmentFilter),
            ("languagefilter", OverrideKind::AntispamLanguage),
            ("ipregionfilter", OverrideKind::AntispamRegion),
            ("filteringskippedduetoonprem", OverrideKind::OnpremSkip),
            ("onpremisesskip", OverrideKind::OnpremSkip),
            ("quarantinerelease", OverrideKind::QuarantineRelease),
            ("admininitiatedtimetravel", OverrideKind::AdminTimeTravel),
            ("datalossprevention", OverrideKind::Dlp),
            ("exclusive", OverrideKind::UserExclusive),
            ("trustedsenders", OverrideKind::UserExclusive),
            ("trustedcontact", OverrideKind::UserContacts),
            ("trustedrecipientdomain", OverrideKind::UserSafeRecipientDomain),
            ("trusteddomain", OverrideKind::UserSafeRecipientDomain),
            ("trustedrecipient", OverrideKind::UserSafeRecipient),
        ];
        HEADS
            .iter()
            .find(|(head, _)| text.begins(head))
            .map_or(OverrideKind::Other, |(_, kind)| *kind)
    }
}

/// Which entity a Tenant Allow/Block List text is about; `rest` is what stands behind the list's name.
fn tabl(text: &Words, rest: &str) -> OverrideKind {
    match (rest.contains("url"), rest.contains("file")) {
        (true, true) => OverrideKind::TablUrlAndFile,
        (true, false) => OverrideKind::TablUrl,
        (false, true) => OverrideKind::TablFile,
        // "IP address" is an address too, so the word is looked for before the sender's.
        (false, false) if rest.contains("spoof") => OverrideKind::TablSpoof,
        (false, false) if text.has_word(&["ip", "ips", "ipv4", "ipv6"]) => OverrideKind::TablIp,
        (false, false) if ["sender", "address", "domain"].iter().any(|w| rest.contains(w)) => {
            OverrideKind::TablSender
        }
        (false, false) => OverrideKind::Other,
    }
}

/// The first of several policies: up to a `;` or `,` outside brackets.
fn first_policy(policy: &str) -> &str {
    let mut open = 0_u32;
    for (place, byte) in policy.bytes().enumerate() {
        match byte {
            b'(' => open += 1,
            b')' => open = open.saturating_sub(1),
            b',' | b';' if open == 0 => return policy.get(..place).unwrap_or(policy),
            _ => {}
        }
    }
    policy
}

/// A policy text without what stands in brackets: as lower-case letters and digits, and as words.
struct Words {
    squeezed: String,
    words: Vec<String>,
}

impl Words {
    fn of(policy: &str) -> Self {
        let before = policy.split('(').next().unwrap_or_default();
        let text = if before.trim().is_empty() { policy } else { before };
        let words: Vec<String> = text
            .split(|letter: char| !letter.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .collect();
        Self { squeezed: words.concat(), words }
    }

    fn contains(&self, part: &str) -> bool {
        self.squeezed.contains(part)
    }

    fn begins(&self, head: &str) -> bool {
        self.squeezed.starts_with(head)
    }

    fn behind(&self, head: &str) -> Option<&str> {
        self.squeezed.strip_prefix(head)
    }

    /// What stands behind `word`, if the text begins with exactly this word.
    fn behind_word(&self, word: &str) -> Option<&str> {
        let first = self.words.first()?;
        if first == word { self.squeezed.strip_prefix(word) } else { None }
    }

    fn has_word(&self, any: &[&str]) -> bool {
        self.words.iter().any(|word| any.contains(&word.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(level: Level, kind: OverrideKind, texts: &[&str]) {
        for text in texts {
            assert_eq!(kind_of(text, level), kind, "{text}");
            assert_eq!(kind_of(&text.to_uppercase(), level), kind, "{text} in capitals");
        }
    }

    #[test]
    fn every_policy_text_met_names_its_kind() {
        use OverrideKind as Kind;
        let tenant = Level::Tenant;
        check(tenant, Kind::PhishSimulation, &["Phishing simulation", "Phishing Simulation"]);
        check(tenant, Kind::SecopsMailbox, &["SecOps Mailbox", "SecOps mailbox"]);
        check(tenant, Kind::ThirdPartyFilter, &["3rd Party Filter", "Third Party Filter"]);
        check(tenant, Kind::TablUrlAndFile, &["TABL - Both URL and file allowed"]);
        check(
            tenant,
            Kind::TablUrl,
            &["Tenant Allow/Block List URL blocked", "TABL - URL allowed"],
        );
        check(tenant, Kind::TablFile, &["Tenant Allow/Block List file block"]);
        check(tenant, Kind::TablSpoof, &["TABL Spoof Block", "Tenant Allow/Block List spoof"]);
        check(
            tenant,
            Kind::TablSender,
            &[
                "Tenant Allow/Block List sender email address (allow/block)",
                "TABL Sender email address Allow",
                "Tenant Allow/Block List domain blocked",
            ],
        );
        check(tenant, Kind::TablIp, &["Tenant Allow/Block List IP address allowed"]);
        check(tenant, Kind::TransportRule, &["Exchange transport rule", "ETR", "Mail flow rule"]);
        check(tenant, Kind::IpList, &["Connection policy", "IP Allow", "IP block list"]);
        check(
            tenant,
            Kind::AntispamSenderList,
            &["Sender address list (Admin Override)", "Organization allowed senders"],
        );
        check(
            tenant,
            Kind::AntispamDomainList,
            &["Sender domain list (Safe domain / Blocked domain)", "Organization allowed domains"],
        );
        check(tenant, Kind::AntispamSetting, &["Antispam policy settings", "Anti-spam policy"]);
        check(tenant, Kind::CommonAttachmentFilter, &["Antimalware policy block by file type"]);
        check(tenant, Kind::AntispamLanguage, &["Language filter from policy"]);
        check(tenant, Kind::AntispamRegion, &["IP region filter from policy"]);
        check(
            tenant,
            Kind::OnpremSkip,
            &["Filtering skipped due to on-prem organization", "On-premises skip"],
        );
        check(tenant, Kind::QuarantineRelease, &["Quarantine release"]);
        check(tenant, Kind::AdminTimeTravel, &["Admin initiated time travel"]);
        check(tenant, Kind::Dlp, &["Data Loss Prevention"]);
        check(tenant, Kind::Unspecified, &["", "  "]);
        check(tenant, Kind::Other, &["Some future policy", "Table of contents", "Etruscan rule"]);
        let user = Level::User;
        check(
            user,
            Kind::UserSenderList,
            &["Sender address list (User override)", "Sender address list (Admin Override)"],
        );
        check(user, Kind::UserDomainList, &["Sender domain list (User override)"]);
        check(
            user,
            Kind::UserExclusive,
            &["Exclusive mode (User override)", "Trusted senders only (User override)"],
        );
        check(user, Kind::UserContacts, &["Trusted contact list (User override)"]);
        check(user, Kind::UserSafeRecipient, &["Trusted recipient (User override)"]);
        check(
            user,
            Kind::UserSafeRecipientDomain,
            &["Trusted domain (User override)", "Trusted Recipient Domain List"],
        );
    }

    #[test]
    fn of_several_policies_the_first_one_names_the_kind_and_the_text_stays_whole() {
        let asked = asked_for(
            Level::Tenant,
            Some(Direction::Allow),
            "Sender address list (a, b); Exchange transport rule",
        );
        assert_eq!(asked.kind, OverrideKind::AntispamSenderList);
        assert!(asked.several && asked.policy.ends_with("rule"));
        assert!(!asked_for(Level::Tenant, None, "Sender address list (a, b)").several);
    }

    #[test]
    fn directions_come_from_the_first_word_of_the_action() {
        for (action, direction) in [
            ("Allow", Some(Direction::Allow)),
            (" ALLOWED by organization policy", Some(Direction::Allow)),
            ("Blocked", Some(Direction::Block)),
            ("No", None),
            ("disallow", None),
            ("", None),
            ("äallow", None),
        ] {
            assert_eq!(direction_of(action), direction, "{action}");
        }
    }
}
