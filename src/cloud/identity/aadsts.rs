//! What Entra's error codes mean: whether it passes by itself, and what a person can do about it. A table and its
//! look-up; it asks nobody.

use std::time::Duration;

use crate::cloud::plain;
use crate::domain::Failure;

/// An answer of the token endpoint that is not a token, as far as it may be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// OAuth's word (`invalid_client`).
    pub error: String,
    /// Entra's codes.
    pub codes: Vec<u32>,
    /// Entra's sentence, shortened.
    pub description: String,
    /// For Microsoft's support.
    pub trace_id: String,
    /// For Microsoft's support.
    pub correlation_id: String,
    /// What the endpoint asks for, if it does.
    pub retry_after: Option<Duration>,
}

/// Codes that pass by themselves.
const PASSING: [u32; 7] = [90006, 90012, 90024, 90033, 90055, 90090, 50000];

/// Codes that somebody has to do something about, and what.
const ADVICE: &[(&[u32], &str)] = &[
    (
        &[7_000_215],
        "the client secret is wrong: make sure that the file holds the secret's Value (not its Secret ID), under \
         App registrations > the application > Certificates & secrets",
    ),
    (
        &[7_000_222],
        "the client secret has expired: make a new one under App registrations > the application > Certificates & \
         secrets, and put its Value into the file; no restart is needed",
    ),
    (&[7_000_218], "no credential arrived: set `credential` to client_secret or certificate"),
    (
        &[700_016, 70001],
        "the application is not in this tenant: compare client_id and the tenant's id with App registrations > the \
         application > Overview, or give admin consent in this tenant",
    ),
    (
        &[7_000_112],
        "the application is disabled: enable it under Enterprise applications > the application > Properties",
    ),
    (
        &[700_027, 50012, 50013],
        "the certificate is not registered for the application, or its key does not fit: upload the certificate (its \
         public part) under App registrations > the application > Certificates & secrets > Certificates",
    ),
    (
        &[700_024, 500_133],
        "the assertion is outside its time: compare this machine's clock with the real time (NTP); with workload \
         identity, see that the token file is renewed",
    ),
    (
        &[700_030],
        "the certificate is not acceptable: it must be RSA with 2048 bits or more, within its validity, and registered \
         for the application",
    ),
    (
        &[70021, 700_211, 700_212, 700_213],
        "no federated credential of the application fits the token: compare issuer, subject and audience exactly under \
         App registrations > the application > Certificates & secrets > Federated credentials",
    ),
    (
        &[70011, 1_002_012, 700_022, 700_023],
        "the scope is not one of this cloud: leave `scopes` out, or name one resource with /.default",
    ),
    (
        &[500_011, 50001],
        "the API is not known in this tenant: sign in once to the Defender portal and turn on auditing (Purview > Audit), \
         and see that `cloud` is the tenant's",
    ),
    (
        &[90002, 900_023],
        "there is no such tenant: compare `id` with Entra admin center > Overview > Tenant ID, and see that `cloud` is \
         the tenant's",
    ),
    (
        &[900_144, 9_002_313],
        "the request is not what Entra expects: see that client_id is the Application (client) ID",
    ),
    (
        &[53003, 530_035],
        "Conditional Access blocks the application: allow it from this network under Protection > Conditional Access \
         (policies for workload identities)",
    ),
    (
        &[65001, 50105],
        "consent is missing: grant it under App registrations > the application > API permissions > Grant admin consent",
    ),
    (
        &[90038, 900_382, 900_432],
        "the tenant lives in another cloud: set `cloud` to gcc, gcc_high, dod or china",
    ),
];

impl Refusal {
    /// Reads the body of an answer.
    #[must_use]
    pub fn read(status: u16, body: &[u8], retry_after: Option<Duration>) -> Self {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |key: &str, most: usize| {
            plain::plain(body.get(key).and_then(|value| value.as_str()).unwrap_or_default(), most)
        };
        let codes = body.get("error_codes").and_then(|codes| codes.as_array());
        let codes = codes.into_iter().flatten().filter_map(|code| {
            // Numbers, but written as text by some.
            let number = code.as_u64().or_else(|| code.as_str()?.parse().ok())?;
            u32::try_from(number).ok()
        });
        let mut refusal = Self {
            status,
            error: text("error", 100),
            codes: codes.take(10).collect(),
            description: text("error_description", 1000),
            trace_id: text("trace_id", 100),
            correlation_id: text("correlation_id", 100),
            retry_after,
        };
        if refusal.codes.is_empty() {
            // The sentence begins with it.
            refusal.codes.extend(code_in(&refusal.description));
        }
        // The sentence ends with ids and a time, which are said apart.
        if let Some(end) = refusal.description.find(" Trace ID:") {
            refusal.description.truncate(end);
        }
        refusal
    }

