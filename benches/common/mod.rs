//! Seeded input for benchmarks: Streaming API messages of invented mail. Not a model of a tenant (that is
//! the simulator's), only bytes of the right shape and size.

/// A small generator of numbers (SplitMix64): the same seed gives the same input everywhere.
pub struct Numbers(pub u64);

impl Numbers {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// One of `choices`.
    pub fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }

    fn guid(&mut self) -> String {
        let (a, b) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xFFFF,
            a & 0xFFFF,
            b >> 48,
            b & 0xFFFF_FFFF_FFFF
        )
    }
}

/// `messages` messages of `per_message` rows of `EmailEvents` each, one message to a line; a record takes
/// about 1.8 KB. One mail in twenty comes in through an override.
pub fn email_events(seed: u64, messages: usize, per_message: usize) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    let mut out = Vec::new();
    for _ in 0..messages {
        out.extend_from_slice(b"{\"records\":[");
        for place in 0..per_message {
            if place > 0 {
                out.push(b',');
            }
            out.extend_from_slice(record(&mut numbers).as_bytes());
        }
        out.extend_from_slice(b"]}\n");
    }
    out
}

const NAMES: [&str; 8] = ["adele", "ben", "chiara", "dmitri", "elif", "farid", "grace", "hana"];
const SENDERS: [&str; 6] = [
    "fabrikam.example",
    "mail.northwind.example",
    "billing.adatum.example",
    "news.tailspin.example",
    "wingtip.example",
    "relay7.proseware.example",
];
const SUBJECTS: [&str; 6] = [
    "Overdue invoice",
    "Your weekly report is ready",
    "Re: planning for the third quarter",
    "Gr\u{fc}\u{df}e aus K\u{f6}ln: Termin \u{201e}morgen\u{201c}",
    "Minutes of yesterday's call",
    "Parcel waiting at the counter",
];

