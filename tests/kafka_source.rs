//! The `event_hubs` source against a real broker.

#[path = "support/kafka.rs"]
mod kafka;

#[test]
fn a_real_broker_takes_and_gives_messages() {
    if kafka::left_out("a_real_broker_takes_and_gives_messages") {
        return;
    }
    let broker = kafka::shared();
    broker.create_topic("rig", 2, &[]);
    broker.produce("rig", 1, &["one", "two"]);
    assert_eq!(broker.read_committed("rig").len(), 2);
    broker.delete_topic("rig");
}
