//! The decision table: what each override did, and which tags follow. It knows facts, not columns, so that
//! rows of `EmailEvents` and records of the Management Activity API are judged alike.

use super::overrides::Asked;
use super::verdict::{Classes, FILTER_SKIPPED, Found, Tier};
use crate::domain::{
    Certainty, Decision, Direction, Effect, Flag, Level, Outcome, Override, OverrideKind, Tag,
    Verdict, Why,
};

/// Column names and values, as a reason holds them.
pub type Because = Vec<(std::borrow::Cow<'static, str>, Box<str>)>;

/// BCL from which on silence of a spam filter that did not run proves nothing.
const BULK_LEVEL: i64 = 5;

/// What is known of one mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Whether it left the organization; then nothing is judged.
    pub outbound: bool,
    /// The overrides, tenant before user.
    pub asked: Vec<Asked>,
    /// What the filter found at delivery.
    pub at_delivery: Found,
    /// What it says now, where the two are told apart.
    pub latest: Option<Found>,
    /// Where the mail ended up.
    pub outcome: Outcome,
    /// The bulk complaint level.
    pub bulk_level: Option<i64>,
    /// Whether the source tells of clean mail, too. Where it does not, silence proves nothing.
    pub reports_clean: bool,
}

/// Shows the columns behind a fact.
pub trait Witness {
    /// The override of this level.
    fn asked(&self, level: Level) -> Because;
    /// The verdict at delivery.
    fn verdict(&self) -> Because;
    /// The latest verdict.
    fn latest(&self) -> Because;
    /// The outcome.
    fn outcome(&self) -> Because;
    /// The bulk complaint level.
    fn bulk_level(&self) -> Because;
}

/// Judges one mail.
#[must_use]
pub fn judge(facts: &Facts, witness: &dyn Witness) -> Decision {
    let mut judged = Judged::new(facts, witness);
    judged.name_overrides();
    if facts.outbound {
        return judged.decision;
    }
    if facts.asked.is_empty() {
        judged.tag_without_override();
    } else {
        judged.tag_effects();
        judged.tag_classes();
    }
    judged.decision
}

struct Judged<'f> {
    facts: &'f Facts,
    witness: &'f dyn Witness,
    /// The classes that a claim may rest on: none that a block override may have made itself.
    usable: Classes,
    decision: Decision,
}

impl<'f> Judged<'f> {
    fn new(facts: &'f Facts, witness: &'f dyn Witness) -> Self {
        let at_delivery = facts.at_delivery.classes;
        let confounded = !at_delivery.is_clean() && facts.asked.iter().any(makes_verdicts);
        let usable = if confounded {
            // Of all blocks only those of files make malware verdicts, and they quarantine.
            Classes { malware: at_delivery.malware, ..Classes::default() }
        } else {
            at_delivery
        };
        let mut decision = Decision {
            verdict: Some(if confounded { Verdict::Confounded } else { at_delivery.worst() }),
            outcome: Some(facts.outcome),
            ..Decision::default()
        };
        let latest = facts.latest.map(|latest| latest.classes.worst());
        decision.latest_verdict = latest.filter(|latest| *latest != at_delivery.worst());
        for (flag, set) in [
            (Flag::VerdictInferred, facts.at_delivery.inferred),
            (Flag::SpamFilterSkipped, facts.at_delivery.scl == Some(FILTER_SKIPPED)),
            (Flag::SeveralPolicies, facts.asked.iter().any(|asked| asked.several)),
        ] {
            if set {
                decision.flags.insert(flag);
            }
        }
        Self { facts, witness, usable, decision }
    }

    /// Lists the overrides with what they did, and tags their directions.
    fn name_overrides(&mut self) {
        for asked in &self.facts.asked {
            let did =
                if self.facts.outbound { Did::of(Effect::NotEvaluated) } else { self.did(asked) };
            self.decision.overrides.push(Override {
                level: asked.level,
                direction: asked.direction,
                kind: asked.kind,
                policy: asked.policy.clone(),
                effect: did.effect,
                why: did.why,
                certainty: did.certainty,
                primary: false,
            });
            let tag = match asked.direction {
                Direction::Allow => Tag::OverrideAllow,
                Direction::Block => Tag::OverrideBlock,
                Direction::Unknown => Tag::OverrideUnknown,
            };
            self.decision.tag(tag, "direction", self.witness.asked(asked.level));
        }
        let decided = |place: &usize| {
            self.facts.asked.get(*place).and_then(|asked| asked.decided) == Some(true)
        };
        let weight = |place: &usize| match self.decision.overrides.get(*place).map(|o| o.effect) {
            Some(
                Effect::Effective
                | Effect::Expected
                | Effect::LateConviction
                | Effect::PostDelivery,
            ) => 0,
            Some(Effect::Unnecessary) => 1,
            Some(Effect::Unknown | Effect::NotEvaluated) => 2,
            Some(Effect::Ineffective) | None => 3,
        };
        let places = 0..self.facts.asked.len();
        let primary = places.min_by_key(|place| (!decided(place), weight(place)));
        if let Some(primary) = primary.and_then(|place| self.decision.overrides.get_mut(place)) {
            primary.primary = true;
        }
    }

