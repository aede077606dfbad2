//! What every C entry shares: borrowed and owned strings, status codes, and the guard that turns a
//! panic into an error.

use std::cell::Cell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

/// Mirrors `tk_status` in textkit.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    Ok = 0,
    InvalidArgument = 1,
    InvalidFile = 2,
    Unsupported = 3,
    TooLarge = 4,
    Internal = 5,
    Exhausted = 6,
}

#[derive(Debug)]
pub struct Failure {
    pub status: Status,
    pub message: String,
}

impl Failure {
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
    pub fn argument(message: impl Into<String>) -> Self {
        Self::new(Status::InvalidArgument, message)
    }
    pub fn file(message: impl Into<String>) -> Self {
        Self::new(Status::InvalidFile, message)
    }
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Status::Unsupported, message)
    }
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(Status::TooLarge, message)
    }
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Status::Internal, message)
    }
}

pub type Outcome<T> = Result<T, Failure>;

/// Bytes that the caller owns and keeps for the length of the call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Slice {
    pub data: *const u8,
    pub size: usize,
}

impl Slice {
    pub fn of(bytes: &[u8]) -> Self {
        Self { data: bytes.as_ptr(), size: bytes.len() }
    }

    /// # Safety
    /// `data` points to `size` readable bytes that outlive `'a`, or `size` is 0.
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        as_slice(self.data, self.size)
    }

    /// # Safety
    /// As for `bytes`.
    pub unsafe fn text<'a>(self, what: &str) -> Outcome<&'a str> {
        let bytes = self.bytes();
        std::str::from_utf8(bytes).map_err(|error| {
            Failure::argument(format!("{what} is not valid UTF-8 at byte {}", error.valid_up_to()))
        })
    }
}

/// # Safety
/// `data` points to `count` readable values that outlive `'a`, or `count` is 0.
pub unsafe fn as_slice<'a, T>(data: *const T, count: usize) -> &'a [T] {
    if count == 0 || data.is_null() {
        &[]
    } else {
        std::slice::from_raw_parts(data, count)
    }
}

/// Values handed to the caller, who gives them back to the `_free` function of their type.
#[repr(C)]
pub struct Owned<T> {
    pub data: *mut T,
    pub size: usize,
}

impl<T> Owned<T> {
    pub fn from_vec(values: Vec<T>) -> Self {
        let boxed = values.into_boxed_slice();
        let size = boxed.len();
        Self { data: Box::into_raw(boxed) as *mut T, size }
    }

    /// # Safety
    /// `self` came from `from_vec` and is not used again.
    pub unsafe fn release(&mut self) {
        if !self.data.is_null() {
            drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.data, self.size)));
        }
        self.data = std::ptr::null_mut();
        self.size = 0;
    }
}

pub type Buffer = Owned<u8>;
pub type Ids = Owned<i32>;

thread_local! {
    static IN_GUARD: Cell<bool> = const { Cell::new(false) };
}

/// A panic that we catch must not also print a trace to standard error: its text is in the error.
pub fn silence_guarded_panics() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IN_GUARD.with(Cell::get) {
                previous(info);
            }
        }));
    });
}

/// Runs `body` so that a panic becomes a `Failure`.
pub fn contain_panics<T>(body: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    silence_guarded_panics();
    let was_in_guard = IN_GUARD.with(|flag| flag.replace(true));
    let result = catch_unwind(AssertUnwindSafe(body));
    IN_GUARD.with(|flag| flag.set(was_in_guard));
    result.unwrap_or_else(|payload| {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(Failure::internal(format!("a library gave up: {text}")))
    })
}

/// The frame of every fallible C entry: runs `body`, stores its value in `out` or its message in
/// `error`.
///
/// # Safety
/// `out` is writable; `error` is writable or null.
pub unsafe fn enter<T>(out: *mut T, error: *mut Buffer, body: impl FnOnce() -> Outcome<T>) -> i32 {
    match contain_panics(body) {
        Ok(value) => {
            out.write(value);
            Status::Ok as i32
        }
        Err(failure) => {
            if !error.is_null() {
                error.write(Buffer::from_vec(failure.message.into_bytes()));
            }
            failure.status as i32
        }
    }
}

/// # Safety
/// `handle` came from the `_new` function of its type, or is null; it is not used again.
pub unsafe fn drop_handle<T>(handle: *mut T) {
    if !handle.is_null() {
        // A destructor that panics must not cross either; there is nobody to tell.
        let _ = contain_panics(|| {
            drop(Box::from_raw(handle));
            Ok(())
        });
    }
}

/// # Safety
/// `buffer` is null, or came from this library and is not used again.
#[no_mangle]
pub unsafe extern "C" fn tk_buffer_free(buffer: *mut Buffer) {
    if let Some(buffer) = buffer.as_mut() {
        buffer.release();
    }
}

/// # Safety
/// As for `tk_buffer_free`.
#[no_mangle]
pub unsafe extern "C" fn tk_ids_free(ids: *mut Ids) {
    if let Some(ids) = ids.as_mut() {
        ids.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_status_and_a_message() {
        let mut out = 7;
        let mut error = Buffer { data: std::ptr::null_mut(), size: 0 };
        // SAFETY: both are live.
        let status = unsafe {
            enter(&mut out, &mut error, || -> Outcome<i32> { panic!("deep {}", "inside") })
        };
        assert_eq!((status, out), (Status::Internal as i32, 7));
        let message = Slice { data: error.data, size: error.size };
        // SAFETY: the message was written by `enter`.
        assert!(unsafe { message.text("").unwrap() }.contains("deep inside"));
        unsafe { tk_buffer_free(&mut error) };
        assert!(error.data.is_null());
        unsafe { tk_buffer_free(&mut error) };
    }
}
