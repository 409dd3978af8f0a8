//! The mail that reaches the simulated tenant: streams with their habits (newsletters, partners, invoices,
//! colleagues, spam, campaigns of phish and malware, simulations), each writing mails of its own kind.

use std::sync::Arc;

use crate::domain::Ticks;

use super::filter::{Confidence, Finding};
use super::mail::{Attachment, Mail, Sender, Way, domain_of};
use super::people::{DOMAIN, Directory, Person};
use super::random::Random;

/// A stream, with its share of all mail in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stream {
    /// Subscribed mail; some people safe-listed it, some blocked it.
    #[default]
    Newsletters,
    /// Partners on the allowed-domain list: clean, so the list is not needed.
    Partners,
    /// Invoices past a mail-flow rule that switches spam filtering off.
    Invoices,
    /// Colleagues.
    Internal,
    /// Mail to the outside.
    Outbound,
    /// Spam.
    Spam,
    /// Phish, in campaigns of similar mails.
    Phish,
    /// Malware, in waves.
    Malware,
    /// The awareness team's phishing simulations.
    Simulations,
    /// Users' reports to the SecOps mailbox.
    Reports,
    /// Senders that the tenant blocks.
    Blocked,
    /// Mail that the other vendor's gateway passed on.
    Gateway,
}

const SHARES: [(Stream, u64); 12] = [
    (Stream::Newsletters, 200),
    (Stream::Partners, 190),
    (Stream::Invoices, 110),
    (Stream::Internal, 170),
    (Stream::Outbound, 60),
    (Stream::Spam, 90),
    (Stream::Phish, 50),
    (Stream::Malware, 20),
    (Stream::Simulations, 20),
    (Stream::Reports, 10),
    (Stream::Blocked, 30),
    (Stream::Gateway, 50),
];

/// Mails of one campaign share subject, link, sender and cluster.
const MAILS_PER_CAMPAIGN: u64 = 5;

/// How a phish campaign gets at people; each row is one trick.
#[derive(Debug, Clone, Copy, Default)]
struct Lure {
    from: &'static str,
    name: &'static str,
    ip: &'static str,
    url: &'static str,
    subject: &'static str,
    high: bool,
    methods: &'static [&'static str],
}

const LURES: [Lure; 8] = [
    Lure {
        from: "billing@fabrikam.example",
        name: "Fabrikam Billing",
        ip: "198.51.100.77",
        url: "https://pay.fabrikam-billing.example/login",
        subject: "Overdue invoice",
        high: true,
        methods: &["URL detonation reputation", "Advanced filter"],
    },
    Lure {
        from: "ceo.office@litware.example",
        name: "Adele Abel",
        ip: "198.51.100.31",
        url: "",
        subject: "Are you at your desk?",
        high: false,
        methods: &["Impersonation user"],
    },
    Lure {
        from: "security@relecloud.example",
        name: "Account security",
        ip: "203.0.113.45",
        url: "https://verify.relecloud.example/session",
        subject: "Your password expires today",
        high: true,
        methods: &["URL malicious reputation"],
    },
    Lure {
        from: "payroll@adatum.example",
        name: "Payroll",
        ip: "198.51.100.88",
        url: "https://payroll.adatum-hr.example/confirm",
        subject: "Confirm your bank details",
        high: false,
        methods: &["Spoof external domain", "General filter"],
    },
    Lure {
        from: "share@northwind.example",
        name: "Northwind Portal",
        ip: "198.51.100.140",
        url: "https://portal.northwind.example/shared/document",
        subject: "A document was shared with you",
        high: true,
        methods: &["URL detonation"],
    },
    Lure {
        from: "claims@woodgrove.example",
        name: "Woodgrove Claims",
        ip: "198.51.100.61",
        url: "https://claims.woodgrove.example/case",
        subject: "Your claim needs an answer",
        high: false,
        methods: &["General filter"],
    },
    Lure {
        from: "voice@lucerne.example",
        name: "Voice message",
        ip: "192.0.2.7",
        url: "https://voice.lucerne.example/play",
        subject: "New voice message",
        high: true,
        methods: &["Fingerprint matching"],
    },
    Lure {
        from: "notice@relecloud.example",
        name: "Mailbox team",
        ip: "198.51.100.200",
        url: "https://quota.relecloud.example/upgrade",
        subject: "Mailbox almost full",
        high: true,
        methods: &["Advanced filter"],
    },
];

