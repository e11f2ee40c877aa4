//! What a failed handshake means for whoever has to mend it.

use std::error::Error as StdError;

use rustls::{AlertDescription, CertificateError, Error, pki_types::UnixTime};

use super::PeerError;
use crate::validity::Roughly;
use model::Millis;

/// In words, if a refused certificate is anywhere in this chain of errors; `None` for whatever else may have gone wrong.
///
/// Works from either side: whoever refuses knows the reason, whoever is refused got an alert.
pub fn explain(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<Error>() {
            return of_tls(error);
        }
        // An I/O error holds what tokio-rustls reports, and does not always show it as its source.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn of_tls(error: &Error) -> Option<String> {
    match error {
        Error::InvalidCertificate(refused) => Some(of_certificate(refused)),
        Error::AlertReceived(alert) => of_alert(*alert).map(str::to_owned),
        _ => None,
    }
}

fn of_certificate(refused: &CertificateError) -> String {
    match refused {
        CertificateError::Other(other) => match other.0.downcast_ref::<PeerError>() {
            Some(error) => error.to_string(),
            None => other.to_string(),
        },
        CertificateError::ExpiredContext { time, not_after } => {
            let since = between(*not_after, *time);
            format!("the other side's certificate expired {since} ago by this host's clock; {EXPIRED}")
        }
        CertificateError::Expired => format!("the other side's certificate has expired; {EXPIRED}"),
        CertificateError::NotValidYetContext { time, not_before } => {
            let ahead = between(*time, *not_before);
            format!("the other side's certificate holds only in {ahead} by this host's clock; {CLOCKS}")
        }
        CertificateError::NotValidYet => {
            format!("the other side's certificate does not hold yet; {CLOCKS}")
        }
        CertificateError::UnknownIssuer => {
            "the other side's certificate is by an authority that this host does not believe: one of the two missed a \
             rotation; join again with a token"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "another server of the cluster answers than the one that was dialled; has an address moved?".to_owned()
        }
        other => format!("the other side's certificate is refused: {other}"),
    }
}

const EXPIRED: &str =
    "it renews itself while its host reaches the servers; otherwise join again with a token";
const CLOCKS: &str = "set the clocks of both hosts";

fn of_alert(alert: AlertDescription) -> Option<&'static str> {
    match alert {
        AlertDescription::CertificateExpired => Some(
            "the other side refuses this host's certificate: it has expired, or does not hold yet; look at both clocks, or \
             join again with a token",
        ),
        AlertDescription::UnknownCA => Some(
            "the other side does not believe the authority of this host's certificate: one of the two missed a rotation, or \
             they are of different clusters; join again with a token",
        ),
        AlertDescription::CertificateUnknown | AlertDescription::BadCertificate => {
            Some("the other side refuses this host's certificate, and its log says why")
        }
        _ => None,
    }
}

fn between(earlier: UnixTime, later: UnixTime) -> Roughly {
    Roughly(Millis(later.as_secs().saturating_sub(earlier.as_secs()) * 1_000))
}