    fn did(&self, asked: &Asked) -> Did {
        let after_delivery =
            matches!(asked.kind, OverrideKind::QuarantineRelease | OverrideKind::AdminTimeTravel);
        let confounding = !self.facts.at_delivery.classes.is_clean() && makes_verdicts(asked);
        match (asked.direction, asked.decided) {
            (Direction::Unknown, _) => Did::of(Effect::Unknown),
            _ if after_delivery => Did::of(Effect::PostDelivery),
            (Direction::Block, Some(false)) if confounding => {
                Did { why: Some(Why::NotFinal), ..Did::of(Effect::Unknown) }
            }
            (_, Some(false)) => Did::ineffective(Why::NotFinal),
            (Direction::Allow, _) => self.allow_did(asked),
            (Direction::Block, _) => self.block_did(asked),
        }
    }

    fn allow_did(&self, asked: &Asked) -> Did {
        let against = self.against(asked, Direction::Block);
        match self.facts.outcome {
            Outcome::Unknown => Did::of(Effect::Unknown),
            Outcome::Blocked if self.usable.malware || self.usable.phish == Some(Tier::High) => {
                Did::ineffective(Why::SecureByDefault)
            }
            Outcome::Blocked if against && asked.level == Level::User => {
                Did::ineffective(Why::TenantBlockWins)
            }
            Outcome::Blocked => Did::ineffective(Why::OtherControl),
            Outcome::Junk if against && asked.level == Level::Tenant => {
                Did::ineffective(Why::UserBlockWins)
            }
            Outcome::Junk => Did::ineffective(Why::JunkedAnyway),
            Outcome::Delivered if is_expected(asked) => Did::of(Effect::Expected),
            Outcome::Delivered if !self.facts.at_delivery.classes.is_clean() => {
                Did::of(Effect::Effective)
            }
            Outcome::Delivered if against => {
                Did { why: Some(Why::BeatABlock), ..Did::of(Effect::Effective) }
            }
            Outcome::Delivered => self.allow_of_clean_did(asked),
        }
    }

    /// An allow on mail in which nothing was found at delivery.
    fn allow_of_clean_did(&self, asked: &Asked) -> Did {
        let latest = self.latest();
        let scl = self.facts.at_delivery.scl;
        if latest.is_malicious() {
            Did::of(Effect::LateConviction)
        } else if !latest.is_clean()
            || !self.facts.reports_clean
            || scl == Some(FILTER_SKIPPED)
                && self.facts.bulk_level.is_some_and(|level| level >= BULK_LEVEL)
        {
            Did::of(Effect::Unknown)
        } else {
            let certainty = match scl {
                _ if removes_its_verdict(asked.kind) => Certainty::Low,
                Some(FILTER_SKIPPED) => Certainty::Low,
                Some(0..=4) => Certainty::High,
                _ => Certainty::Medium,
            };
            Did { certainty: Some(certainty), ..Did::of(Effect::Unnecessary) }
        }
    }

    fn block_did(&self, asked: &Asked) -> Did {
        let against = self.against(asked, Direction::Allow);
        match (self.facts.outcome, asked.level) {
            (Outcome::Blocked | Outcome::Junk, _) if self.facts.at_delivery.classes.is_clean() => {
                Did::of(Effect::Effective)
            }
            (Outcome::Blocked | Outcome::Junk | Outcome::Unknown, _) => Did::of(Effect::Unknown),
            (Outcome::Delivered, Level::Tenant) if against => Did::ineffective(Why::UserAllowWins),
            (Outcome::Delivered, Level::User) if against => Did::ineffective(Why::TenantAllowWins),
            (Outcome::Delivered, _) => Did::ineffective(Why::NotHonoured),
        }
    }

    /// Whether the other level asked for `direction`.
    fn against(&self, asked: &Asked, direction: Direction) -> bool {
        self.facts
            .asked
            .iter()
            .any(|other| other.level != asked.level && other.direction == direction)
    }

    fn latest(&self) -> Classes {
        self.facts.latest.unwrap_or(self.facts.at_delivery).classes
    }

