//! A real Apache Kafka broker on the loopback, for tests and benches: formatted, started, killed and restarted
//! from here. It ends with the process that started it, however that ends. Not a fake: it is the broker that
//! people run.
//!
//! Use it with `#[path = "support/kafka.rs"] mod kafka;`. The jars come from `tests/kafka/pom.xml`.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test rig: every user needs another part of it, and a broken rig must stop the test"
)]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

/// How long anything at the broker may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A user with every right, by PLAIN.
pub const ALICE: (&str, &str) = ("alice", "alice's word");
/// A user without any right, by PLAIN.
pub const BOB: (&str, &str) = ("bob", "bob's word");
/// What an Event Hubs client sends as its password; the user is the literal `$ConnectionString`.
pub const CONNECTION_STRING: &str = "Endpoint=sb://contoso-ns.servicebus.example/;SharedAccessKeyName=siem-listen;SharedAccessKey=bm90IGEga2V5";

/// Whether the tests that need Kafka were left out on purpose; says so loudly.
pub fn left_out(test: &str) -> bool {
    let without = std::env::var("POSTERN_TEST_WITHOUT").unwrap_or_default();
    let left_out = without.split([',', ' ']).any(|part| part == "kafka");
    if left_out {
        eprintln!("SKIPPED {test}: POSTERN_TEST_WITHOUT names kafka, so nothing was proven here");
    }
    left_out
}

/// The directory with the broker's jars.
fn libraries() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let libraries = std::env::var_os("POSTERN_KAFKA_LIBS")
        .map_or_else(|| target.join("kafka-libs"), PathBuf::from);
    let found = fs::read_dir(&libraries).is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("kafka_2.13"))
        })
    });
    assert!(
        found,
        "no Kafka in {dir}: run\n  mvn -q -f tests/kafka/pom.xml dependency:copy-dependencies \
         -DoutputDirectory={dir}\n(needs Java 17 or later and Maven), or leave these tests out with \
         POSTERN_TEST_WITHOUT=kafka",
        dir = libraries.display()
    );
    libraries
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A broker. Dropping it kills it.
pub struct Broker {
    directory: tempfile::TempDir,
    libraries: PathBuf,
    plain_port: u16,
    tls_port: u16,
    proxied_port: u16,
    /// Where clients of the proxied listener are told to connect: a test puts its proxy there.
    pub proxy_port: u16,
    child: Option<Child>,
}

/// The one broker that the tests of a binary share. Tests use topics of their own.
pub fn shared() -> &'static Broker {
    static SHARED: OnceLock<Broker> = OnceLock::new();
    SHARED.get_or_init(|| Broker::start(&[]))
}

impl Broker {
    /// Formats a data directory and starts a broker on it; `extra` are further lines of `server.properties`.
    pub fn start(extra: &[(&str, &str)]) -> Self {
        let began = Instant::now();
        let libraries = libraries();
        let directory = tempfile::Builder::new().prefix("postern-kafka-").tempdir().unwrap();
        let (plain_port, tls_port, controller_port) = (free_port(), free_port(), free_port());
        let (proxied_port, proxy_port) = (free_port(), free_port());
        write_certificates(directory.path());
        let mut text = String::new();
        let data = directory.path().join("data");
        let key_store = directory.path().join("server.pem");
        let (alice, bob) = (ALICE, BOB);
        write!(
            text,
            r#"process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{plain_port},SASL_SSL://127.0.0.1:{tls_port},PROXIED://127.0.0.1:{proxied_port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain_port},SASL_SSL://localhost:{tls_port},PROXIED://127.0.0.1:{proxy_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
num.partitions=1
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
auto.create.topics.enable=true
log.initial.task.delay.ms=500
log.retention.check.interval.ms=1000
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:{alice};User:$ConnectionString;User:carol
ssl.keystore.type=PEM
ssl.keystore.location={key_store}
listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN,OAUTHBEARER
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{alice}="{alice_word}" user_{bob}="{bob_word}" user_$ConnectionString="{CONNECTION_STRING}";
listener.name.sasl_ssl.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
"#,
            data = data.display(),
            key_store = key_store.display(),
            alice = alice.0,
            alice_word = alice.1,
            bob = bob.0,
            bob_word = bob.1,
        )
        .unwrap();
        for (key, value) in extra {
            writeln!(text, "{key}={value}").unwrap();
        }
        fs::write(directory.path().join("server.properties"), text).unwrap();
        let mut broker = Self {
            directory,
            libraries,
            plain_port,
            tls_port,
            proxied_port,
            proxy_port,
            child: None,
        };
        let mut format = broker.java("kafka.tools.StorageTool");
        let cluster = ["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", &broker.properties()];
        let output = run(format.args(cluster));
        assert!(output.0, "formatting Kafka's data directory failed:\n{}", output.1);
        broker.restart();
        eprintln!("kafka up in {:.1} s at {}", began.elapsed().as_secs_f32(), broker.bootstrap());
        broker
    }

