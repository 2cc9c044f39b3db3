//! `[queued.destinations]`: limits for all destinations, and tables named by a nexthop that override them.
//!
//! Every key that is none of the limits is the name of such a table. So a misspelt limit is told from a nexthop by what stands behind
//! it: a table, or anything else, which is an unknown key.

use super::values::Rate;
use crate::destination::Nexthop;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Unexpected, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

/// Most recipients in a transaction that can be asked for.
pub const MAX_RECIPIENTS: u32 = 50;

/// `[queued.destinations]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destinations {
    /// Most deliveries at once to a destination.
    pub concurrency: u32,
    /// Most recipients in a transaction.
    pub recipients: u32,
    /// Most transactions in a time that are begun with a destination: "10/s", "30/m", "500/h", or "none".
    pub rate: Rate,
    /// `[queued.destinations."NEXTHOP"]`, by the nexthop's text.
    pub overrides: BTreeMap<String, Override>,
}

/// `[queued.destinations."NEXTHOP"]`: what is absent is as for all destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Override {
    /// Most deliveries at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<NonZeroU32>,
    /// Most recipients in a transaction.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "recipients")]
    pub recipients: Option<NonZeroU32>,
    /// Most transactions in a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

impl Default for Destinations {
    fn default() -> Self {
        Self { concurrency: 20, recipients: 50, rate: Rate::NONE, overrides: BTreeMap::new() }
    }
}

impl Destinations {
    /// The destinations that have limits of their own, complete. The text `local` means the mailboxes of this machine, and a domain of that name.
    pub fn each(&self) -> impl Iterator<Item = (Nexthop, u32, u32, Rate)> {
        self.overrides.iter().flat_map(|(name, own)| {
            let here = (name == LOCAL).then_some(Nexthop::Here);
            let all = here.into_iter().chain(name.parse().ok());
            all.map(|nexthop| {
                (
                    nexthop,
                    own.concurrency.map_or(self.concurrency, NonZeroU32::get),
                    own.recipients.map_or(self.recipients, NonZeroU32::get),
                    own.rate.unwrap_or(self.rate),
                )
            })
        })
    }
}

const LOCAL: &str = "local";
const KEYS: [&str; 3] = ["concurrency", "recipients", "rate"];

fn recipients<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroU32>, D::Error> {
    let number = NonZeroU32::deserialize(deserializer)?;
    if number.get() > MAX_RECIPIENTS {
        return Err(D::Error::custom("recipients can be 50 at most"));
    }
    Ok(Some(number))
}

impl Serialize for Destinations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("concurrency", &self.concurrency)?;
        map.serialize_entry("recipients", &self.recipients)?;
        map.serialize_entry("rate", &self.rate)?;
        for (name, own) in &self.overrides {
            map.serialize_entry(name, own)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Destinations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Destinations;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of limits")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Destinations, A::Error> {
        let mut read = Destinations::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "concurrency" => read.concurrency = map.next_value()?,
                "recipients" => read.recipients = map.next_value()?,
                "rate" => read.rate = map.next_value()?,
                _ => {
                    let (name, own) = map.next_value_seed(Named(&key))?;
                    if read.overrides.insert(name, own).is_some() {
                        return Err(A::Error::custom(format!(
                            "{key:?} stands here twice, written differently"
                        )));
                    }
                }
            }
        }
        Ok(read)
    }
}

/// Reads what stands behind a key that is no limit.
struct Named<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = (String, Override);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Named<'_> {
    fn unknown<T, E: Error>(&self) -> Result<T, E> {
        Err(E::unknown_field(self.0, &KEYS))
    }
}

impl<'de> Visitor<'de> for Named<'_> {
    type Value = (String, Override);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a table with the limits of the nexthop {:?}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let nexthop: Nexthop = self.0.parse().map_err(|_| {
            A::Error::invalid_value(Unexpected::Str(self.0), &"a nexthop, as `ironpost route` prints it")
        })?;
        let own = Override::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        Ok((nexthop.to_string(), own))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        self.unknown()
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        self.unknown()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        self.unknown()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        self.unknown()
    }
}
