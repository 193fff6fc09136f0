//! The results as one self-contained page.

use crate::Failure;
use crate::report::Report;

/// The page with the report inside.
pub(crate) fn of(report: &Report) -> Result<String, Failure> {
    // Inside a script element only its end tag would end it.
    let data = serde_json::to_string(report)?.replace('<', "\\u003c");
    Ok(include_str!("page.html").replace("{report}", &data))
}
