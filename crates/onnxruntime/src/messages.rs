//! The runtime's words, as users are told them: a line without the places in the runtime's own source.

/// The runtime's errors may quote whole graphs.
const CHARS_MAX: usize = 600;
/// How the names of its source files end, before the number of a line.
const SOURCE_ENDINGS: [&str; 5] = [".cc:", ".h:", ".cpp:", ".hpp:", ".inc:"];

/// The first line of a message without places in source files, and without its end if it is long.
pub(crate) fn shortened(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = without_places(line);
    line.chars().take(CHARS_MAX).collect()
}

/// Leaves out `/path/file.cc:12 function(arguments) condition was false. `, which says nothing to who does not build the runtime.
fn without_places(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = split_at_place(rest) {
        text.push_str(before);
        rest = without_condition(without_function(after.trim_start()));
    }
    text.push_str(rest);
    text.trim().to_owned()
}

/// Splits a text around the first word that is a line of a source file.
fn split_at_place(text: &str) -> Option<(&str, &str)> {
    let mut from = 0_usize;
    for word in text.split_inclusive(' ') {
        let end = from.saturating_add(word.len());
        let is_place = SOURCE_ENDINGS.iter().any(|ending| {
            let after = word.split_once(ending).map(|(_, after)| after);
            after.is_some_and(|after| after.starts_with(|letter: char| letter.is_ascii_digit()))
        });
        if is_place {
            // What comes before the path may be part of the word: `failed:/path`.
            let start = from.saturating_add(word.find('/').unwrap_or(0));
            return text.get(..start).zip(text.get(end..));
        }
        from = end;
    }
    None
}

/// Leaves out the function that a text begins with: its name, its arguments, and what may follow them.
fn without_function(text: &str) -> &str {
    let Some((name, arguments)) = text.split_once('(') else {
        return text;
    };
    // A sentence is no name.
    if name.contains(['\'', '"', '{']) || name.contains(". ") {
        return text;
    }
    let Some(mut rest) = after_closing(arguments, '(', ')') else {
        return text;
    };
    for word in [" const", " noexcept"] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    if let Some(inner) = rest.trim_start().strip_prefix("[with ") {
        rest = after_closing(inner, '[', ']').unwrap_or(rest);
    }
    rest.trim_start()
}

/// Returns what comes after the bracket that closes the one before `text`.
fn after_closing(text: &str, open: char, close: char) -> Option<&str> {
    let mut depth = 1_usize;
    for (place, letter) in text.char_indices() {
        if letter == open {
            depth = depth.saturating_add(1);
        } else if letter == close {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return text.get(place.saturating_add(1)..);
            }
        }
    }
    None
}

/// Leaves out the condition that did not hold, where something is said of it.
fn without_condition(text: &str) -> &str {
    match text.split_once(" was false. ") {
        Some((_, said)) if !said.trim().is_empty() => said,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_source_files_are_left_out() {
        let cases = [
            (
                "Non-zero status code returned while running Reshape node. Name:'' Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/tensor/reshape_helper.h:45 onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, onnxruntime::TensorShapeVector&, bool) size != 0 && (input_shape_size % size) == 0 was false. The input tensor cannot be reshaped to the requested shape. Input shape:{1,2}, requested shape:{-1,7}",
                "Non-zero status code returned while running Reshape node. Name:'' Status Message: The input tensor cannot be reshaped to the requested shape. Input shape:{1,2}, requested shape:{-1,7}",
            ),
            (
                "failed:/src/core/graph/model.cc:182 onnxruntime::Model::Model(int, std::function<void(int)>) const [with T = a[2]] Unsupported model IR version: 12",
                "failed:Unsupported model IR version: 12",
            ),
            ("/src/a.cc:1 f(int) x > 0 was false. ", "x > 0 was false."),
            ("/src/a.cc:1 nothing more", "nothing more"),
            (
                "indices element out of data bounds, idx=99",
                "indices element out of data bounds, idx=99",
            ),
            ("a.h: of no line", "a.h: of no line"),
            ("/src/a.cc:1", ""),
            ("first\nsecond", "first"),
        ];
        for (message, expected) in cases {
            assert_eq!(shortened(message), expected);
        }
    }
}
