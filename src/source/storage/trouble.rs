//! What the account's refusals mean, and what a person must do about them.

use std::error::Error as _;

use crate::cloud::http::HttpError;
use crate::domain::Failure;
use crate::pipeline::port::AdapterError;

/// A refusal that is no trouble, but news about a container or blob.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The container does not exist (yet).
    NoContainer,
    /// The blob does not exist any more.
    NoBlob,
    /// The blob is not what it was when it was listed.
    Changed,
    /// Everything else.
    Trouble(AdapterError),
}

/// Sorts an error of the SDK: what was tried on what, and what came back.
pub(super) fn sort(error: azure_core::Error, tried: &str, place: &str) -> Refusal {
    let Some(http) = http_error(&error) else {
        // The SDK itself: an answer that it could not read.
        return Refusal::Trouble(AdapterError::because(
            Failure::Retry(None),
            tried.to_owned(),
            error,
        ));
    };
    let (status, code) = match http {
        HttpError::Status { status, body, .. } => (*status, code_of(body)),
        _ => (0, ""),
    };
    let failure = http.failure();
    match (status, code) {
        (404, "ContainerNotFound" | "ContainerBeingDeleted") => return Refusal::NoContainer,
        (404, "BlobNotFound") => return Refusal::NoBlob,
        (412 | 416, _) | (409, "BlobModifiedWhileReading") => return Refusal::Changed,
        _ => {}
    }
    let advice = match (status, code) {
        (403, "AuthorizationPermissionMismatch") => Some(
            "the role Storage Blob Data Reader on the storage account is missing (Access control (IAM) > Add role \
             assignment); Owner and Contributor do not read blobs",
        ),
        (
            403,
            "AuthorizationFailure" | "IpAuthorizationSourceNotAllowed" | "PublicAccessNotPermitted",
        ) => {
            Some("the account's network rules do not let this machine in (Networking > Firewalls)")
        }
        (
            403,
            "AuthorizationServiceMismatch"
            | "AuthorizationResourceTypeMismatch"
            | "AuthorizationProtocolMismatch",
        ) => {
            Some("the shared access signature must allow the blob service, containers and objects")
        }
        (403, "KeyBasedAuthenticationNotPermitted") => {
            Some("the account does not allow keys and signatures made of them (Configuration)")
        }
        (403, "AuthenticationFailed") => {
            Some("the key or signature is wrong or has expired, or this machine's clock is off")
        }
        (401, _) => Some("the account does not know who asks"),
        _ => None,
    };
    // A wrong signature is not mended by asking again; another time's may be.
    let failure = if status == 404 { Failure::Hold } else { failure };
    let message = match advice {
        Some(advice) => format!("{tried} of {place}: {code}: {advice}"),
        None => format!("{tried} of {place}"),
    };
    Refusal::Trouble(AdapterError::because(failure, message, error))
}

/// Our own error within the SDK's.
fn http_error(error: &azure_core::Error) -> Option<&HttpError> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(http) = inner.downcast_ref::<HttpError>() {
            return Some(http);
        }
        cause = inner.source();
    }
    None
}

/// The code in `<Error><Code>…`.
fn code_of(body: &str) -> &str {
    let after = body.split_once("<Code>").map_or("", |(_, after)| after);
    after.split_once("</Code>").map_or("", |(code, _)| code)
}
