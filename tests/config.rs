//! What is wrong in a configuration is said with file, line, key, what was found and what was expected.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::path::Path;
use std::sync::Arc;

use postern::config::{Config, ConfigErrors, Document};
use postern::journal::{OnFull, ReaderStart};

const TENANT: &str = "[tenant.contoso]\nid = \"11111111-2222-3333-4444-555555555555\"\n";

fn layers(texts: &[(&str, &str)], environment: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let texts: Vec<(Arc<Path>, String)> =
        texts.iter().map(|(path, text)| (Path::new(path).into(), (*text).to_owned())).collect();
    let environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::read(&Document::merge(&texts, environment)?)
}

/// The one error of a text, as an operator sees it.
#[track_caller]
fn check(text: &str, expected: &str) {
    check_layers(&[("p.toml", text)], &[], expected);
}

#[track_caller]
fn check_layers(texts: &[(&str, &str)], environment: &[(&str, &str)], expected: &str) {
    let errors = layers(texts, environment).expect_err("it should be refused");
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn text_that_is_no_toml_is_named_by_line_without_its_content() {
    check(
        "data_dir = \"/x\"\nsecret = hunter2\n",
        "p.toml:2: not TOML: string values must be quoted, expected literal string",
    );
    let errors =
        layers(&[("p.toml", "[ops]\nlisten = \"127.0.0.1:1\n")], &[]).unwrap_err().to_string();
    assert!(errors.starts_with("p.toml:2: not TOML: "), "{errors}");
}

#[test]
fn an_unknown_key_is_named_with_what_was_probably_meant() {
    check("data_dri = \"/x\"\n", "p.toml:1: data_dri: unknown key (did you mean data_dir?)");
    check(
        "[ops]\n\nlisten_on = \"127.0.0.1:1\"\n",
        "p.toml:3: ops.listen_on: unknown key (did you mean listen?)",
    );
    check("[log]\nzzz = 1\n", "p.toml:2: log.zzz: unknown key (known here: level, format, filter)");
    check(
        "[sink.out]\ntype = \"stdout\"\nformt = \"native\"\n",
        "p.toml:3: sink.out.formt: unknown key (did you mean format?)",
    );
}

#[test]
fn a_value_of_the_wrong_type_is_shown_beside_what_was_expected() {
    check(
        "[journal]\nquota_bytes = \"10 GB\"\n",
        "p.toml:2: journal.quota_bytes: found the text \"10 GB\", expected a whole number, 0 or more",
    );
    check(
        "[journal]\nretention_days = -1\n",
        "p.toml:2: journal.retention_days: found the number -1, expected a whole number from 0 to 4294967295",
    );
    check(
        "[journal]\nretention_days = 1.5\n",
        "p.toml:2: journal.retention_days: found the number 1.5, expected a whole number from 0 to 4294967295",
    );
    check("journal = 7\n", "p.toml:1: journal: found the number 7, expected a table");
    check(
        "[ops]\nlisten = \"localhost\"\n",
        "p.toml:2: ops.listen: found the text \"localhost\": invalid socket address syntax",
    );
    check(
        "[log]\nlevel = \"inof\"\n",
        "p.toml:2: log.level: found the text \"inof\", expected one of: error, warn, info, debug, trace (did you mean info?)",
    );
}

#[test]
fn a_sink_says_what_it_lacks_and_what_it_does_not_know() {
    let types = postern::sink::TYPES.join(", ");
    check(
        "[sink.out]\nformat = \"native\"\n",
        &format!("p.toml:1: sink.out.type: missing, expected one of: {types}"),
    );
    check(
        "[sink.out]\ntype = \"stdot\"\n",
        &format!(
            "p.toml:2: sink.out.type: found the text \"stdot\", expected one of: {types} (did you mean stdout?)"
        ),
    );
    check(
        "[sink.out]\ntype = \"stdout\"\non_full = \"drop\"\n",
        "p.toml:3: sink.out.on_full: found the text \"drop\", expected one of: pause_sources, drop_backlog (did you mean drop_backlog?)",
    );
    check(
        "[sink.out]\ntype = \"stdout\"\nstart = \"tomorrow\"\n",
        "p.toml:3: sink.out.start: found the text \"tomorrow\", expected \"now\", \"beginning\" or a time like 2026-08-20T00:00:00Z",
    );
    check(
        "[sink.Out]\ntype = \"stdout\"\n",
        "p.toml:1: sink.Out: found the name \"Out\", expected up to 40 lower-case letters, digits, _ and -, a letter first",
    );
}

#[test]
fn a_filter_that_can_match_nothing_is_refused() {
    check(
        "[sink.out]\ntype = \"stdout\"\nfilter = { tags = [\"allowed.hc_phis\"] }\n",
        "p.toml:3: sink.out.filter.tags: found \"allowed.hc_phis\", expected words of tags (did you mean allowed.hc_phish?)",
    );
    let kinds = layers(
        &[("p.toml", "[sink.out]\ntype = \"stdout\"\nfilter = { kinds = [\"mail\"] }\n")],
        &[],
    );
    let error = kinds.unwrap_err().to_string();
    assert!(
        error.starts_with(
            "p.toml:3: sink.out.filter.kinds.0: found the text \"mail\", expected one of: email,"
        ),
        "{error}"
    );
    let good = "[sink.out]\ntype = \"stdout\"\nfilter = { tags = [\"allowed.*\", \"user.vip\", \"zap_failed\"], kinds = [\"email\"] }\n";
    assert_eq!(layers(&[("p.toml", good)], &[]).unwrap().sinks[0].filter.tags.len(), 3);
}

#[test]
fn a_tenant_must_be_a_guid() {
    check(
        "[tenant.contoso]\nid = \"contoso.example\"\n",
        "p.toml:2: tenant.contoso.id: found the text \"contoso.example\", expected an Entra tenant id like 11111111-2222-3333-4444-555555555555",
    );
    check("[tenant.contoso]\n", "p.toml:1: tenant.contoso.id: missing, expected it to be set");
}

#[test]
fn all_errors_are_told_at_once_in_the_order_of_the_file() {
    check(
        "[log]\nlevel = 3\n[ops]\nlisten = 9464\n[sink.out]\ntype = \"stdout\"\nenabled = \"yes\"\nstart = 7\n",
        "p.toml:2: log.level: found the number 3, expected a word or a table with one key\n\
         p.toml:4: ops.listen: found the number 9464, expected an address with a port, like 127.0.0.1:9464\n\
         p.toml:7: sink.out.enabled: found the text \"yes\", expected true or false\n\
         p.toml:8: sink.out.start: found the number 7, expected a text in quotes",
    );
}

#[test]
fn later_files_override_earlier_ones_and_the_environment_overrides_all() {
    let base = "data_dir = \"/a\"\n[journal]\nquota_bytes = 1\nretention_days = 3\n[log]\nlevel = \"warn\"\n";
    let site = "data_dir = \"/b\"\n[journal]\nquota_bytes = 2\n";
    let variables = [
        ("POSTERN__JOURNAL__QUOTA_BYTES", "3"),
        ("POSTERN__LOG__LEVEL", "debug"),
        ("POSTERN_LOG", "x"),
        ("HOME", "/"),
    ];
    let config = layers(&[("base.toml", base), ("site.toml", site)], &variables).unwrap();
    assert_eq!(config.data_dir, Path::new("/b"));
    assert_eq!((config.journal.quota_bytes, config.journal.retention_days), (3, 3));
    assert_eq!(config.log.level, postern::app::log::Level::Debug);
}

#[test]
fn an_error_names_the_layer_that_the_value_came_from() {
    let base = "[journal]\nquota_bytes = 1\n";
    check_layers(
        &[("base.toml", base), ("site.toml", "\n[journal]\nquota_bytes = true\n")],
        &[],
        "site.toml:3: journal.quota_bytes: found true, expected a whole number, 0 or more",
    );
    check_layers(
        &[("base.toml", base)],
        &[("POSTERN__JOURNAL__QUOTA_BYTES", "lots")],
        "POSTERN__JOURNAL__QUOTA_BYTES: journal.quota_bytes: found the text \"lots\", expected a whole number, 0 or more",
    );
    check_layers(
        &[("base.toml", base)],
        &[("POSTERN__JOURNAL__QUOTA", "1")],
        "POSTERN__JOURNAL__QUOTA: journal.quota: unknown key (did you mean quota_bytes?)",
    );
}

#[test]
fn lists_flags_and_numbers_can_come_from_the_environment() {
    let text = "[sink.out]\ntype = \"stdout\"\n[sink.off]\ntype = \"stdout\"\n";
    let variables = [
        ("POSTERN__SINK__OUT__FILTER__TAGS", "zap_failed, override.harmful"),
        ("POSTERN__SINK__OUT__ON_FULL", "drop_backlog"),
        ("POSTERN__SINK__OUT__START", "2026-08-20T00:00:00Z"),
        ("POSTERN__SINK__OFF__ENABLED", "false"),
    ];
    let config = layers(&[("p.toml", text)], &variables).unwrap();
    let [out] = config.sinks.as_slice() else { panic!("{:?}", config.sinks) };
    assert_eq!(out.filter.tags, ["zap_failed", "override.harmful"]);
    assert_eq!(out.on_full, OnFull::DropBacklog);
    assert!(matches!(out.start, ReaderStart::Time(_)));
}

#[test]
fn a_sink_that_is_switched_off_is_checked_all_the_same() {
    check(
        "[sink.out]\ntype = \"stdout\"\nenabled = false\nlinger = 1\n",
        "p.toml:4: sink.out.linger: unknown key (known here: type, enabled, format, filter, start, on_full)",
    );
}

#[test]
fn a_canonical_form_ignores_places_and_sees_every_value() {
    let one =
        layers(&[("p.toml", "[sink.out]\ntype = \"stdout\"\nstart = \"now\"\n")], &[]).unwrap();
    let moved =
        layers(&[("q.toml", "# moved\n\n[sink.out]\nstart = \"now\"\ntype = \"stdout\"\n")], &[])
            .unwrap();
    let other =
        layers(&[("p.toml", "[sink.out]\ntype = \"stdout\"\nstart = \"beginning\"\n")], &[])
            .unwrap();
    assert_eq!(one.sinks[0].canonical, moved.sinks[0].canonical);
    assert_ne!(one.sinks[0].canonical, other.sinks[0].canonical);
    assert_eq!(one.fixed, moved.fixed);
}

#[test]
fn a_missing_file_is_named_with_advice() {
    let error = Config::load(&["/nonexistent/p.toml".into()]).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot read the configuration file /nonexistent/p.toml: "),
        "{error}"
    );
    assert!(error.contains("--config"), "{error}");
}

