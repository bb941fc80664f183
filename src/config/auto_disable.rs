//! `auto_disable`, of all servers and of one, whose own values stand above them; and `diagnostics`, what is written down
//! of one that was given up.

use super::fields::Fields;
use super::notes::Notes;
use super::read::path;
use super::span::{Allowed, Unit};
use super::{AutoDisable, Diagnostics, OwnAutoDisable};
use std::time::Duration;

/// What is used in place of an entry's value that cannot be read.
const GLOBAL: &str = "the global value";

pub fn of_all(fields: &mut Fields, default: &AutoDisable, notes: &mut Notes) -> AutoDisable {
    let mut section = fields.section("auto_disable", notes);
    let part = &mut section;
    let auto_disable = AutoDisable {
        enabled: part.flag("enabled", default.enabled, notes),
        failure_threshold: part.count("failure_threshold", 1..=1000, default.failure_threshold, notes),
        window: part
            .span(&["window_minutes"], Unit::Minutes, Allowed::SECONDS, "30m", notes)
            .unwrap_or(default.window),
        startup_attempts: part.count("startup_attempts", 1..=1000, default.startup_attempts, notes),
        probation: part.flag("probation", default.probation, notes),
        generate_reports: part.flag("generate_reports", default.generate_reports, notes),
    };
    section.finish(&[], notes);
    auto_disable
}

pub fn of_entry(fields: &mut Fields, notes: &mut Notes) -> OwnAutoDisable {
    let Some(field) = fields.take("auto_disable") else { return OwnAutoDisable::default() };
    let Some(mut section) = Fields::of(&field, notes) else {
        notes.error(&field.spot, field.unexpected("an object"), "the global values are used");
        return OwnAutoDisable::default();
    };
    let part = &mut section;
    let own = OwnAutoDisable {
        enabled: part.flag_or("enabled", GLOBAL, notes),
        failure_threshold: part.count_or("failure_threshold", 1..=1000, GLOBAL, notes),
        window: part.span(&["window_minutes"], Unit::Minutes, Allowed::SECONDS, GLOBAL, notes),
        startup_attempts: part.count_or("startup_attempts", 1..=1000, GLOBAL, notes),
        probation: part.flag_or("probation", GLOBAL, notes),
        generate_reports: part.flag_or("generate_reports", GLOBAL, notes),
    };
    section.finish(&[], notes);
    own
}

pub fn diagnostics(fields: &mut Fields, default: &Diagnostics, notes: &mut Notes) -> Diagnostics {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let mut section = fields.section("diagnostics", notes);
    let part = &mut section;
    let days = part.count("keep_reports_days", 1..=3650, 30, notes);
    let diagnostics = Diagnostics {
        enabled: part.flag("enabled", default.enabled, notes),
        report_directory: path(part, "report_directory", notes),
        keep_reports: DAY * days,
    };
    section.finish(&[], notes);
    diagnostics
}
