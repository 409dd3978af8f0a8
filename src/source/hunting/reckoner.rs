//! Hunting as the ledger's witness: counts the identities of an hour, and brings its rows.

use std::time::Duration;

use async_trait::async_trait;

use super::client::{HuntingClient, Limits};
use super::query::{Subject, TimeColumn};
use super::trouble::{HuntingError, Trouble};
use super::window::Window;
use crate::domain::{Chunk, Failure, Table, Ticks};
use crate::ledger::{ReckonError, Reckoner};
use crate::pipeline::chain;

#[async_trait]
impl Reckoner for HuntingClient {
    async fn now(&self, table: &Table) -> Result<Ticks, ReckonError> {
        Self::now(self, &subject(table)).await.map_err(|error| sorted(&error))
    }

    async fn count(&self, table: &Table, from: Ticks, to: Ticks) -> Result<u64, ReckonError> {
        let counted = Self::count(self, &subject(table), Window::new(from, to)).await;
        counted.map_err(|error| sorted(&error))
    }

    async fn rows(&self, table: &Table, from: Ticks, to: Ticks) -> Result<Vec<Chunk>, ReckonError> {
        let window = Window::new(from, to);
        let rows = Self::rows(self, &subject(table), window, Limits::default()).await;
        rows.map_err(|error| sorted(&error))
    }
}

fn subject(table: &Table) -> Subject {
    Subject::of(table.clone(), TimeColumn::timestamp())
}

/// What an error means for the proof of an hour.
fn sorted(error: &HuntingError) -> ReckonError {
    let why = chain(error);
    match error.trouble {
        Trouble::Missing | Trouble::Wrong | Trouble::Hold => ReckonError::Refused(why),
        Trouble::Quota(after) => ReckonError::Busy(after, why),
        Trouble::Retry | Trouble::Split | Trouble::Slow => match error.failure() {
            Failure::Retry(Some(after)) if after > Duration::ZERO => {
                ReckonError::Busy(Some(after), why)
            }
            _ => ReckonError::Later(why),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::Router;
    use axum::body::Bytes;
    use axum::http::StatusCode;

    use super::*;
    use crate::cloud::tenant::{TenantAccess, TenantConfig};
    use crate::journal::SystemClock;
    use crate::simulator::kql;

    const NOW: &str = "2026-08-20T12:00:00Z";

    /// Graph's one call over these tables.
    fn answer(tables: &kql::Tables, body: &[u8]) -> (StatusCode, Vec<u8>) {
        let now = Ticks::parse(NOW).unwrap();
        let asked: serde_json::Value = serde_json::from_slice(body).unwrap();
        let window = kql::Window::parse(asked["Timespan"].as_str().unwrap(), now).unwrap();
        match kql::run(tables, asked["Query"].as_str().unwrap(), window, now) {
            Ok(answer) => (StatusCode::OK, answer.graph_body()),
            Err(error) => {
                let error = serde_json::json!({"error": {"code": "BadRequest", "message": error.to_string()}});
                (StatusCode::BAD_REQUEST, error.to_string().into_bytes())
            }
        }
    }

    async fn witness(tables: kql::Tables) -> (HuntingClient, tempfile::TempDir) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap();
        let tables = Arc::new(tables);
        let app = Router::new().fallback(move |body: Bytes| {
            let tables = Arc::clone(&tables);
            async move { answer(&tables, &body) }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, "canary").unwrap();
        let config: TenantConfig = toml::from_str(&format!(
            "id = \"9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a\"\ncredential = {{ token = {{ file = {token:?} }} }}\n\
             endpoints = {{ graph = \"http://{place}\" }}"
        ))
        .unwrap();
        let clock = Arc::new(SystemClock::default());
        let access = TenantAccess::new(&config, clock.clone()).unwrap();
        (HuntingClient::new(access, clock), folder)
    }

    /// The far end here is the interpreter itself: every query that the ledger has asked is one that it understands.
    #[tokio::test]
    async fn hunting_counts_the_different_identities_of_an_hour_and_brings_its_rows() {
        let mut tables = kql::Tables::of_mail();
        let mail = tables.get_mut("EmailEvents").unwrap();
        for (minute, message, threat) in
            [(5, "a", "Phish"), (5, "a", "Malware"), (6, "b", ""), (60, "c", "")]
        {
            let at = Ticks::parse("2026-08-20T09:00:00Z").unwrap().plus_seconds(minute * 60);
            let row = serde_json::json!({
                "Timestamp": at.to_string(), "NetworkMessageId": message, "ReportId": message,
                "RecipientEmailAddress": "ada@contoso.example", "ThreatTypes": threat,
            });
            mail.push(row.as_object().unwrap(), Some(at));
        }
        tables.remove("UrlClickEvents");
        let (witness, _folder) = witness(tables).await;
        let witness: &dyn Reckoner = &witness;
        let from = Ticks::parse("2026-08-20T09:00:00Z").unwrap();
        let to = from.plus_seconds(3600);
        let mail = Table::EmailEvents;
        assert_eq!(witness.count(&mail, from, to).await, Ok(2), "two revisions are one identity");
        let rows = witness.rows(&mail, from, to).await.unwrap();
        assert!(rows.iter().all(|chunk| chunk.backfill));
        let text = String::from_utf8_lossy(rows[0].raw.as_bytes()).into_owned();
        assert_eq!(text.matches("\"NetworkMessageId\":\"").count(), 3, "{text}");
        for table in [Table::AlertInfo, Table::AlertEvidence, Table::EmailUrlInfo] {
            assert_eq!(witness.count(&table, from, to).await, Ok(0), "{}", table.name());
        }
        match witness.count(&Table::UrlClickEvents, from, to).await {
            Err(ReckonError::Refused(why)) => assert!(why.contains("licence"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}
