//! A proxy in front of a broker that loses, swallows or delays single requests by their kind: what a network may
//! do at the worst moment. It knows frames, not what is in them.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test rig"
)]

use std::collections::{HashSet, VecDeque};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Kafka's number for the request that ends a transaction.
pub const END_TXN: i16 = 26;
/// Kafka's number for the request that brings records.
const PRODUCE: i16 = 0;

/// What happens to one request of the kind in question. Except for `Pass`, the client's connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives, and so does its answer.
    Pass,
    /// It never arrives.
    LoseRequest,
    /// It arrives, its answer does not.
    LoseAnswer,
    /// It arrives only later: just before the second request with records after it, which is in the middle of the
    /// next transaction.
    Delay,
}

#[derive(Default)]
struct Plan {
    kind: i16,
    fates: VecDeque<Fate>,
    met: usize,
    delayed: Option<(TcpStream, Vec<u8>)>,
    produced: usize,
    /// Kafka's codes in the answers to delayed requests: 0 where the broker did as it was told.
    answers: Vec<i16>,
}

/// See the module.
#[derive(Clone)]
pub struct Proxy {
    plan: Arc<Mutex<Plan>>,
}

impl Proxy {
    /// Listens on `port` and passes everything to `target`.
    pub fn start(port: u16, target: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let proxy = Self { plan: Arc::new(Mutex::new(Plan::default())) };
        let accepting = proxy.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(broker)) = (client, TcpStream::connect(&target)) else {
                    continue;
                };
                let proxy = accepting.clone();
                std::thread::spawn(move || proxy.serve(&client, &broker));
            }
        });
        proxy
    }

    /// The fates of the next requests of this kind, in order; after them all pass.
    pub fn plan(&self, kind: i16, fates: &[Fate]) {
        let mut plan = self.plan.lock().unwrap();
        plan.kind = kind;
        plan.fates = fates.iter().copied().collect();
        plan.met = 0;
    }

    /// How many requests of the planned kind came by since the plan was made.
    pub fn met(&self) -> usize {
        self.plan.lock().unwrap().met
    }

    /// The answers to delayed requests since the last question.
    pub fn answers(&self) -> Vec<i16> {
        std::mem::take(&mut self.plan.lock().unwrap().answers)
    }

    /// Lets the delayed request arrive, and waits for its answer, which is nobody's any more.
    fn release(plan: &mut Plan) {
        let Some((mut broker, frame)) = plan.delayed.take() else { return };
        let correlation = &frame[8..12];
        broker.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        broker.write_all(&frame).unwrap();
        while let Some(answer) = read_frame(&mut broker) {
            if &answer[4..8] == correlation {
                // Behind the length, the correlation and the throttle time.
                plan.answers.push(i16::from_be_bytes([answer[12], answer[13]]));
                return;
            }
        }
    }

    fn serve(&self, client: &TcpStream, broker: &TcpStream) {
        let swallowed = Arc::new(Mutex::new(HashSet::<[u8; 4]>::new()));
        let (mut from_client, mut to_broker) =
            (client.try_clone().unwrap(), broker.try_clone().unwrap());
        let answers = {
            let (mut from, mut to) = (broker.try_clone().unwrap(), client.try_clone().unwrap());
            let swallowed = Arc::clone(&swallowed);
            std::thread::spawn(move || {
                while let Some(frame) = read_frame(&mut from) {
                    let correlation: [u8; 4] = frame[4..8].try_into().unwrap();
                    if swallowed.lock().unwrap().contains(&correlation)
                        || to.write_all(&frame).is_err()
                    {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Both);
            })
        };
        while let Some(frame) = read_frame(&mut from_client) {
            match self.fate(i16::from_be_bytes([frame[4], frame[5]])) {
                Fate::Pass => {}
                Fate::LoseRequest => break,
                Fate::LoseAnswer => {
                    swallowed.lock().unwrap().insert(frame[8..12].try_into().unwrap());
                }
                Fate::Delay => {
                    let _ = client.shutdown(Shutdown::Both);
                    // Its own connection, so that whoever reads answers here cannot take this one's.
                    let kept = (TcpStream::connect(broker.peer_addr().unwrap()).unwrap(), frame);
                    let mut plan = self.plan.lock().unwrap();
                    (plan.delayed, plan.produced) = (Some(kept), 0);
                    break;
                }
            }
            if to_broker.write_all(&frame).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = broker.shutdown(Shutdown::Both);
        let _ = answers.join();
    }

    fn fate(&self, kind: i16) -> Fate {
        let mut plan = self.plan.lock().unwrap();
        if kind == PRODUCE {
            plan.produced += 1;
            if plan.produced == 2 {
                Self::release(&mut plan);
            }
        }
        if kind != plan.kind {
            return Fate::Pass;
        }
        plan.met += 1;
        plan.fates.pop_front().unwrap_or(Fate::Pass)
    }
}

/// A frame with its length in front; `None` at the end.
fn read_frame(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).ok()?;
    let size = usize::try_from(u32::from_be_bytes(length)).unwrap();
    let mut frame = vec![0; size + 4];
    frame[..4].copy_from_slice(&length);
    from.read_exact(&mut frame[4..]).ok()?;
    Some(frame)
}
