//! Who wins: what becomes of one mail to one recipient, given the filter's finding, the recipient's policy and
//! the overrides. Pure, so that the same mail can be run with and without an override.
//!
//! The order is the service's: a verdict is reached first, then come the tenant's settings, then the user's.
//! Malware and high-confidence phish are quarantined whatever an allow says, except by advanced delivery, by
//! an entry for one URL or file, and, for phish, where another vendor's gateway stands in front.

use crate::domain::{Direction, OverrideKind};

use super::filter::{Confidence, Finding, Threat};
use super::mail::{Mail, Way};
use super::overrides::{Met, Overrides, Setting};
use super::people::Person;
use super::policy::{Action, policy_name};

/// Where a mail ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The inbox.
    Inbox,
    /// The Junk Email folder.
    Junk,
    /// Quarantine.
    Quarantine,
    /// Outside the tenant.
    External,
}

impl Place {
    /// `DeliveryAction`.
    #[must_use]
    pub const fn delivery_action(self) -> &'static str {
        match self {
            Self::Inbox | Self::External => "Delivered",
            Self::Junk => "Junked",
            Self::Quarantine => "Blocked",
        }
    }

    /// `DeliveryLocation`.
    #[must_use]
    pub const fn delivery_location(self) -> &'static str {
        match self {
            Self::Inbox => "Inbox/folder",
            Self::Junk => "Junk folder",
            Self::Quarantine => "Quarantine",
            Self::External => "On-premises/external",
        }
    }

    /// Whether the user can open it.
    #[must_use]
    pub const fn is_delivered(self) -> bool {
        matches!(self, Self::Inbox | Self::External)
    }
}

/// What became of one mail to one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Where it went.
    pub place: Place,
    /// The settings it met.
    pub met: Met,
    /// The finding as the row records it: with the marks that blocks make, without what a rule switched off.
    pub recorded: Finding,
    /// `EmailAction` and `EmailActionPolicy`, where a policy acted.
    pub acted: Option<(&'static str, &'static str)>,
}

impl Delivery {
    /// Whether an allow that does not exist for this purpose delivered high-confidence phish.
    #[must_use]
    pub fn allowed_high_confidence_phish(&self) -> bool {
        let ordinary_allow =
            [self.met.tenant, self.met.user].into_iter().flatten().any(|setting| {
                setting.direction == Direction::Allow && !setting.is_advanced_delivery()
            });
        ordinary_allow
            && !self.has_block()
            && self.place.is_delivered()
            && matches!(self.recorded.phish, Some((Confidence::High, _)))
    }

    /// Whether it met a block of either level.
    #[must_use]
    pub fn has_block(&self) -> bool {
        blocks(self.met.tenant).is_some() || blocks(self.met.user).is_some()
    }
}

/// Delivers `mail` to `recipient` under `overrides`.
#[must_use]
pub fn deliver(mail: &Mail, recipient: &Person, overrides: &Overrides) -> Delivery {
    let met = overrides.met_by(mail, recipient);
    let threshold = recipient.preset.bulk_threshold();
    let mut recorded = mail.finding.recorded(threshold);
    if let Some(allow) = allows(met.tenant)
        && matches!(allow.kind, OverrideKind::TransportRule | OverrideKind::ThirdPartyFilter)
    {
        recorded.skip_spam_filter();
    }
    if let Some(block) = blocks(met.tenant) {
        mark(&mut recorded, block);
    }
    let found = mail.finding.threat(threshold);
    let threat = recorded.threat(threshold);
    let place = match mail.way {
        Way::Outbound => Place::External,
        Way::IntraOrg if found <= Threat::HighConfidencePhish => Place::Quarantine,
        Way::IntraOrg => Place::Inbox,
        Way::Inbound => inbound(recipient, met, found, threat),
    };
    let acted = match (place, policy_name(threat)) {
        (Place::Quarantine, Some(policy)) => Some(("Send to quarantine", policy)),
        (Place::Junk, Some(policy)) => Some(("Move message to junk mail folder", policy)),
        _ => None,
    };
    Delivery { place, met, recorded, acted }
}

fn inbound(recipient: &Person, met: Met, found: Threat, threat: Threat) -> Place {
    let tenant_allow = allows(met.tenant);
    if tenant_allow.is_some_and(|allow| allow.is_advanced_delivery()) {
        return Place::Inbox;
    }
    let entity_allow = tenant_allow.is_some_and(|allow| allow.is_entity_level());
    if let Some(block) = blocks(met.tenant) {
        let may_lose_to_user = block.kind == OverrideKind::TransportRule;
        return match found {
            Threat::Malware | Threat::HighConfidencePhish => Place::Quarantine,
            _ if !may_lose_to_user => Place::Quarantine,
            _ if allows(met.user).is_some() => Place::Inbox,
            _ => Place::Junk,
        };
    }
    match found {
        Threat::Malware if !entity_allow => return Place::Quarantine,
        Threat::HighConfidencePhish if !entity_allow => {
            let allowed = tenant_allow.is_some() || allows(met.user).is_some();
            if !(recipient.behind_gateway && allowed) {
                return Place::Quarantine;
            }
        }
        _ => {}
    }
    let by_policy = recipient.preset.action(threat);
    if blocks(met.user).is_some() {
        let quarantined = by_policy == Action::Quarantine && tenant_allow.is_none();
        return if quarantined { Place::Quarantine } else { Place::Junk };
    }
    if tenant_allow.is_some() {
        return Place::Inbox;
    }
    if let Some(allow) = allows(met.user) {
        // A safe *domain* is not honoured against quarantine; high-confidence phish has come this far only
        // because the gateway's routing lets the user's list count.
        let honoured =
            allow.kind != OverrideKind::UserDomainList || by_policy != Action::Quarantine;
        if honoured || found == Threat::HighConfidencePhish {
            return Place::Inbox;
        }
    }
    match by_policy {
        Action::Quarantine => Place::Quarantine,
        Action::Junk => Place::Junk,
        Action::Nothing => Place::Inbox,
    }
}