    /// What to do about it.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let passing = matches!(self.status, 408 | 429 | 500..=599)
            || self.error == "temporarily_unavailable"
            || self.codes.iter().any(|code| PASSING.contains(code));
        if passing { Failure::Retry(self.retry_after) } else { Failure::Hold }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        let of = |code: &u32| {
            ADVICE.iter().find(|(codes, _)| codes.contains(code)).map(|(_, advice)| *advice)
        };
        self.codes.iter().find_map(of)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.codes.first(), self.advice()) {
            (Some(code), Some(advice)) => write!(f, "AADSTS{code}: {advice}")?,
            (Some(_), None) if !self.description.is_empty() => write!(f, "{}", self.description)?,
            (Some(code), None) => write!(f, "AADSTS{code}")?,
            (None, _) => {
                write!(f, "answered {}", self.status)?;
                for text in [&self.error, &self.description] {
                    if !text.is_empty() {
                        write!(f, ": {text}")?;
                    }
                }
            }
        }
        if !self.trace_id.is_empty() || !self.correlation_id.is_empty() {
            write!(f, " (trace {}, correlation {})", self.trace_id, self.correlation_id)?;
        }
        Ok(())
    }
}

fn code_in(description: &str) -> Option<u32> {
    let digits = description.strip_prefix("AADSTS")?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: u32) -> Refusal {
        let body = format!(
            "{{\"error\":\"invalid_client\",\"error_description\":\"AADSTS{code}: Something. Trace ID: t-1 Correlation \
             ID: c-1 Timestamp: 2026-08-20 09:11:04Z\",\"error_codes\":[{code}],\"trace_id\":\"t-1\",\
             \"correlation_id\":\"c-1\"}}"
        );
        Refusal::read(401, body.as_bytes(), None)
    }

    /// Every code of the list of Entra's errors: retried, or held with a sentence that says what to do.
    #[test]
    fn every_known_code_is_retried_or_says_what_to_do() {
        for code in PASSING {
            assert_eq!(refusal(code).failure(), Failure::Retry(None), "{code}");
        }
        let held: Vec<u32> = ADVICE.iter().flat_map(|(codes, _)| codes.iter().copied()).collect();
        assert_eq!(held.len(), 33);
        for code in held {
            let refusal = refusal(code);
            assert_eq!(refusal.failure(), Failure::Hold, "{code}");
            let text = refusal.to_string();
            assert!(text.starts_with(&format!("AADSTS{code}: ")), "{text}");
            assert!(text.ends_with(" (trace t-1, correlation c-1)"), "{text}");
            assert!(!text.contains("Something"), "{text}");
        }
    }

    #[test]
    fn an_unknown_code_is_held_in_entras_words_and_bodies_of_any_kind_are_read() {
        let text = refusal(99999).to_string();
        assert_eq!(text, "AADSTS99999: Something. (trace t-1, correlation c-1)");
        assert_eq!(refusal(99999).failure(), Failure::Hold);
        let bare = br#"{"error":"x","error_description":"AADSTS7000222: The secret.","error_codes":["7000222"]}"#;
        assert!(Refusal::read(401, bare, None).to_string().contains("has expired"));
        let only_text = br#"{"error_description":"AADSTS90002: Tenant not found."}"#;
        assert!(Refusal::read(400, only_text, None).to_string().contains("Tenant ID"));
        let page = Refusal::read(502, b"<html>Bad gateway</html>", Some(Duration::from_secs(7)));
        assert_eq!(page.failure(), Failure::Retry(Some(Duration::from_secs(7))));
        assert_eq!(page.to_string(), "answered 502");
    }
}
