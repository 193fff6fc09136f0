//! Frames of the handshake: a length and that many bytes.

use crate::cluster::wire::WireError;

/// The longest frame before authentication; a handshake is far shorter.
pub(crate) const HANDSHAKE_MAX: usize = 4 << 10;

/// Appends a frame whose content is written by `fill`.
///
/// # Errors
///
/// `FrameTooLong` if no receiver would accept it; `out` is unchanged.
pub(crate) fn frame(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) -> Result<(), WireError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    fill(out);
    let len = out.len() - start - HEAD;
    if len > HANDSHAKE_MAX {
        out.truncate(start);
        return Err(WireError::FrameTooLong);
    }
    // The length fits: it is at most `HANDSHAKE_MAX`.
    let head = (len as u32).to_be_bytes();
    out[start..start + HEAD].copy_from_slice(&head);
    Ok(())
}

/// Splits the first frame off `bytes`; `None` while it is incomplete.
///
/// # Errors
///
/// `FrameTooLong` as soon as the length is complete and exceeds `max`.
pub(crate) fn next_frame(bytes: &[u8], max: usize) -> Result<Option<SplitFrame<'_>>, WireError> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes(*head) as usize;
    if len > max {
        return Err(WireError::FrameTooLong);
    }
    Ok(rest.split_at_checked(len))
}

/// A frame's content, and the bytes after it.
pub(crate) type SplitFrame<'a> = (&'a [u8], &'a [u8]);

/// The size of a frame's length field.
pub(crate) const HEAD: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// N-02, N-04, N-07.
    #[test]
    fn frames_come_out_as_they_went_in_wherever_the_stream_is_cut() {
        let mut stream = Vec::new();
        for content in [&b"one"[..], b"", b"three"] {
            frame(&mut stream, |out| out.extend_from_slice(content)).unwrap();
        }
        for cut in 0..=stream.len() {
            let mut contents = Vec::new();
            let mut rest = &stream[..cut];
            while let Some((content, more)) = next_frame(rest, HANDSHAKE_MAX).unwrap() {
                contents.push(content);
                rest = more;
            }
            let all = [&b"one"[..], b"", b"three"];
            assert_eq!(contents, all[..contents.len()]);
            assert_eq!(contents.len() == 3, cut == stream.len());
        }
    }

    /// N-02, N-04, N-07.
    #[test]
    fn a_length_over_the_limit_is_refused_before_its_content_arrives() {
        let head = (HANDSHAKE_MAX as u32 + 1).to_be_bytes();
        let refused = next_frame(&head, HANDSHAKE_MAX);
        assert_eq!(refused, Err(WireError::FrameTooLong));
    }

    #[test]
    fn a_frame_that_no_receiver_would_accept_is_not_sent() {
        let mut out = b"before".to_vec();
        let refused = frame(&mut out, |out| out.resize(HANDSHAKE_MAX + 100, 0));
        assert_eq!(refused, Err(WireError::FrameTooLong));
        assert_eq!(out, b"before");
    }
}
