//! The columns that are known by name: those of the seven typed tables, as Microsoft spells them. A closed
//! list on our side only; a column that is not here still passes through (`Row::unknown`).

/// What a column's value normally is. Readers are lenient; this only says when to call a type odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Text.
    Text,
    /// An integer, or a text with one.
    Number,
    /// A boolean, 0 or 1, or one of these as text.
    Flag,
    /// An ISO 8601 date and time.
    Time,
    /// Text that holds JSON, or JSON itself.
    Json,
    /// Anything.
    Any,
}

impl Shape {
    /// Whether a JSON value is of a type that a column of this shape never has. Null is never odd.
    pub(super) fn is_odd(self, json: &str) -> bool {
        let first = json.as_bytes().first().copied().unwrap_or_default();
        match (self, first) {
            (_, b'n') | (Self::Any, _) => false,
            (_, b'{') if is_empty_object(json) => false,
            (Self::Text | Self::Time, first) => first != b'"',
            (Self::Number, first) => !matches!(first, b'"' | b'-' | b'0'..=b'9'),
            (Self::Flag, first) => !matches!(first, b'"' | b't' | b'f' | b'0' | b'1'),
            (Self::Json, first) => matches!(first, b't' | b'f'),
        }
    }
}

/// `{}`: what hunting has been seen to write for a null date or a null dynamic value.
#[inline]
pub(super) fn is_empty_object(json: &str) -> bool {
    let inside = json.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    inside.is_some_and(|inside| inside.trim_ascii().is_empty())
}

macro_rules! columns {
    ($($shape:ident: $($column:ident)+;)+) => {
        /// A known column. The variant is spelled as the column is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Column {
            $($(
                #[doc = concat!("`", stringify!($column), "`.")]
                $column,
            )+)+
        }

        impl Column {
            /// Every known column.
            pub const ALL: &'static [Self] = &[$($(Self::$column),+),+];

            const NAMES: &'static [&'static str] = &[$($(stringify!($column)),+),+];

            /// What its value normally is.
            #[must_use]
            pub const fn shape(self) -> Shape {
                match self { $($(Self::$column)|+ => Shape::$shape),+ }
            }
        }
    };
}

columns! {
    Text:
        // mail: identity, addresses
        NetworkMessageId InternetMessageId ReportId
        SenderMailFromAddress SenderMailFromDomain SenderFromAddress SenderFromDomain
        SenderDisplayName SenderObjectId SenderIPv4 SenderIPv6
        RecipientEmailAddress RecipientObjectId RecipientDomain Subject
        // mail: what happened to it
        EmailDirection DeliveryAction DeliveryLocation LatestDeliveryAction LatestDeliveryLocation
        EmailAction EmailActionPolicy EmailActionPolicyGuid EmailLanguage Connectors
        OrgLevelAction OrgLevelPolicy UserLevelAction UserLevelPolicy
        ExchangeTransportRule DistributionList ThreatClassification
        // after delivery
        Action ActionType ActionTrigger ActionResult SourceLocation
        // URLs, attachments, clicks
        Url UrlDomain UrlLocation UrlChainId
        FileName FileType FileExtension SHA256 SHA1
        AccountUpn Workload IPAddress AppName AppVersion SourceId
        // alerts and their evidence
        AlertId Title Category Severity ServiceSource DetectionSource MachineGroup
        EntityType EvidenceRole EvidenceDirection FolderPath ThreatFamily
        RemoteIP RemoteUrl LocalIP AccountName AccountDomain AccountSid AccountObjectId
        DeviceId DeviceName EmailSubject Application OAuthApplicationId
        ProcessCommandLine RegistryKey RegistryValueName RegistryValueData
        CloudResource CloudPlatform ResourceType ResourceID SubscriptionId
        // what Sentinel adds to a row
        TenantId Type SourceSystem;
    Number:
        EmailClusterId BulkComplaintLevel AttachmentCount UrlCount EmailSize FileSize
        UrlChainPosition;
    Flag: IsFirstContact IsClickedThrough;
    Time: Timestamp TimeGenerated LastEventExecutionTime;
    Json:
        ThreatTypes ThreatNames DetectionMethods ConfidenceLevel
        OriginalThreatTypes OriginalDetectionMethods OriginalConfidenceLevel
        AuthenticationDetails ForwardingInformation UrlChain Categories AttackTechniques;
    Any: AdditionalFields To Cc Context Topics ApplicationId;
}

impl Column {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The name on the wire.
    #[must_use]
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a name for each column: both lists come from one")]
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The column of this name: exactly as spelled, else whatever the letter case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let mut slot = hash(name.as_bytes());
        // The table is never full, so a probe ends at an empty slot.
        loop {
            match TABLE.get(slot).copied().unwrap_or(EMPTY) {
                EMPTY => break,
                place => {
                    if Self::NAMES.get(usize::from(place)) == Some(&name) {
                        return Self::ALL.get(usize::from(place)).copied();
                    }
                }
            }
            slot = (slot + 1) % SLOTS;
        }
        Self::ALL.iter().copied().find(|column| column.name().eq_ignore_ascii_case(name))
    }
}

/// Slots of the name table: about four times as many as columns, so that most probes hit at once.
const SLOTS: usize = 512;
const EMPTY: u8 = u8::MAX;
const TABLE: [u8; SLOTS] = table();

/// Mixes the length with the first and the last eight bytes: names of one length that start alike end
/// differently.
#[inline]
const fn hash(name: &[u8]) -> usize {
    let (first, last) = match (name.first_chunk(), name.last_chunk()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => match (name.first_chunk(), name.last_chunk()) {
            (Some(first), Some(last)) => {
                (u32::from_le_bytes(*first) as u64, u32::from_le_bytes(*last) as u64)
            }
            _ => match name {
                [one] => (*one as u64, 0),
                [one, two] | [one, two, _] => (*one as u64, *two as u64),
                _ => (0, 0),
            },
        },
    };
    let mixed =
        (first ^ last.rotate_left(29) ^ name.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 55) as usize
}

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time only")]
#[expect(
    clippy::cast_possible_truncation,
    reason = "there are fewer than 255 columns, asserted here"
)]
const fn table() -> [u8; SLOTS] {
    assert!(Column::COUNT < EMPTY as usize, "a place in ALL must fit in a byte");
    let mut table = [EMPTY; SLOTS];
    let mut place = 0;
    while place < Column::COUNT {
        let mut slot = hash(Column::ALL[place].name().as_bytes());
        while table[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = place as u8;
        place += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_found_by_its_name_in_any_letter_case() {
        for column in Column::ALL {
            assert_eq!(Column::from_name(column.name()), Some(*column));
            assert_eq!(Column::from_name(&column.name().to_lowercase()), Some(*column));
        }
        for stranger in ["", "T", "Timestam", "timestamps", "Größe", "ThreatType"] {
            assert_eq!(Column::from_name(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn places_in_the_list_are_the_numbers_of_the_columns() {
        for (place, column) in Column::ALL.iter().enumerate() {
            assert_eq!(*column as usize, place);
        }
    }
}
