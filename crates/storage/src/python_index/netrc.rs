//! Who asks a host, by the file `.netrc`: machines with names and passwords.

/// The most bytes that are looked at.
const BYTES_MAX: usize = 1 << 20;

/// Returns the name and the password for a host: those of its machine, else of `default`.
pub(super) fn login(text: &str, host: &str) -> Option<(String, String)> {
    let text = text.get(..BYTES_MAX).unwrap_or(text);
    // Of the host's machine, and of any other.
    let mut found: [Option<(String, String)>; 2] = [None, None];
    // Whose are read, and to whom they belong; `None` where it is another machine.
    let mut current: Option<(usize, (String, String))> = None;
    let mut is_in_macro = false;
    for line in text.lines() {
        // A macro ends with an empty line.
        is_in_macro &= !line.trim().is_empty();
        if is_in_macro {
            continue;
        }
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            match word {
                _ if word.starts_with('#') => break,
                "machine" | "default" => {
                    note(&mut found, current.take());
                    current = match word {
                        "default" => Some((1, Default::default())),
                        _ if words.next() == Some(host) => Some((0, Default::default())),
                        _ => None,
                    };
                }
                "login" | "user" | "password" => {
                    let value = words.next().unwrap_or_default().trim_matches('"');
                    if let Some((_, (name, password))) = &mut current {
                        let place = if word == "password" { password } else { name };
                        *place = value.to_owned();
                    }
                }
                "account" => drop(words.next()),
                "macdef" => {
                    is_in_macro = true;
                    break;
                }
                _ => {}
            }
        }
    }
    note(&mut found, current);
    let [of_machine, of_any] = found;
    of_machine.or(of_any)
}

/// Keeps what comes first of its kind.
fn note(found: &mut [Option<(String, String)>; 2], read: Option<(usize, (String, String))>) {
    if let Some((of, pair)) = read
        && let Some(place) = found.get_mut(of)
    {
        place.get_or_insert(pair);
    }
}

#[cfg(test)]
mod tests {
    use super::login;

    #[test]
    fn the_first_machine_of_a_host_counts() {
        let text = "# ours\nmachine other.example login no password wrong\nmacdef init\nmachine index.example login in password macro\n\n\
                    machine index.example\n  login me account x\n  password \"s#cret\"\nmachine index.example login later password later\ndefault login any password anyone\n";
        let pair = |host| login(text, host);
        let of = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
        assert_eq!(pair("index.example"), of("me", "s#cret"));
        assert_eq!(pair("other.example"), of("no", "wrong"));
        assert_eq!(pair("elsewhere.example"), of("any", "anyone"));
        let text = "default login any password anyone\nmachine a login me password mine\n";
        assert_eq!(login(text, "a"), of("me", "mine"));
        assert_eq!(login(text, "b"), of("any", "anyone"));
        assert_eq!(login("machine a login b", "c"), None);
        assert_eq!(login("machine", "c"), None);
    }
}