/// The streams and what they remember between mails.
#[derive(Debug)]
pub struct Streams {
    random: Random,
    campaign: Campaign,
    wave: Campaign,
}

#[derive(Debug, Default)]
struct Campaign {
    mails: u64,
    number: u64,
    lure: Lure,
    cluster: u64,
    sha256: String,
}

impl Streams {
    /// Streams that draw from `random`.
    #[must_use]
    pub fn new(random: Random) -> Self {
        Self { random, campaign: Campaign::default(), wave: Campaign::default() }
    }

    /// The next mail, arriving at `occurred`.
    pub fn next(&mut self, directory: &Directory, occurred: Ticks) -> Mail {
        let mut left = self.random.below(SHARES.iter().map(|(_, share)| share).sum());
        let mut stream = Stream::default();
        for (candidate, share) in SHARES {
            stream = candidate;
            if left < share {
                break;
            }
            left -= share;
        }
        let mail = self.blank(directory, occurred);
        match stream {
            Stream::Newsletters => self.newsletter(mail),
            Stream::Partners => self.partner(mail),
            Stream::Invoices => self.invoice(mail),
            Stream::Internal => self.internal(mail, directory),
            Stream::Outbound => self.outbound(mail),
            Stream::Spam => self.spam(mail),
            Stream::Phish => self.phish(mail, directory),
            Stream::Malware => self.malware(mail),
            Stream::Simulations => self.simulation(mail),
            Stream::Reports => self.report(mail, directory),
            Stream::Blocked => self.blocked(mail),
            Stream::Gateway => self.gateway(mail),
        }
    }

    fn blank(&mut self, directory: &Directory, occurred: Ticks) -> Mail {
        let wanted = if self.random.chance(250) { self.random.between(2, 4) } else { 1 };
        Mail {
            message_id: self.random.guid(),
            internet_message_id: String::new(),
            way: Way::Inbound,
            sender: Sender {
                address: String::new(),
                name: String::new(),
                mail_from: String::new(),
                ip: String::new(),
                object_id: None,
            },
            recipients: directory.some(&mut self.random, wanted),
            subject: String::new(),
            urls: Vec::new(),
            attachments: Vec::new(),
            cluster: self.random.next() >> 32,
            finding: Finding::silent(),
            finding_later: None,
            authentication: r#"{"SPF":"pass","DKIM":"pass","DMARC":"pass","CompAuth":"pass"}"#,
            size: self.random.between(4_000, 90_000),
            occurred,
        }
    }

    fn from(&mut self, mail: &mut Mail, address: &str, name: &str, ip: &str) {
        address.clone_into(&mut mail.sender.address);
        name.clone_into(&mut mail.sender.name);
        mail.sender.mail_from = format!("bounce@{}", domain_of(address));
        ip.clone_into(&mut mail.sender.ip);
        mail.internet_message_id = format!(
            "<{}.{}@mail.{}>",
            mail.occurred.as_seconds(),
            self.random.hex(6),
            domain_of(address)
        );
    }

    fn links(&mut self, host: &str, most: u64) -> Vec<String> {
        let count = self.random.between(1, most);
        (0..count).map(|place| format!("https://{host}/{}/{place}", self.random.hex(6))).collect()
    }

    fn newsletter(&mut self, mut mail: Mail) -> Mail {
        let (from, name) = self.random.pick(&[
            ("news@tailspin.example", "Tailspin News"),
            ("offers@tailspin.example", "Tailspin Offers"),
            ("weekly@alpine.example", "Alpine Weekly"),
            ("digest@margie.example", "Margie's Digest"),
        ]);
        self.from(&mut mail, from, name, "198.51.100.20");
        mail.subject = format!("{name}, issue {}", self.random.between(100, 180));
        mail.urls = self.links(&format!("click.{}", domain_of(from)), 14);
        let level = u8::try_from(self.random.between(2, 8)).unwrap_or(2);
        mail.finding = Finding::bulk(level);
        mail
    }

    fn partner(&mut self, mut mail: Mail) -> Mail {
        let who = self.random.pick(&["sofia", "marek", "ines", "tom"]);
        let domain =
            self.random.pick(&["adatum.example", "northwind.example", "woodgrove.example"]);
        self.from(
            &mut mail,
            &format!("{who}@{domain}"),
            &format!("{who} at {domain}"),
            "198.51.100.12",
        );
        mail.subject = self
            .random
            .pick(&[
                "Minutes of yesterday",
                "Updated schedule",
                "Question about the contract",
                "Re: offer",
            ])
            .to_owned();
        if self.random.chance(400) {
            mail.urls = self.links(&format!("files.{domain}"), 2);
        }
        mail.finding = self.mostly_silent();
        self.perhaps_wrong(&mut mail);
        mail
    }

