//! An event hub without Azure: librdkafka's mock broker, in this process, on loopback. It speaks enough Kafka
//! for a reader and a writer. It keeps only about 5 MB or 100,000 messages a partition, so whoever fills it
//! must follow the reader (see `feed`).

use std::sync::mpsc;
use std::thread::JoinHandle;

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;

/// A running broker; it ends when dropped.
#[derive(Debug)]
pub struct Broker {
    bootstrap: String,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The broker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// librdkafka refused.
    #[error("cannot start the mock broker")]
    Kafka(#[from] KafkaError),
    /// The broker's thread ended before it said where it listens.
    #[error("the mock broker's thread ended early")]
    Gone,
    /// No thread for it.
    #[error("cannot start the mock broker's thread")]
    Thread(#[from] std::io::Error),
}

impl Broker {
    /// Starts one with these topics.
    ///
    /// # Errors
    /// If librdkafka cannot, for example because no port is free.
    pub fn start(topics: &[String], partitions: i32) -> Result<Self, BrokerError> {
        let (say, hear) = mpsc::channel();
        let (stop, stopped) = mpsc::channel::<()>();
        let topics = topics.to_vec();
        // The cluster holds a raw pointer and cannot change threads: it lives and dies on its own.
        let thread = std::thread::Builder::new().name("mock-broker".into()).spawn(move || {
            let cluster = match open(&topics, partitions) {
                Ok(cluster) => cluster,
                Err(error) => {
                    drop(say.send(Err(error)));
                    return;
                }
            };
            drop(say.send(Ok(cluster.bootstrap_servers())));
            // Waits for the sender to be dropped.
            let _ = stopped.recv();
        })?;
        let bootstrap = hear.recv().map_err(|_| BrokerError::Gone)??;
        Ok(Self { bootstrap, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

fn open(
    topics: &[String],
    partitions: i32,
) -> Result<MockCluster<'static, rdkafka::producer::DefaultProducerContext>, KafkaError> {
    let cluster = MockCluster::new(1)?;
    for topic in topics {
        cluster.create_topic(topic, partitions, 1)?;
    }
    Ok(cluster)
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