    /// The tags that follow from what single overrides did.
    fn tag_effects(&mut self) {
        for place in 0..self.decision.overrides.len() {
            let Some(found) = self.decision.overrides.get(place) else { break };
            let (level, direction, kind) = (found.level, found.direction, found.kind);
            match (direction, found.effect) {
                (Direction::Allow, Effect::Unnecessary) => self.tag(
                    Tag::OverrideUnnecessary,
                    "allow.delivered.clean",
                    &[Fact::Asked(level), Fact::Verdict, Fact::Outcome],
                ),
                (Direction::Allow, Effect::LateConviction) => self.tag(
                    Tag::LateConvictionUnderOverride,
                    "allow.delivered.convicted_later",
                    &[Fact::Asked(level), Fact::Verdict, Fact::Latest, Fact::Outcome],
                ),
                (Direction::Allow, Effect::Expected) => self.tag(
                    Tag::OverrideExpected,
                    "allow.delivered.expected",
                    &[Fact::Asked(level), Fact::Outcome],
                ),
                (Direction::Unknown, _) => {
                    self.tag(
                        Tag::OverrideEffectUnknown,
                        "direction.unknown",
                        &[Fact::Asked(level)],
                    );
                }
                (Direction::Allow, Effect::Unknown) => self.tag(
                    Tag::OverrideEffectUnknown,
                    "allow.cannot_tell",
                    &[Fact::Asked(level), Fact::Verdict, Fact::BulkLevel, Fact::Outcome],
                ),
                (Direction::Block, Effect::Unknown) if self.facts.outcome == Outcome::Unknown => {
                    self.tag(
                        Tag::OverrideEffectUnknown,
                        "block.cannot_tell",
                        &[Fact::Asked(level), Fact::Outcome],
                    )
                }
                // It did not decide, but what it asked for came to pass.
                (Direction::Allow, Effect::Ineffective)
                    if found.why == Some(Why::NotFinal)
                        && self.facts.outcome == Outcome::Delivered => {}
                (Direction::Block, Effect::Ineffective)
                    if found.why == Some(Why::NotFinal)
                        && matches!(self.facts.outcome, Outcome::Blocked | Outcome::Junk) => {}
                (_, Effect::Ineffective) => {
                    let rule = match direction {
                        Direction::Block => "block.delivered",
                        Direction::Allow | Direction::Unknown => "allow.kept_out",
                    };
                    self.tag(
                        Tag::OverrideIneffective,
                        rule,
                        &[Fact::Asked(level), Fact::Verdict, Fact::Outcome],
                    );
                }
                (_, Effect::PostDelivery) if kind == OverrideKind::QuarantineRelease => {
                    self.tag(Tag::QuarantineRelease, "allow.released", &[Fact::Asked(level)]);
                    for verdict in self.usable.each() {
                        self.tag(
                            released(verdict),
                            "allow.released",
                            &[Fact::Asked(level), Fact::Verdict],
                        );
                    }
                }
                _ => {}
            }
        }
    }

    /// `allowed.*`, `expected.*`, and whether that did harm.
    fn tag_classes(&mut self) {
        let let_in = |effect| {
            let mut found = self.decision.overrides.iter();
            found.find(|o| o.direction == Direction::Allow && o.effect == effect).map(|o| o.level)
        };
        let (ordinary, expected) = (let_in(Effect::Effective), let_in(Effect::Expected));
        let Some(level) = ordinary.or(expected) else { return };
        for verdict in self.usable.each() {
            let (tag, rule) = match ordinary {
                Some(_) => (allowed(verdict), "allow.delivered.verdict"),
                None => (as_expected(verdict), "allow.delivered.expected"),
            };
            self.tag(tag, rule, &[Fact::Asked(level), Fact::Verdict, Fact::Outcome]);
        }
        if ordinary.is_none() || !self.usable.is_malicious() {
            return;
        }
        let facts = [Fact::Asked(level), Fact::Verdict, Fact::Latest, Fact::Outcome];
        if self.latest().is_clean() {
            self.tag(Tag::VerdictWithdrawn, "allow.delivered.withdrawn", &facts);
        } else {
            self.tag(Tag::OverrideHarmful, "allow.delivered.verdict", &facts);
        }
    }

    fn tag_without_override(&mut self) {
        if self.facts.outcome != Outcome::Delivered {
            return;
        }
        let facts = [Fact::Verdict, Fact::Outcome];
        for verdict in self.usable.each() {
            if let Some(tag) = without_override(verdict) {
                self.tag(tag, "no_override.delivered.verdict", &facts);
            }
        }
        if self.usable.is_clean() && self.latest().is_malicious() {
            let facts = [Fact::Verdict, Fact::Latest, Fact::Outcome];
            self.tag(Tag::LateConviction, "no_override.delivered.convicted_later", &facts);
        }
    }