    fn invoice(&mut self, mut mail: Mail) -> Mail {
        self.from(&mut mail, "invoices@fabrikam.example", "Fabrikam Invoices", "198.51.100.14");
        let number = self.random.between(80_000, 99_999);
        mail.subject = format!("Invoice {number}");
        mail.attachments.push(self.file(&format!("invoice-{number}.pdf"), "pdf"));
        mail.finding =
            if self.random.chance(300) { Finding::bulk(6) } else { self.mostly_silent() };
        mail
    }

    fn internal(&mut self, mut mail: Mail, directory: &Directory) -> Mail {
        let sender: Arc<Person> = directory.anyone(&mut self.random);
        self.from(&mut mail, &sender.address, &sender.name, "0.0.0.0");
        mail.sender.object_id = Some(sender.object_id.clone());
        mail.sender.mail_from.clone_from(&sender.address);
        mail.way = Way::IntraOrg;
        mail.subject = self
            .random
            .pick(&["Lunch?", "Notes from the stand-up", "Travel approval", "Re: Re: budget"])
            .to_owned();
        mail.finding = Finding { spam_level: Some(-1), ..Finding::default() };
        if self.random.chance(150) {
            mail.attachments.push(self.file("budget.xlsx", "xlsx"));
        }
        mail
    }

    fn outbound(&mut self, mut mail: Mail) -> Mail {
        let sender = mail.recipients.first().cloned();
        if let Some(sender) = sender {
            self.from(&mut mail, &sender.address, &sender.name, "198.51.100.2");
            mail.sender.object_id = Some(sender.object_id.clone());
            let who = self.random.pick(&["sofia", "marek", "ines", "tom"]);
            mail.recipients = vec![Arc::new(Person {
                address: format!("{who}@adatum.example"),
                name: who.into(),
                domain: "adatum.example",
                object_id: String::new(),
                behind_gateway: false,
                ..(*sender).clone()
            })];
        }
        mail.way = Way::Outbound;
        mail.subject = "Re: offer".into();
        mail.finding = Finding::clean();
        mail
    }

    fn spam(&mut self, mut mail: Mail) -> Mail {
        let (from, ip) = self.random.pick(&[
            ("win@litware.example", "198.51.100.90"),
            ("deals@graphic.example", "203.0.113.80"),
            ("offers@tailspin.example", "198.51.100.20"),
            ("x@woodgrove.example", "198.51.100.91"),
        ]);
        self.from(&mut mail, from, "Great offers", ip);
        mail.subject = format!("Only today: {} % off", self.random.between(20, 90));
        mail.urls = self.links(&format!("go.{}", domain_of(from)), 6);
        mail.authentication =
            r#"{"SPF":"softfail","DKIM":"none","DMARC":"none","CompAuth":"fail"}"#;
        mail.finding = match self.random.below(3) {
            0 => Finding::spam(9, &["Advanced filter"]),
            1 => Finding::spam(5, &["Mixed analysis detection"]),
            _ => Finding::spam(6, &["Fingerprint matching", "IP reputation"]),
        };
        mail
    }

    fn phish(&mut self, mut mail: Mail, directory: &Directory) -> Mail {
        if self.campaign.mails.is_multiple_of(MAILS_PER_CAMPAIGN) {
            let place = self.campaign.number % LURES.len() as u64;
            self.campaign.lure = usize::try_from(place)
                .ok()
                .and_then(|place| LURES.get(place))
                .copied()
                .unwrap_or_default();
            self.campaign.number += 1;
            self.campaign.cluster = self.random.next() >> 32;
        }
        self.campaign.mails += 1;
        let lure = self.campaign.lure;
        self.from(&mut mail, lure.from, lure.name, lure.ip);
        let wanted = self.random.between(1, 5);
        mail.recipients = directory.some(&mut self.random, wanted);
        mail.subject = format!("{} {}", lure.subject, self.campaign.number);
        mail.cluster = self.campaign.cluster;
        if !lure.url.is_empty() {
            mail.urls = vec![format!("{}?id={}", lure.url, self.random.hex(6))];
        }
        mail.authentication = r#"{"SPF":"fail","DKIM":"none","DMARC":"fail","CompAuth":"fail"}"#;
        let confidence = if lure.high { Confidence::High } else { Confidence::Normal };
        mail.finding = Finding::phish(confidence, lure.methods);
        if self.random.chance(250) {
            mail.finding.spam = vec!["Mixed analysis detection"];
            mail.finding.spam_level = Some(6);
        }
        mail
    }