/// A block writes its own verdict into the row: the list as high-confidence phish, a rule as spam.
fn mark(recorded: &mut Finding, block: Setting) {
    match block.kind {
        OverrideKind::TablUrl => {
            recorded.phish = Some((Confidence::High, vec!["URL malicious reputation"]));
        }
        OverrideKind::TablSender => {
            recorded.phish = Some((Confidence::High, vec!["Advanced filter"]));
        }
        OverrideKind::TransportRule => {
            recorded.spam = vec!["Advanced filter"];
            recorded.spam_level = Some(9);
        }
        _ => {}
    }
}

fn allows(setting: Option<Setting>) -> Option<Setting> {
    setting.filter(|setting| setting.direction == Direction::Allow)
}

fn blocks(setting: Option<Setting>) -> Option<Setting> {
    setting.filter(|setting| setting.direction == Direction::Block)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::Ticks;
    use crate::simulator::mail::Sender;
    use crate::simulator::policy::Preset;

    struct Case {
        from: &'static str,
        ip: &'static str,
        url: &'static str,
        finding: Finding,
        person: Person,
    }

    fn person(number: usize, behind_gateway: bool) -> Person {
        let domain = if behind_gateway {
            super::super::people::GATEWAY_DOMAIN
        } else {
            super::super::people::DOMAIN
        };
        Person {
            number,
            name: "Adele Abel".into(),
            address: format!("adele.abel@{domain}"),
            domain,
            object_id: String::new(),
            preset: Preset::Standard,
            behind_gateway,
        }
    }

    fn case(from: &'static str, finding: Finding) -> Case {
        Case {
            from,
            ip: "198.51.100.9",
            url: "https://a.example/",
            finding,
            person: person(1, false),
        }
    }

    impl Case {
        fn behind_gateway(self) -> Self {
            Self { person: person(1, true), ..self }
        }

        fn mail(&self) -> Mail {
            Mail {
                message_id: String::new(),
                internet_message_id: String::new(),
                way: Way::Inbound,
                sender: Sender {
                    address: self.from.into(),
                    name: String::new(),
                    mail_from: String::new(),
                    ip: self.ip.into(),
                    object_id: None,
                },
                recipients: vec![Arc::new(self.person.clone())],
                subject: String::new(),
                urls: vec![self.url.into()],
                attachments: Vec::new(),
                cluster: 0,
                finding: self.finding.clone(),
                finding_later: None,
                authentication: "",
                size: 0,
                occurred: Ticks(0),
            }
        }

        #[track_caller]
        fn ends_in(self, expected: Place) -> Self {
            let delivery = deliver(&self.mail(), &self.person, &Overrides::as_found());
            assert_eq!(delivery.place, expected, "{} {delivery:?}", self.from);
            self
        }

        #[track_caller]
        fn without_the_tenants_settings_in(self, expected: Place) {
            let overrides = Overrides::as_found()
                .without(|setting| setting.level == crate::domain::Level::Tenant);
            assert_eq!(deliver(&self.mail(), &self.person, &overrides).place, expected);
        }
    }

    fn high() -> Finding {
        Finding::phish(Confidence::High, &["Advanced filter"])
    }

    fn normal() -> Finding {
        Finding::phish(Confidence::Normal, &["Advanced filter"])
    }

    #[test]
    fn high_confidence_phish_gets_past_a_rule_only_behind_another_gateway() {
        case("bill@fabrikam.example", high()).ends_in(Place::Quarantine);
        case("bill@fabrikam.example", high())
            .behind_gateway()
            .ends_in(Place::Inbox)
            .without_the_tenants_settings_in(Place::Quarantine);
    }

    #[test]
    fn a_rule_lets_ordinary_phish_in_and_without_the_rule_the_policy_acts() {
        case("bill@fabrikam.example", normal())
            .ends_in(Place::Inbox)
            .without_the_tenants_settings_in(Place::Quarantine);
    }

    #[test]
    fn an_entry_for_one_url_beats_even_high_confidence() {
        Case { url: "https://portal.northwind.example/login", ..case("x@evil.example", high()) }
            .ends_in(Place::Inbox);
    }

    #[test]
    fn malware_is_quarantined_whatever_a_list_says() {
        case("bill@fabrikam.example", Finding::malware(&["File detonation"]))
            .behind_gateway()
            .ends_in(Place::Quarantine);
    }

    #[test]
    fn the_reports_mailbox_gets_everything() {
        let mut secops = person(1, false);
        secops.address = super::super::people::SECOPS_MAILBOX.into();
        Case { person: secops, ..case("x@evil.example", Finding::malware(&["File detonation"])) }
            .ends_in(Place::Inbox);
    }

    #[test]
    fn a_users_block_beats_the_tenants_allow_and_a_users_allow_beats_a_rule() {
        Case { person: person(7, false), ..case("news@tailspin.example", Finding::clean()) }
            .ends_in(Place::Junk);
        case("news@tailspin.example", Finding::clean()).ends_in(Place::Inbox);
        Case { person: person(5, false), ..case("x@proseware.example", Finding::clean()) }
            .ends_in(Place::Inbox);
        case("x@proseware.example", Finding::clean()).ends_in(Place::Junk);
    }

    #[test]
    fn the_block_list_beats_everybody() {
        Case { person: person(5, true), ..case("x@wingtip.example", Finding::clean()) }
            .ends_in(Place::Quarantine);
    }
}