#[test]
fn a_required_key_of_an_adapter_is_asked_for_by_name() {
    check(
        "\n[sink.out]\ntype = \"file\"\n",
        "p.toml:2: sink.out.directory: missing, expected it to be set",
    );
}

#[test]
fn keys_stay_out_of_each_others_way_with_a_tenant() {
    assert_eq!(layers(&[("p.toml", TENANT)], &[]).unwrap().tenants["contoso"].id.len(), 36);
}

#[test]
fn a_ticket_sink_without_a_filter_would_open_a_ticket_for_everything_and_is_refused() {
    let far_end =
        "far_end = { webhook = { url = \"http://127.0.0.1/\", secrets = [{ env = \"S\" }] } }\n";
    check(
        &format!("[sink.t]\ntype = \"ticket\"\nformat = \"ocsf\"\n{far_end}"),
        "p.toml:1: sink.t.filter: missing, expected tags or kinds (without one, every single event would open a ticket)\n\
         p.toml:3: sink.t.format: found a format, expected none: a ticket is not an event",
    );
}

#[test]
fn a_secret_in_the_text_is_refused_and_never_shown() {
    let source = "[source.hubs]\ntype = \"event_hubs\"\nhubs = [\"defender\"]\n";
    let literals = [
        "auth = { connection_string = \"Endpoint=sb://x/;SharedAccessKey=hunter2\" }",
        "auth = { plain = { user = \"u\", password = \"hunter2\" } }",
        "auth = { token = [\"hunter2\"] }",
        "auth = { connection_string = { literal = \"hunter2\" } }",
        "auth = \"hunter2\"",
        "auth = hunter2",
        "auth = \"hunter2",
        "password = \"hunter2\"",
    ];
    for literal in literals {
        let errors = layers(&[("p.toml", &format!("{TENANT}{source}{literal}\n"))], &[])
            .unwrap_err()
            .to_string();
        assert!(!errors.contains("hunter2"), "{errors}");
        assert!(errors.starts_with("p.toml:6: "), "{errors}");
    }
    check_layers(
        &[("p.toml", &format!("{TENANT}{source}auth = {{ connection_string = \"hunter2\" }}\n"))],
        &[],
        "p.toml:6: source.hubs.auth.connection_string: found a value where a reference to a secret is expected \
         (write { file = \"/path\" } or { env = \"NAME\" }; a secret never stands in a configuration)",
    );
    check_layers(
        &[("p.toml", &format!("{TENANT}{source}"))],
        &[("POSTERN__SOURCE__HUBS__AUTH__CONNECTION_STRING", "hunter2")],
        "POSTERN__SOURCE__HUBS__AUTH__CONNECTION_STRING: source.hubs.auth.connection_string: found a value where a \
         reference to a secret is expected (write { file = \"/path\" } or { env = \"NAME\" }; a secret never stands in \
         a configuration)",
    );
}