    fn tag(&mut self, tag: Tag, rule: &'static str, facts: &[Fact]) {
        if self.decision.tags.contains(tag) {
            return;
        }
        let mut because = Because::new();
        for fact in facts {
            let shown = match fact {
                Fact::Asked(level) => self.witness.asked(*level),
                Fact::Verdict => self.witness.verdict(),
                Fact::Latest if self.facts.latest.is_some() => self.witness.latest(),
                Fact::Latest => Because::new(),
                Fact::Outcome => self.witness.outcome(),
                Fact::BulkLevel => self.witness.bulk_level(),
            };
            because.extend(shown);
        }
        self.decision.tag(tag, rule, because);
    }
}

/// A fact that a tag rests on.
enum Fact {
    Asked(Level),
    Verdict,
    Latest,
    Outcome,
    BulkLevel,
}

/// What one override did.
struct Did {
    effect: Effect,
    why: Option<Why>,
    certainty: Option<Certainty>,
}

impl Did {
    const fn of(effect: Effect) -> Self {
        Self { effect, why: None, certainty: None }
    }

    const fn ineffective(why: Why) -> Self {
        Self { effect: Effect::Ineffective, why: Some(why), certainty: None }
    }
}

/// Whether an override is a block that itself marks mail as phish, malware or spam.
fn makes_verdicts(asked: &Asked) -> bool {
    use OverrideKind as Kind;
    asked.direction == Direction::Block
        && match asked.kind {
            Kind::TablUrlAndFile
            | Kind::TablUrl
            | Kind::TablFile
            | Kind::TablSpoof
            | Kind::TablSender
            | Kind::TablIp
            | Kind::TransportRule
            | Kind::IpList
            | Kind::AntispamSenderList
            | Kind::AntispamDomainList
            | Kind::AntispamSetting
            | Kind::AntispamLanguage
            | Kind::AntispamRegion => true,
            Kind::PhishSimulation
            | Kind::SecopsMailbox
            | Kind::ThirdPartyFilter
            | Kind::UserSenderList
            | Kind::UserDomainList
            | Kind::CommonAttachmentFilter
            | Kind::OnpremSkip
            | Kind::QuarantineRelease
            | Kind::AdminTimeTravel
            | Kind::Dlp
            | Kind::UserExclusive
            | Kind::UserContacts
            | Kind::UserSafeRecipient
            | Kind::UserSafeRecipientDomain
            | Kind::Unspecified
            | Kind::Other => false,
        }
}

/// Whether an override exists to let mail of this sort in.
const fn is_expected(asked: &Asked) -> bool {
    matches!(asked.kind, OverrideKind::PhishSimulation | OverrideKind::SecopsMailbox)
}

/// Whether an allow takes away the very verdict that would show that it was needed.
const fn removes_its_verdict(kind: OverrideKind) -> bool {
    matches!(
        kind,
        OverrideKind::TablUrl
            | OverrideKind::TablFile
            | OverrideKind::TablUrlAndFile
            | OverrideKind::TablSpoof
    )
}

const fn allowed(verdict: Verdict) -> Tag {
    match verdict {
        Verdict::Malware => Tag::AllowedMalware,
        Verdict::HcPhish => Tag::AllowedHcPhish,
        Verdict::Phish => Tag::AllowedPhish,
        Verdict::Spam | Verdict::Clean | Verdict::Confounded => Tag::AllowedSpam,
    }
}

const fn as_expected(verdict: Verdict) -> Tag {
    match verdict {
        Verdict::Malware => Tag::ExpectedMalware,
        Verdict::HcPhish => Tag::ExpectedHcPhish,
        Verdict::Phish => Tag::ExpectedPhish,
        Verdict::Spam | Verdict::Clean | Verdict::Confounded => Tag::ExpectedSpam,
    }
}

/// The tag of a mail of this class that was released.
pub(super) const fn released(verdict: Verdict) -> Tag {
    match verdict {
        Verdict::Malware => Tag::ReleasedMalware,
        Verdict::HcPhish => Tag::ReleasedHcPhish,
        Verdict::Phish => Tag::ReleasedPhish,
        Verdict::Spam | Verdict::Clean | Verdict::Confounded => Tag::ReleasedSpam,
    }
}

const fn without_override(verdict: Verdict) -> Option<Tag> {
    match verdict {
        Verdict::Malware => Some(Tag::NoOverrideDeliveredMalware),
        Verdict::HcPhish => Some(Tag::NoOverrideDeliveredHcPhish),
        Verdict::Phish => Some(Tag::NoOverrideDeliveredPhish),
        Verdict::Spam | Verdict::Clean | Verdict::Confounded => None,
    }
}
