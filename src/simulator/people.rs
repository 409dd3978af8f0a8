//! Who works at the simulated tenant, how their mail is routed and which policy protects them. Every name is
//! invented; every domain is reserved for examples.

use std::sync::Arc;

use super::policy::Preset;
use super::random::Random;

/// The tenant's main domain. Its MX points to Microsoft.
pub const DOMAIN: &str = "contoso.example";
/// A domain that came with an acquisition: its MX still points to another vendor's gateway, which is the
/// routing in which Microsoft lets high-confidence phish through if an allow asks for it.
pub const GATEWAY_DOMAIN: &str = "retail.contoso.example";
/// The mailbox to which users send what they find suspicious (advanced delivery).
pub const SECOPS_MAILBOX: &str = "secops@contoso.example";

/// A number that makes nobody's own setting apply to the reports mailbox (see `overrides::Setting::every`).
const SECOPS_NUMBER: usize = 1;

const FIRST: [&str; 24] = [
    "Adele", "Bilal", "Chiara", "Dmitri", "Emeka", "Farah", "Gunnar", "Hanna", "Ines", "Jonas",
    "Kavya", "Lars", "Mei", "Nadia", "Oskar", "Priya", "Quentin", "Rosa", "Sven", "Tala", "Umar",
    "Vera", "Wen", "Zofia",
];
const LAST: [&str; 16] = [
    "Abel", "Berg", "Castro", "Dahl", "Eze", "Falk", "Gupta", "Horn", "Ito", "Jansen", "Keller",
    "Lund", "Moreau", "Nowak", "Okoye", "Park",
];

/// Someone with a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Place in the directory.
    pub number: usize,
    /// Name as shown.
    pub name: String,
    /// Address, which is also the sign-in name.
    pub address: String,
    /// Domain of the address.
    pub domain: &'static str,
    /// Entra object id.
    pub object_id: String,
    /// The preset that protects this person.
    pub preset: Preset,
    /// Whether mail for this person passes another vendor's gateway first.
    pub behind_gateway: bool,
}

/// Everybody.
#[derive(Debug)]
pub struct Directory {
    people: Vec<Arc<Person>>,
    secops: Arc<Person>,
}

impl Directory {
    /// A directory of `count` people (at least one).
    #[must_use]
    pub fn new(random: &mut Random, count: usize) -> Self {
        let person = |random: &mut Random, number: usize| {
            let first = FIRST.get(number % FIRST.len()).copied().unwrap_or_default();
            let turn = number / FIRST.len() + number * 5;
            let last = LAST.get(turn % LAST.len()).copied().unwrap_or_default();
            let behind_gateway = number % 4 == 3;
            let domain = if behind_gateway { GATEWAY_DOMAIN } else { DOMAIN };
            let distinct = match number / (FIRST.len() * LAST.len()) {
                0 => String::new(),
                round => round.to_string(),
            };
            Arc::new(Person {
                number,
                name: format!("{first} {last}"),
                address: format!(
                    "{}.{}{distinct}@{domain}",
                    first.to_lowercase(),
                    last.to_lowercase()
                ),
                domain,
                object_id: random.guid(),
                preset: match number % 3 {
                    0 => Preset::Default,
                    1 => Preset::Standard,
                    _ => Preset::Strict,
                },
                behind_gateway,
            })
        };
        let people = (0..count.max(1)).map(|number| person(random, number)).collect();
        let secops = Arc::new(Person {
            number: SECOPS_NUMBER,
            name: "Security operations".into(),
            address: SECOPS_MAILBOX.into(),
            domain: DOMAIN,
            object_id: random.guid(),
            preset: Preset::Strict,
            behind_gateway: false,
        });
        Self { people, secops }
    }

    /// Anybody.
    #[must_use]
    pub fn anyone(&self, random: &mut Random) -> Arc<Person> {
        let place = random.below(self.people.len() as u64);
        self.people
            .get(usize::try_from(place).unwrap_or(0))
            .map_or_else(|| Arc::clone(&self.secops), Arc::clone)
    }

    /// Up to `count` different people.
    #[must_use]
    pub fn some(&self, random: &mut Random, count: u64) -> Vec<Arc<Person>> {
        let mut chosen: Vec<Arc<Person>> = Vec::new();
        for _ in 0..count {
            let person = self.anyone(random);
            if chosen.iter().all(|other| other.number != person.number) {
                chosen.push(person);
            }
        }
        chosen
    }

    /// The mailbox for reports.
    #[must_use]
    pub fn secops(&self) -> Arc<Person> {
        Arc::clone(&self.secops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_an_address_of_their_own() {
        let directory = Directory::new(&mut Random::new(1), 900);
        let mut addresses: Vec<&str> =
            directory.people.iter().map(|person| &*person.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), 900);
    }
}
