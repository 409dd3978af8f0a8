//! What the simulated filter finds in a mail: the verdict, before any setting of the tenant or the user. How a
//! finding is written into the columns is here too, because the columns are the filter's words.

/// One answer for "what is it?", in the order in which the service looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Threat {
    /// Malware.
    Malware,
    /// Phish, high confidence.
    HighConfidencePhish,
    /// Phish by its content, normal confidence.
    Phish,
    /// Phish because the sender pretends to be a known person.
    Impersonation,
    /// Spam, SCL 9.
    HighConfidenceSpam,
    /// Spam, SCL 5 or 6.
    Spam,
    /// Bulk mail at or above the threshold of the recipient's policy.
    Bulk,
    /// Nothing.
    Nothing,
}

/// How sure the filter is that a mail is phish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confidence {
    /// `High`.
    High,
    /// `Normal`.
    Normal,
}

/// What the filter found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Finding {
    /// Methods that found malware; none = no malware.
    pub malware: Vec<&'static str>,
    /// Confidence and methods of a phish verdict.
    pub phish: Option<(Confidence, Vec<&'static str>)>,
    /// Methods of a spam or bulk verdict; none = not spam.
    pub spam: Vec<&'static str>,
    /// Spam confidence level as recorded; -1 = the spam filter did not run, `None` = not recorded.
    pub spam_level: Option<i8>,
    /// Bulk complaint level.
    pub bulk_level: Option<u8>,
}

impl Finding {
    /// Nothing found, and the spam filter ran.
    #[must_use]
    pub fn clean() -> Self {
        Self { spam_level: Some(1), ..Self::default() }
    }

    /// Nothing found, nothing recorded: the form that most real rows of clean mail have.
    #[must_use]
    pub fn silent() -> Self {
        Self::default()
    }

    /// Phish.
    #[must_use]
    pub fn phish(confidence: Confidence, methods: &[&'static str]) -> Self {
        Self { phish: Some((confidence, methods.to_vec())), ..Self::default() }
    }

    /// Malware.
    #[must_use]
    pub fn malware(methods: &[&'static str]) -> Self {
        Self { malware: methods.to_vec(), ..Self::default() }
    }

    /// Spam of level 5, 6 or 9.
    #[must_use]
    pub fn spam(level: i8, methods: &[&'static str]) -> Self {
        Self { spam: methods.to_vec(), spam_level: Some(level), ..Self::default() }
    }

    /// Bulk mail that this many recipients per thousand complain about, in Microsoft's scale 0 to 9. Whether
    /// that is too much is for the recipient's policy to say.
    #[must_use]
    pub fn bulk(level: u8) -> Self {
        Self { bulk_level: Some(level), spam_level: Some(1), ..Self::default() }
    }

    /// The first of the service's own order that applies; `bulk_threshold` is the recipient's.
    #[must_use]
    pub fn threat(&self, bulk_threshold: u8) -> Threat {
        if !self.malware.is_empty() {
            return Threat::Malware;
        }
        match &self.phish {
            Some((Confidence::High, _)) => return Threat::HighConfidencePhish,
            Some((Confidence::Normal, methods)) if methods.contains(&"Impersonation user") => {
                return Threat::Impersonation;
            }
            Some((Confidence::Normal, _)) => return Threat::Phish,
            None => {}
        }
        match self.spam_level {
            Some(7..) if !self.spam.is_empty() => Threat::HighConfidenceSpam,
            _ if !self.spam.is_empty() => Threat::Spam,
            _ if self.bulk_level.is_some_and(|level| level >= bulk_threshold) => Threat::Bulk,
            _ => Threat::Nothing,
        }
    }

    /// The finding as it stands in the row of a recipient with this bulk threshold: bulk at or above it is
    /// a spam verdict there.
    #[must_use]
    pub fn recorded(&self, bulk_threshold: u8) -> Self {
        let mut recorded = self.clone();
        if self.threat(bulk_threshold) == Threat::Bulk {
            recorded.spam = vec!["Bulk"];
            recorded.spam_level = Some(6);
        }
        recorded
    }

    /// Takes the spam filter out, as a rule that sets SCL -1 does: malware and phish are still recognized.
    pub fn skip_spam_filter(&mut self) {
        self.spam.clear();
        self.spam_level = Some(-1);
    }

    /// Whether there is no verdict at all.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.malware.is_empty() && self.phish.is_none() && self.spam.is_empty()
    }

    /// `ThreatTypes`.
    #[must_use]
    pub fn threat_types(&self) -> Option<String> {
        let words: Vec<&str> = self.methods().into_iter().map(|(word, _)| word).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// `DetectionMethods`: JSON in a string.
    #[must_use]
    pub fn detection_methods(&self) -> Option<String> {
        let parts: Vec<String> = self
            .methods()
            .into_iter()
            .map(|(word, methods)| format!("\"{word}\":[\"{}\"]", methods.join("\",\"")))
            .collect();
        (!parts.is_empty()).then(|| format!("{{{}}}", parts.join(",")))
    }

    /// `ConfidenceLevel`: JSON in a string.
    #[must_use]
    pub fn confidence_level(&self) -> Option<String> {
        let phish = self.phish.as_ref().map(|(confidence, _)| match confidence {
            Confidence::High => "\"Phish\":\"High\"".to_owned(),
            Confidence::Normal => "\"Phish\":\"Normal\"".to_owned(),
        });
        let spam = self.spam_level.map(|level| format!("\"Spam\":\"{level}\""));
        let parts: Vec<String> = phish.into_iter().chain(spam).collect();
        (!parts.is_empty()).then(|| format!("{{{}}}", parts.join(",")))
    }

    fn methods(&self) -> Vec<(&'static str, &[&'static str])> {
        let mut all = Vec::new();
        if !self.malware.is_empty() {
            all.push(("Malware", &*self.malware));
        }
        if let Some((_, methods)) = &self.phish {
            all.push(("Phish", &**methods));
        }
        if !self.spam.is_empty() {
            all.push(("Spam", &*self.spam));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_written_as_the_columns_have_them() {
        let finding = Finding {
            spam: vec!["Mixed analysis detection"],
            spam_level: Some(9),
            ..Finding::phish(Confidence::High, &["URL detonation", "Advanced filter"])
        };
        assert_eq!(finding.threat_types().unwrap(), "Phish, Spam");
        assert_eq!(
            finding.detection_methods().unwrap(),
            r#"{"Phish":["URL detonation","Advanced filter"],"Spam":["Mixed analysis detection"]}"#
        );
        assert_eq!(finding.confidence_level().unwrap(), r#"{"Phish":"High","Spam":"9"}"#);
        assert_eq!(Finding::silent().threat_types(), None);
        assert_eq!(Finding::clean().confidence_level().unwrap(), r#"{"Spam":"1"}"#);
    }

    #[test]
    fn bulk_is_spam_only_for_those_whose_threshold_it_reaches() {
        let finding = Finding::bulk(6);
        assert_eq!(finding.threat(7), Threat::Nothing);
        assert_eq!(finding.threat(6), Threat::Bulk);
        assert!(finding.recorded(7).is_clean());
        assert_eq!(finding.recorded(5).threat_types().unwrap(), "Spam");
    }
}
