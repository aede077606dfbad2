//! The C entries of `template`.

use crate::abi::{drop_handle, enter, Buffer, Slice};
use crate::template::Template;

/// # Safety
/// `source` is readable, `out` writable.
#[no_mangle]
pub unsafe extern "C" fn tk_template_new(
    source: Slice,
    out: *mut *mut Template,
    error: *mut Buffer,
) -> i32 {
    enter(out, error, || {
        let template = Template::new(source.text("the chat template")?)?;
        Ok(Box::into_raw(Box::new(template)))
    })
}

/// # Safety
/// `template` came from `tk_template_new` or is null, and is not used again.
#[no_mangle]
pub unsafe extern "C" fn tk_template_free(template: *mut Template) {
    drop_handle(template);
}

/// # Safety
/// `template` is live, `context` readable, `out` writable.
#[no_mangle]
pub unsafe extern "C" fn tk_template_render(
    template: *const Template,
    context: Slice,
    now_unix_seconds: i64,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    enter(out, error, || {
        let text = (*template).render(context.text("the messages")?, now_unix_seconds)?;
        Ok(Buffer::from_vec(text.into_bytes()))
    })
}
