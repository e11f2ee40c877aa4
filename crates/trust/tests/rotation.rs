//! The steps of a rotation, in order and out of order, and which bundle a host takes.

#![allow(clippy::unwrap_used)] // Clippy's exemption of tests does not reach the helpers of an integration test.

use model::{Belief, ClusterId, NodeId, Timestamp};
use trust::{
    authority::Authority,
    bundle::{FollowError, Hosts, Lacking, RotationError, Stage, Trust, TrustTextError},
    certificate::AuthorityCertificate,
    validity::AUTHORITY_LIFETIME,
};

const OURS: ClusterId = ClusterId(1);

fn certificate(cluster: ClusterId) -> AuthorityCertificate {
    Authority::make(cluster, Timestamp(0), AUTHORITY_LIFETIME).unwrap().certificate().clone()
}

/// Node, generation and signer of each.
fn hosts<const N: usize>(hosts: [(u64, u64, &AuthorityCertificate); N]) -> Hosts {
    let belief =
        |generation, signer: &AuthorityCertificate| Belief { generation, signed_by: Some(signer.pin()) };
    hosts.into_iter().map(|(node, at, signer)| (NodeId(node), Some(belief(at, signer)))).collect()
}

/// Settled, introduced, switched and settled again, with the two authorities.
fn rotation() -> ([Trust; 4], AuthorityCertificate, AuthorityCertificate) {
    let (old, new) = (certificate(OURS), certificate(OURS));
    let settled = Trust::new(old.clone());
    let introduced = settled.introduce(new.clone()).unwrap();
    let switched = introduced.switch(&hosts([(1, 2, &old)])).unwrap();
    let retired = switched.retire(&hosts([(1, 3, &new)])).unwrap();
    ([settled, introduced, switched, retired], old, new)
}

#[test]
fn each_step_believes_and_signs_what_it_should() {
    let ([settled, introduced, switched, retired], old, new) = rotation();
    let seen =
        [&settled, &introduced, &switched, &retired].map(|trust| (trust.generation(), trust.authorities()));
    assert_eq!(seen, [(1, vec![&old]), (2, vec![&old, &new]), (3, vec![&new, &old]), (4, vec![&new])]);
    // Who has to ask for another certificate: nobody before the new authority signs.
    let outdated =
        [settled, introduced, switched, retired].map(|trust| (trust.outdates(&old), trust.outdates(&new)));
    assert_eq!(outdated[..3], [(false, true), (false, false), (true, false)]);
}

#[test]
fn steps_out_of_order_are_refused() {
    let ([settled, introduced, switched, _], old, new) = rotation();
    let next = || certificate(OURS);
    assert_eq!(introduced.introduce(next()), Err(RotationError::UnderWay));
    assert_eq!(switched.introduce(next()), Err(RotationError::UnderWay));
    assert_eq!(settled.introduce(old), Err(RotationError::Same));
    let theirs = ClusterId(2);
    assert_eq!(
        settled.introduce(certificate(theirs)),
        Err(RotationError::OtherCluster { ours: OURS, theirs })
    );

    assert_eq!(settled.switch(&Hosts::new()), Err(RotationError::NotIntroduced));
    assert_eq!(switched.switch(&Hosts::new()), Err(RotationError::UnderWay));
    assert_eq!(settled.retire(&Hosts::new()), Err(RotationError::NotIntroduced));
    assert_eq!(introduced.retire(&hosts([(1, 9, &new)])), Err(RotationError::NotSwitched));

    assert_eq!(settled.abandon(), Err(RotationError::NotIntroduced));
    assert_eq!(switched.abandon(), Err(RotationError::TooLate));
    let abandoned = introduced.abandon().unwrap();
    assert_eq!((abandoned.generation(), abandoned.stage()), (3, settled.stage()));
}

#[test]
fn a_step_waits_for_every_host_and_names_those_behind() {
    let ([_, introduced, switched, _], old, new) = rotation();
    let mut all = hosts([(1, 2, &old), (2, 1, &old), (3, 3, &old)]);
    all.insert(NodeId(4), None);
    let refused = introduced.switch(&all).unwrap_err();
    assert_eq!(refused, RotationError::NotYet(vec![NodeId(2), NodeId(4)], Lacking::Belief));
    assert_eq!(
        refused.to_string(),
        "2 hosts do not yet believe the new authority: 0000000000002, 0000000000004; wait for them, or remove those that \
         are gone"
    );
    let refused = switched.retire(&hosts([(1, 3, &new), (2, 3, &old)])).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "1 host does not yet have a certificate by the new authority: 0000000000002; wait for them, or remove those that \
         are gone"
    );
}

#[test]
fn nobody_waits_for_the_certificate_of_a_host_that_has_none() {
    let ([_, introduced, switched, _], ..) = rotation();
    let without = |generation| Hosts::from([(NodeId(1), Some(Belief { generation, signed_by: None }))]);
    assert!(introduced.switch(&without(1)).is_err());
    introduced.switch(&without(2)).unwrap();
    switched.retire(&without(2)).unwrap();
}

#[test]
fn a_host_takes_newer_bundles_that_it_can_tie_to_its_own() {
    let ([settled, introduced, switched, retired], old, _) = rotation();
    for (has, offered) in [
        (&settled, &settled),
        (&settled, &introduced),
        (&settled, &switched), // It was away for a step.
        (&introduced, &retired),
        (&switched, &retired),
    ] {
        assert_eq!(has.follow(offered.clone()).as_ref(), Ok(offered));
    }
    assert_eq!(switched.follow(introduced.clone()), Err(FollowError::Older { known: 3, offered: 2 }));
    assert_eq!(settled.follow(retired), Err(FollowError::Untied(4)));
    let same_generation = Trust::new(old).introduce(certificate(OURS)).unwrap();
    assert_eq!(introduced.follow(same_generation), Err(FollowError::Contradiction(2)));
    let theirs = ClusterId(2);
    let foreign = Trust::new(certificate(theirs));
    assert_eq!(settled.follow(foreign), Err(FollowError::OtherCluster { ours: OURS, theirs }));
}

#[test]
fn a_bundle_survives_being_written() {
    let (stages, old, _) = rotation();
    for trust in &stages {
        assert_eq!(Trust::from_pem(&trust.to_pem()).as_ref(), Ok(trust));
    }
    let [settled, introduced, ..] = stages;
    assert!(
        settled.to_pem().starts_with("wharf-trust 1 generation 1 settled\n-----BEGIN CERTIFICATE-----\n")
    );
    assert!(matches!(introduced.stage(), Stage::Introduced { signer, .. } if *signer == old));

    for (from, to) in [("trust 1", "trust 2"), ("generation 2", "generation x"), ("introduced", "replaced")] {
        let refused = Trust::from_pem(&introduced.to_pem().replace(from, to)).unwrap_err();
        assert!(matches!(refused, TrustTextError::Header(_)), "{to}: {refused}");
    }
    let one_too_few = settled.to_pem().replace("settled", "switched");
    assert!(matches!(Trust::from_pem(&one_too_few), Err(TrustTextError::Pem(_))));
    let twice =
        settled.to_pem().replace("settled", "introduced") + settled.to_pem().split_once('\n').unwrap().1;
    assert_eq!(Trust::from_pem(&twice), Err(TrustTextError::Mixed));
}