    fn malware(&mut self, mut mail: Mail) -> Mail {
        if self.wave.mails.is_multiple_of(MAILS_PER_CAMPAIGN) {
            self.wave.cluster = self.random.next() >> 32;
            self.wave.sha256 = self.random.hex(64);
            self.wave.number += 1;
        }
        self.wave.mails += 1;
        let from = self.random.pick(&["scan@lucerne.example", "invoices@fabrikam.example"]);
        self.from(&mut mail, from, "Scanner", "198.51.100.66");
        mail.subject = format!("Scanned document {}", self.wave.number);
        mail.cluster = self.wave.cluster;
        let name = if self.random.chance(200) { "scan.vbs" } else { "scan.docm" };
        mail.attachments.push(Attachment {
            name: name.into(),
            sha256: self.wave.sha256.clone(),
            size: 48_211,
            kind: "docm;office",
        });
        mail.finding = Finding::malware(&["File detonation", "File reputation"]);
        mail
    }

    fn simulation(&mut self, mut mail: Mail) -> Mail {
        self.from(&mut mail, "it-help@awareness.example", "IT help desk", "198.51.100.40");
        mail.subject = "Please confirm your account (training)".into();
        mail.urls = self.links("train.awareness.example", 1);
        mail.finding = Finding::phish(Confidence::High, &["Advanced filter"]);
        mail
    }

    fn report(&mut self, mut mail: Mail, directory: &Directory) -> Mail {
        self.from(&mut mail, "voice@lucerne.example", "Voice message", "198.51.100.41");
        mail.recipients = vec![directory.secops()];
        mail.subject = "Reported: New voice message".into();
        mail.urls = self.links("voice.lucerne.example", 1);
        mail.finding = match self.random.below(3) {
            0 => Finding::malware(&["File reputation"]),
            1 => Finding::phish(Confidence::Normal, &["General filter"]),
            _ => Finding::phish(Confidence::High, &["URL detonation"]),
        };
        mail
    }

    fn blocked(&mut self, mut mail: Mail) -> Mail {
        let (from, host) = self.random.pick(&[
            ("sales@wingtip.example", "www.wingtip.example"),
            ("info@proseware.example", "www.proseware.example"),
            ("lucky@litware.example", "prizes.litware.example"),
        ]);
        self.from(&mut mail, from, "A sender that somebody blocked", "198.51.100.50");
        mail.subject = "We miss you".into();
        mail.urls = self.links(host, 3);
        mail.finding = Finding::clean();
        mail
    }

    fn gateway(&mut self, mut mail: Mail) -> Mail {
        self.from(&mut mail, "orders@trey.example", "Trey Orders", "192.0.2.7");
        mail.subject = format!("Order {} has shipped", self.random.between(1000, 9999));
        mail.urls = self.links("track.trey.example", 4);
        mail.finding = self.mostly_silent();
        self.perhaps_wrong(&mut mail);
        mail
    }

    /// Clean mail: most rows carry no verdict columns at all, some carry an SCL.
    fn mostly_silent(&mut self) -> Finding {
        if self.random.chance(600) { Finding::silent() } else { Finding::clean() }
    }

    /// Now and then the filter learns later that what it delivered as clean was phish.
    fn perhaps_wrong(&mut self, mail: &mut Mail) {
        if self.random.chance(40) {
            mail.finding_later =
                Some(Finding::phish(Confidence::High, &["URL detonation reputation"]));
            if mail.urls.is_empty() {
                mail.urls = self.links("late.relecloud.example", 1);
            }
        }
    }

    fn file(&mut self, name: &str, kind: &'static str) -> Attachment {
        Attachment {
            name: name.into(),
            sha256: self.random.hex(64),
            size: self.random.between(9_000, 400_000),
            kind,
        }
    }
}

/// Whether an address is the tenant's own.
#[must_use]
pub fn is_ours(address: &str) -> bool {
    domain_of(address).ends_with(DOMAIN)
}
