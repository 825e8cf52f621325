//! Offers and answers, up to where their text is handed on: `SdpFrame::verify`.

use ifswarm::identity::{AgentId, PublicKey, Purpose};
use ifswarm::message::SdpReason;
use ifswarm::signal::{ClientFrame, SdpBody, SdpExpect, SdpFrame, parse_frame};
use ifswarm::swarm::SdpDetail;
use serde_json::json;

use super::oracle::{KEY, assert_one_line, jcs, other_key};

pub(super) fn target(bytes: &[u8]) {
    let frame = match parse_frame(bytes) {
        Ok(frame) => frame,
        Err(err) => {
            let reason = err.reason.sdp_reason();
            assert!([SdpReason::Schema, SdpReason::Unsigned].contains(&reason));
            return;
        }
    };
    let Some(frame) = frame.sdp() else {
        return;
    };
    match frame.verify_offline(None) {
        Ok(()) => signed(frame),
        Err(refusal) => {
            assert_eq!(refusal.reason, SdpReason::BadSignature);
            assert_one_line(&refusal.detail, MAX_DETAIL);
        }
    }
    let anew = SdpFrame::sign(body(frame), &KEY);
    signed(&anew);
    let text = ClientFrame::from(anew.clone()).to_text();
    let read = parse_frame(text.as_bytes()).expect("what was written can be read");
    assert_eq!(read.sdp(), Some(&anew));
}

/// The signature is good: over the bytes of the contract, and over no others.
fn signed(frame: &SdpFrame) {
    let contract = json!({
        "from": frame.from,
        "link": frame.link,
        "public_key": frame.public_key,
        "sdp": frame.sdp,
        "session": frame.session,
        "swarm": frame.swarm,
        "to": frame.to,
        "to_session": frame.to_session,
        "type": frame.kind,
    });
    let bytes = jcs(contract.as_object().expect("an object"));
    let verified = frame
        .public_key
        .verify(Purpose::Sdp, &bytes, &frame.signature);
    assert_eq!(verified, Ok(()));

    let key = frame.public_key;
    let known: &dyn Fn(&AgentId) -> Option<PublicKey> = &|_| Some(key);
    assert_eq!(refused(frame, known), None);
    assert_eq!(refused(frame, &|_| None), Some(SdpReason::UnknownSource));
    let mismatch = refused(frame, &|_| Some(other_key()));
    assert_eq!(mismatch, Some(SdpReason::KeyMismatch));
    let mut changed = frame.clone();
    changed.sdp.push('\n');
    assert_eq!(refused(&changed, known), Some(SdpReason::BadSignature));

    let full = frame.witness_metadata(SdpDetail::Full);
    assert_eq!(full["frame"], json!(frame));
    let hash = frame.witness_metadata(SdpDetail::Hash);
    assert_eq!(hash["frame"][frame.kind.as_str()].get("sdp"), None);
    assert_eq!(hash["sdp_sha256"], full["sdp_sha256"]);
}

/// Why the agent it is for would refuse it.
fn refused(frame: &SdpFrame, key_of: &dyn Fn(&AgentId) -> Option<PublicKey>) -> Option<SdpReason> {
    let expect = SdpExpect {
        me: &frame.to,
        my_session: frame.to_session,
        swarm: &frame.swarm,
        key_of: &key_of,
    };
    let refusal = frame.verify(&expect).err()?;
    assert_one_line(&refusal.detail, MAX_DETAIL);
    Some(refusal.reason)
}

fn body(frame: &SdpFrame) -> SdpBody {
    SdpBody {
        swarm: frame.swarm.clone(),
        from: frame.from.clone(),
        to: frame.to.clone(),
        session: frame.session,
        to_session: frame.to_session,
        link: frame.link,
        kind: frame.kind,
        sdp: frame.sdp.clone(),
    }
}

/// Two ids or two keys, and our own words.
const MAX_DETAIL: usize = 400;