/// What the filter said: threat types, detection methods, confidence, action, location, as JSON values.
const OUTCOMES: [[&str; 5]; 6] = [
    ["null", "null", "null", "Delivered", "Inbox/folder"],
    ["null", "null", r#""{\"Spam\":\"1\"}""#, "Delivered", "Inbox/folder"],
    ["null", "null", r#""{\"Spam\":\"-1\"}""#, "Delivered", "Inbox/folder"],
    [
        "\"Spam\"",
        r#""{\"Spam\":[\"Mixed analysis detection\",\"Fingerprint matching\"]}""#,
        r#""{\"Spam\":\"5\"}""#,
        "Junked",
        "Junk folder",
    ],
    [
        "\"Phish\"",
        r#""{\"Phish\":[\"URL detonation reputation\",\"URL malicious reputation\"]}""#,
        r#""{\"Phish\":\"High\",\"Spam\":\"9\"}""#,
        "Blocked",
        "Quarantine",
    ],
    [
        "\"Phish\"",
        r#""{\"Phish\":[\"Advanced filter\"]}""#,
        r#""{\"Phish\":\"Normal\",\"Spam\":\"5\"}""#,
        "Delivered",
        "Inbox/folder",
    ],
];

const POLICIES: [&str; 4] = [
    "Exchange transport rule",
    "Connection policy",
    "Sender domain list (Safe domain / Blocked domain)",
    "Phishing simulation",
];

fn record(numbers: &mut Numbers) -> String {
    let overridden = numbers.below(20) == 0;
    let outcome = match numbers.below(100) {
        0..30 => 0,
        30..75 => 1,
        75..82 => 2,
        82..94 => 3,
        _ => 4,
    };
    let [threats, methods, confidence, action, location] =
        OUTCOMES[if overridden && numbers.below(2) == 0 { 5 } else { outcome }];
    let (org_action, org_policy) = if overridden {
        ("\"Allow\"".to_owned(), format!("\"{}\"", numbers.pick(&POLICIES)))
    } else {
        ("null".to_owned(), "null".to_owned())
    };
    let sender = numbers.pick(&SENDERS);
    let (from, to) = (numbers.pick(&NAMES), numbers.pick(&NAMES));
    let (message, recipient_id) = (numbers.guid(), numbers.guid());
    let (hour, minute, second) = (numbers.below(24), numbers.below(60), numbers.below(60));
    let stamp = format!("2026-08-20T{hour:02}:{minute:02}:{second:02}");
    let pass = numbers.pick(&["pass", "pass", "fail", "none"]);
    let [a, b, c] = [numbers.below(255), numbers.below(255), numbers.below(255)];
    let cluster = numbers.below(1 << 33);
    let report = numbers.next() / 4 + 1_000_000_000_000_000_000;
    let subject = numbers.pick(&SUBJECTS);
    let size = 4_000 + numbers.below(90_000);
    let pad = "relay connector of the branch office, kept for the migration";
    format!(
        concat!(
            r#"{{"time":"{stamp}.3832981Z","tenantId":"9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a","#,
            r#""operationName":"Publish","category":"AdvancedHunting-EmailEvents","#,
            r#""_TimeReceivedBySvc":"{stamp}.0000000","properties":{{"Timestamp":"{stamp}Z","#,
            r#""NetworkMessageId":"{message}","#,
            r#""InternetMessageId":"<{report}.{cluster}@mail.{sender}>","#,
            r#""SenderMailFromAddress":"bounce-{from}@{sender}","#,
            r#""SenderFromAddress":"{from}@{sender}","SenderDisplayName":"{from} of {sender}","#,
            r#""SenderObjectId":null,"SenderMailFromDomain":"{sender}","#,
            r#""SenderFromDomain":"{sender}","SenderIPv4":"203.{a}.{b}.{c}","SenderIPv6":null,"#,
            r#""RecipientEmailAddress":"{to}.{a}@contoso.example","#,
            r#""RecipientObjectId":"{recipient_id}","Subject":"{subject} {cluster}","#,
            r#""EmailClusterId":{cluster},"EmailDirection":"Inbound","DeliveryAction":"{action}","#,
            r#""DeliveryLocation":"{location}","ThreatTypes":{threats},"ThreatNames":null,"#,
            r#""DetectionMethods":{methods},"ConfidenceLevel":{confidence},"#,
            r#""BulkComplaintLevel":null,"EmailAction":null,"EmailActionPolicy":null,"#,
            r#""EmailActionPolicyGuid":null,"AuthenticationDetails":"#,
            r#""{{\"SPF\":\"{pass}\",\"DKIM\":\"none\",\"DMARC\":\"{pass}\",\"CompAuth\":\"{pass}\"}}","#,
            r#""AttachmentCount":1,"UrlCount":4,"EmailLanguage":"en","Connectors":"{pad}","#,
            r#""OrgLevelAction":{org_action},"OrgLevelPolicy":{org_policy},"#,
            r#""UserLevelAction":null,"UserLevelPolicy":null,"ReportId":"{message}-{report}-1","#,
            r#""AdditionalFields":null,"ExchangeTransportRule":null,"DistributionList":null,"#,
            r#""ForwardingInformation":null,"Context":null,"To":["{to}.{a}@contoso.example"],"#,
            r#""Cc":[],"ThreatClassification":null,"RecipientDomain":"contoso.example","#,
            r#""EmailSize":{size},"IsFirstContact":false}},"Tenant":"DefaultTenant"}}"#,
        ),
        stamp = stamp,
        message = message,
        report = report,
        cluster = cluster,
        sender = sender,
        from = from,
        to = to,
        a = a,
        b = b,
        c = c,
        recipient_id = recipient_id,
        subject = subject,
        action = action,
        location = location,
        threats = threats,
        methods = methods,
        confidence = confidence,
        pass = pass,
        pad = pad,
        org_action = org_action,
        org_policy = org_policy,
        size = size,
    )
}
