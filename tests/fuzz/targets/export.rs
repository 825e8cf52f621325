//! Exported logs: `Header::parse`, `Header::audit`.

use std::path::Path;

use ifswarm::witness::{AuditError, CheckError, Header, LogReader, check_reader};

use super::oracle::assert_one_line;

pub(super) fn target(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let (first, entries) = (parts.next(), parts.next().unwrap_or_default());
    let header = match Header::parse(first.unwrap_or_default()) {
        Ok(header) => header,
        Err(detail) => return assert_one_line(&detail, MAX_DETAIL),
    };
    let name = Path::new("export");
    let roster = header.roster().unwrap_or_else(|err| {
        assert_one_line(&err.to_string(), MAX_DETAIL);
        None
    });
    let audited = LogReader::new(entries, name).map_err(AuditError::from);
    match audited.and_then(|log| header.audit(log, roster.as_ref())) {
        Ok(audit) => {
            // The entries are a good log by themselves, and as many as the header says.
            let report = check_reader(entries, name).expect("a good log");
            assert_eq!(audit.report, report);
            assert_eq!(report.entries, header.entries);
            assert_eq!(audit.bytes, entries.len() as u64);
            let covered = audit.covered.unwrap_or(0);
            assert!(covered <= report.entries);
            assert!(audit.cosigners.values().all(|seen| *seen <= covered));
            assert!(
                audit
                    .cosigners
                    .keys()
                    .all(|id| id.as_str() != report.agent_id)
            );
        }
        Err(AuditError::Log(CheckError::Unreadable { source, .. })) => {
            panic!("memory can be read: {source}")
        }
        Err(err) => {
            assert!(err.reason().is_some());
            assert_one_line(&err.to_string(), MAX_DETAIL);
            let lines = entries.split(|byte| *byte == b'\n').count() as u64;
            assert!(err.line().is_none_or(|line| (1..=lines).contains(&line)));
        }
    }
}

/// Foreign text of 80 characters, escaped, two origins, and our own words.
const MAX_DETAIL: usize = 1_000;
