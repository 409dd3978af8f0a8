//! Microsoft's clouds: where each has its login, its APIs and its portal, and which APIs it does not have. Facts
//! only; nothing here is asked.

use serde::Deserialize;

use super::Workload;

/// One of Microsoft's clouds. A tenant lives in exactly one, and a token of one is worth nothing in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cloud {
    /// The worldwide one.
    #[default]
    Commercial,
    /// US Government Community Cloud.
    Gcc,
    /// US Government Community Cloud High.
    GccHigh,
    /// US Department of Defense.
    Dod,
    /// China, run by 21Vianet. It has neither Defender's APIs nor the Management Activity API.
    China,
}

impl Cloud {
    /// Every cloud there is a preset for.
    pub const ALL: [Self; 5] = [Self::Commercial, Self::Gcc, Self::GccHigh, Self::Dod, Self::China];

    /// Its word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Commercial => "commercial",
            Self::Gcc => "gcc",
            Self::GccHigh => "gcc_high",
            Self::Dod => "dod",
            Self::China => "china",
        }
    }

    /// Where tokens come from.
    #[must_use]
    pub const fn authority(self) -> &'static str {
        match self {
            Self::Commercial | Self::Gcc => "https://login.microsoftonline.com",
            Self::GccHigh | Self::Dod => "https://login.microsoftonline.us",
            Self::China => "https://login.partner.microsoftonline.cn",
        }
    }

    /// Graph, without the version.
    #[must_use]
    pub const fn graph(self) -> &'static str {
        match self {
            Self::Commercial | Self::Gcc => "https://graph.microsoft.com",
            Self::GccHigh => "https://graph.microsoft.us",
            Self::Dod => "https://dod-graph.microsoft.us",
            Self::China => "https://microsoftgraph.chinacloudapi.cn",
        }
    }

    /// The Management Activity API. China has none; the name there leads nowhere on purpose.
    #[must_use]
    pub const fn activity(self) -> &'static str {
        match self {
            Self::Commercial => "https://manage.office.com",
            Self::Gcc => "https://manage-gcc.office.com",
            Self::GccHigh => "https://manage.office365.us",
            Self::Dod => "https://manage.protection.apps.mil",
            Self::China => "https://activity-api.invalid",
        }
    }

    /// What follows an account's name in the address of its blobs.
    #[must_use]
    pub const fn blob_suffix(self) -> &'static str {
        match self {
            Self::Commercial | Self::Gcc => "blob.core.windows.net",
            Self::GccHigh | Self::Dod => "blob.core.usgovcloudapi.net",
            Self::China => "blob.core.chinacloudapi.cn",
        }
    }

    /// The Defender portal.
    #[must_use]
    pub const fn portal(self) -> &'static str {
        match self {
            Self::Commercial | Self::Gcc => "https://security.microsoft.com",
            Self::GccHigh => "https://security.microsoft.us",
            Self::Dod => "https://security.apps.mil",
            Self::China => "https://security.partner.microsoftonline.cn",
        }
    }

    /// The Entra admin center, where applications and their permissions are.
    #[must_use]
    pub const fn entra(self) -> &'static str {
        match self {
            Self::Commercial | Self::Gcc => "https://entra.microsoft.com",
            Self::GccHigh | Self::Dod => "https://entra.microsoft.us",
            Self::China => "https://entra.microsoftonline.cn",
        }
    }

    /// What tokens for `workload` are asked for. Hunting and incidents share one.
    #[must_use]
    pub fn scope(self, workload: Workload) -> String {
        let resource = match workload {
            Workload::Graph | Workload::Hunting => self.graph(),
            Workload::Activity => self.activity(),
            Workload::Storage => "https://storage.azure.com",
        };
        format!("{resource}/.default")
    }

    /// Why this cloud cannot be asked for `workload`, if it cannot.
    #[must_use]
    pub const fn lacks(self, workload: Workload) -> Option<&'static str> {
        match (self, workload) {
            (Self::China, Workload::Graph | Workload::Hunting) => Some(
                "the cloud `china` has no Defender APIs (incidents, alerts, hunting); what it has is \
                 `event_hubs`, `storage` and `file`",
            ),
            (Self::China, Workload::Activity) => Some(
                "no Management Activity API is documented for the cloud `china`; if there is one for you, set \
                 endpoints.activity",
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cloud_has_https_addresses_and_the_word_that_a_configuration_uses() {
        for cloud in Cloud::ALL {
            for address in
                [cloud.authority(), cloud.graph(), cloud.activity(), cloud.portal(), cloud.entra()]
            {
                let url = reqwest::Url::parse(address).unwrap();
                assert_eq!((url.scheme(), url.path()), ("https", "/"), "{address}");
                assert!(!address.ends_with('/'));
            }
            let read: Cloud = serde_json::from_str(&format!("{:?}", cloud.word())).unwrap();
            assert_eq!(read, cloud);
        }
    }

    #[test]
    fn only_china_lacks_apis_and_says_which() {
        for workload in [Workload::Graph, Workload::Hunting, Workload::Activity] {
            for cloud in Cloud::ALL {
                assert_eq!(cloud.lacks(workload).is_some(), cloud == Cloud::China, "{cloud:?}");
            }
        }
        assert!(Cloud::China.lacks(Workload::Hunting).unwrap().contains("hunting"));
        assert_eq!(Cloud::China.lacks(Workload::Storage), None);
    }
}