    /// Starts it (again) on the same ports and data, and waits until it answers.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it is still running");
        let classes = format!("{}/*", self.libraries.display());
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.path().join("broker.log"))
            .unwrap();
        // The shell kills the broker when its standard input ends, which it does when this process ends.
        let mut child = Command::new("sh")
            .args(["-c", r#"log="$1"; shift; "$@" </dev/null >>"$log" 2>&1 & echo $!; cat >/dev/null; kill -9 $!; wait $! 2>/dev/null"#, "sh"])
            .arg(self.directory.path().join("broker.log"))
            .args(["java", "-Xmx512m", "-Xms256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"])
            .args(["-cp", &classes, "kafka.Kafka", &self.properties()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("sh starts");
        let mut pid = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        fs::write(self.directory.path().join("pid"), pid.trim()).unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let client: BaseConsumer = self.client().create().unwrap();
            let answer = client.fetch_metadata(Some("__none"), Duration::from_secs(2));
            if answer.is_ok_and(|metadata| !metadata.brokers().is_empty()) {
                return;
            }
            let log = fs::read_to_string(self.directory.path().join("broker.log")).unwrap();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            let gone = !Path::new("/proc").join(pid.trim()).exists();
            assert!(!gone && Instant::now() < deadline, "Kafka does not start: {tail:#?}");
        }
    }

    /// Kills it as by `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }

    /// The process id, for signals.
    pub fn pid(&self) -> i32 {
        fs::read_to_string(self.directory.path().join("pid")).unwrap().parse().unwrap()
    }

    /// Address without encryption or login.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.plain_port)
    }

    /// Address with TLS and SASL; its certificate is for `localhost`.
    pub fn bootstrap_tls(&self) -> String {
        format!("localhost:{}", self.tls_port)
    }

    /// Address of the listener that tells its clients to go to [`Broker::proxy_port`].
    pub fn proxied(&self) -> String {
        format!("127.0.0.1:{}", self.proxied_port)
    }

    /// The certificate authority of the TLS listener.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Another authority, which has signed nothing.
    pub fn wrong_ca_file(&self) -> PathBuf {
        self.directory.path().join("wrong-ca.pem")
    }

    /// A directory of the test's own that lives as long as the broker.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// librdkafka settings for the test's own clients.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap()).set("allow.auto.create.topics", "false");
        config.set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    /// Creates a topic and waits until it can be used.
    pub fn create_topic(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            new = new.set(key, value);
        }
        let deadline = Instant::now() + PATIENCE;
        // A topic that was just deleted may still be on its way out.
        loop {
            let created = block_on(self.admin().create_topics([&new], &AdminOptions::new()));
            match &created.unwrap()[0] {
                Ok(_) => break,
                Err(error) => assert!(Instant::now() < deadline, "creating a topic: {error:?}"),
            }
        }
        self.wait_for(topic, |found| found == Some(partitions));
    }

    /// Deletes a topic and waits until it is gone.
    pub fn delete_topic(&self, topic: &str) {
        let deleted = block_on(self.admin().delete_topics(&[topic], &AdminOptions::new()));
        deleted.unwrap().remove(0).unwrap();
        self.wait_for(topic, |found| found.is_none());
    }

    /// Adds partitions.
    pub fn grow_topic(&self, topic: &str, partitions: usize) {
        let new = NewPartitions::new(topic, partitions);
        let grown = block_on(self.admin().create_partitions([&new], &AdminOptions::new()));
        grown.unwrap().remove(0).unwrap();
        self.wait_for(topic, |found| found == Some(i32::try_from(partitions).unwrap()));
    }

    /// Deletes the records of one partition before `offset`.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
        block_on(self.admin().delete_records(&list, &AdminOptions::new())).unwrap();
    }

    /// Changes one setting of a topic.
    pub fn set_topic(&self, topic: &str, key: &str, value: &str) {
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value);
        let changed = block_on(self.admin().alter_configs([&change], &AdminOptions::new()));
        changed.unwrap().remove(0).unwrap();
    }

    /// The topics there are.
    pub fn topics(&self) -> Vec<String> {
        let client: BaseConsumer = self.client().create().unwrap();
        let metadata = client.fetch_metadata(None, PATIENCE).unwrap();
        metadata.topics().iter().map(|topic| topic.name().to_owned()).collect()
    }

    /// Partitions of a topic, waiting until `done` likes their number (`None`: no such topic).
    fn wait_for(&self, topic: &str, done: impl Fn(Option<i32>) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let client: BaseConsumer = self.client().create().unwrap();
            let metadata = client.fetch_metadata(None, PATIENCE).unwrap();
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            let ready = found.map(|topic| {
                let led = topic.partitions().iter().filter(|one| one.leader() >= 0).count();
                i32::try_from(led).unwrap()
            });
            if done(ready) {
                return;
            }
            assert!(Instant::now() < deadline, "{topic} has {ready:?} partitions");
        }
    }

    /// Writes messages and waits until they are there.
    pub fn produce<P: AsRef<[u8]>>(&self, topic: &str, partition: i32, payloads: &[P]) {
        let producer: BaseProducer =
            self.client().set("message.max.bytes", "20000000").create().unwrap();
        for payload in payloads {
            let mut record = BaseRecord::<[u8], [u8]>::to(topic)
                .partition(partition)
                .payload(payload.as_ref())
                .key(b"");
            while let Err((error, back)) = producer.send(record) {
                assert_eq!(
                    error.rdkafka_error_code(),
                    Some(rdkafka::types::RDKafkaErrorCode::QueueFull)
                );
                producer.poll(Duration::from_millis(10));
                record = back;
            }
        }
        producer.flush(PATIENCE).unwrap();
    }

    /// Everything that a `read_committed` reader sees of a topic, in order by partition.
    pub fn read_committed(&self, topic: &str) -> Vec<rdkafka::message::OwnedMessage> {
        self.read(topic, "read_committed")
    }

    /// Everything in a topic at this isolation level, in order by partition.
    pub fn read(&self, topic: &str, isolation: &str) -> Vec<rdkafka::message::OwnedMessage> {
        read_with(&self.client(), topic, isolation)
    }

    /// Grants a user something on a topic, or takes it back.
    pub fn acl(&self, what: &[&str]) {
        let mut command = self.java("org.apache.kafka.tools.AclCommand");
        let output = run(command.args(["--bootstrap-server", &self.bootstrap()]).args(what));
        assert!(output.0, "changing rights failed:\n{}", output.1);
    }

    fn properties(&self) -> String {
        self.directory.path().join("server.properties").display().to_string()
    }

    fn java(&self, class: &str) -> Command {
        let mut command = Command::new("java");
        command
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(format!("{}/*", self.libraries.display()))
            .arg(class);
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// As [`Broker::read`], for whoever holds no broker.
pub fn read_with(
    client: &ClientConfig,
    topic: &str,
    isolation: &str,
) -> Vec<rdkafka::message::OwnedMessage> {
    let consumer: BaseConsumer = client
        .clone()
        .set("group.id", "postern-test-reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation)
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut messages, mut ended) = (Vec::new(), std::collections::BTreeSet::new());
    let deadline = Instant::now() + PATIENCE;
    while ended.len() < list.count() {
        assert!(Instant::now() < deadline, "reading {topic} takes too long");
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => messages.push(message.detach()),
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            Some(Err(_)) | None => {}
        }
    }
    messages.sort_by_key(|message| (message.partition(), message.offset()));
    messages
}

fn run(command: &mut Command) -> (bool, String) {
    let output = command.stdin(Stdio::null()).output().expect("java starts (Java 17 or later)");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Waits for one of librdkafka's admin futures, which need no runtime, inside or outside of one.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

/// A certificate authority, the broker's certificate with its key, and a wrong authority.
fn write_certificates(directory: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (right, wrong) = (authority("contoso authority"), authority("another authority"));
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "broker");
    let certificate = params.signed_by(&key, &right).unwrap();
    fs::write(directory.join("ca.pem"), right.pem()).unwrap();
    fs::write(directory.join("wrong-ca.pem"), wrong.pem()).unwrap();
    let key_store = format!("{}{}{}", key.serialize_pem(), certificate.pem(), right.pem());
    fs::write(directory.join("server.pem"), key_store).unwrap();
}
