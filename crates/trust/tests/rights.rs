//! The table of rights, whole, as text: who reads a change of it sees who may do more than before.

#![allow(clippy::unwrap_used)] // Clippy's exemption of tests does not reach the helpers of an integration test.

use model::{AccessRole, Grant, Name, Scope};
use trust::rights::{Place, Right, authorize};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A column per grant; `shop` is the namespace that is asked about.
fn table() -> String {
    let shop = name("shop");
    let scopes = [
        ("", Scope::Everywhere),
        ("@shop", Scope::Namespaces([shop.clone(), name("web")].into())),
        ("@other", Scope::Namespaces([name("other")].into())),
    ];
    let places = [("shop", Place::Namespace(&shop)), ("all", Place::Everywhere)];
    let mut lines = vec![format!("{:28}{:6}allowed to", "right", "where")];
    for right in Right::ALL {
        for (shown, place) in places {
            let mut allowed = Vec::new();
            for role in AccessRole::ALL {
                for (suffix, scope) in &scopes {
                    let grant = Grant { role, scope: scope.clone() };
                    if authorize(&grant, right, place).is_ok() {
                        allowed.push(format!("{role}{suffix}"));
                    }
                }
            }
            lines.push(format!("{:28}{shown:6}{}", right.to_string(), allowed.join(" ")));
        }
    }
    lines.join("\n") + "\n"
}

/// `UPDATE_GOLDENS=1` writes the file anew; read it before it is committed.
#[test]
fn the_table_is_as_it_was_decided() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rights.txt");
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(path, table()).unwrap();
    }
    assert_eq!(table(), std::fs::read_to_string(path).unwrap());
}

#[test]
fn a_refusal_says_what_was_missing_and_who_grants_it() {
    let deployer =
        Grant { role: AccessRole::Deployer, scope: Scope::Namespaces([name("web"), name("api")].into()) };
    let refused = |right, place| authorize(&deployer, right, place).unwrap_err().to_string();
    let shop = name("shop");
    assert_eq!(
        refused(Right::WriteServices, Place::Namespace(&shop)),
        "you may not change services in namespace shop: your token is deployer in namespaces api, web, and this needs at \
         least deployer in namespace shop; someone with a token for admin everywhere can make you one"
    );
    assert_eq!(
        refused(Right::ManageNodes, Place::Namespace(&name("web"))),
        "you may not manage nodes: your token is deployer in namespaces api, web, and this needs at least admin \
         everywhere; someone with a token for admin everywhere can make you one"
    );
}
