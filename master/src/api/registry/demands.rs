//! What a write demands of the object that it replaces, and the words of the refusal.

use protocol::ApiError;

use super::Subject;
use crate::api::invalid::{Errors, Path, check};
use crate::api::kinds;

/// Refuses a replacement of an object that is another one by now.
pub(super) fn same_object(subject: &Subject<'_>, wanted: &str, uid: &str, dry: bool) -> Result<(), ApiError> {
    if wanted.is_empty() || wanted == uid {
        return Ok(());
    }
    Err(unmet(subject, "UID", wanted, uid, dry))
}

/// The refusal of a write whose demand, a UID or a ResourceVersion, the object that is found does not meet.
pub(in crate::api) fn unmet(
    subject: &Subject<'_>,
    what: &str,
    wanted: &str,
    found: &str,
    dry: bool,
) -> ApiError {
    let resource = subject.resource;
    let root = if dry { "" } else { "/registry" };
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {root}{}, ResourceVersion: 0, AdditionalErrorMsg: Precondition \
         failed: {what} in precondition: {wanted}, {what} in object meta: {found}",
        kinds::place(subject.stored, subject.namespace, subject.name)
    );
    ApiError::conflict(resource.group, resource.plural, subject.name, &why)
}

/// Refuses a write that names no revision, of a kind whose writes must.
pub(super) fn a_revision(subject: &Subject<'_>) -> Result<(), ApiError> {
    let mut errors = Errors::default();
    errors.invalid(&Path::new("metadata.resourceVersion"), 0, "must be specified for an update");
    check(errors, subject.resource.group, subject.resource.plural, subject.name)
}