#[test]
fn a_later_layer_replaces_the_reference_to_a_secret_as_a_whole() {
    let base = format!(
        "{TENANT}[source.hubs]\ntype = \"event_hubs\"\nhubs = [\"defender\"]\nauth = {{ connection_string = {{ file = \"/a\" }} }}\n"
    );
    let variables = [("POSTERN__SOURCE__HUBS__AUTH__CONNECTION_STRING__ENV", "HUBS")];
    let config = layers(&[("p.toml", &base)], &variables).unwrap();
    let [(key, secret)] = config.secrets.as_slice() else { panic!("{:?}", config.secrets) };
    assert_eq!(key, "source.hubs.auth.connection_string");
    assert_eq!(*secret, postern::cloud::secret::Secret::Env("HUBS".to_owned()));
}

#[test]
fn a_source_that_the_tenants_cloud_does_not_have_is_refused() {
    let china = TENANT.replace("\nid", "\ncloud = \"china\"\nid");
    let source = "[source.hunt]\ntype = \"hunting\"\n";
    let refused = layers(&[("p.toml", &format!("{china}{source}"))], &[]).unwrap_err().to_string();
    assert!(refused.contains("the cloud `china` has no Defender APIs"), "{refused}");
    check(
        &TENANT.replace("\nid", "\ncloud = \"moon\"\nid"),
        "p.toml:2: tenant.contoso.cloud: found the text \"moon\", expected one of: commercial, gcc, gcc_high, dod, china",
    );
}

#[test]
fn the_day_on_which_a_secret_expires_is_a_day() {
    let text = format!("{TENANT}secret_expires = \"next year\"\n");
    let refused = layers(&[("p.toml", &text)], &[]).unwrap_err().to_string();
    assert!(refused.contains("expected a day like 2027-03-31"), "{refused}");
    layers(&[("p.toml", &text.replace("next year", "2027-03-31"))], &[]).unwrap();
}
