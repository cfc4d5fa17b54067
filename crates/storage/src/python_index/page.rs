//! The page of a package: its files, as JSON (PEP 691) or HTML (PEP 503).
#![deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]

use std::collections::BTreeMap;

use serde::Deserialize;

/// The most files that a package may have.
const LINKS_MAX: usize = 200_000;

/// A file of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) file_name: String,
    /// Absolute, or relative to the page.
    pub(super) url: String,
    /// In lower case.
    pub(super) sha256: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    files: Vec<PageFile>,
}

#[derive(Deserialize)]
struct PageFile {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
    #[serde(default)]
    yanked: Option<serde_json::Value>,
}

/// Returns the files of a page that were not withdrawn.
pub(super) fn links(page: &[u8]) -> Result<Vec<Link>, String> {
    let text = str::from_utf8(page).map_err(|_not_text| "the listing is no text".to_owned())?;
    let links = match text.trim_start().starts_with('{') {
        true => json_links(text)?,
        false => html_links(text),
    };
    match links.len() > LINKS_MAX {
        true => Err(format!("the listing has more than {LINKS_MAX} files")),
        false => Ok(links),
    }
}

fn json_links(text: &str) -> Result<Vec<Link>, String> {
    let page: Page = serde_json::from_str(text)
        .map_err(|error| format!("the listing is no sound JSON: {error}"))?;
    let is_yanked = |file: &PageFile| {
        let yanked = file.yanked.as_ref();
        yanked.is_some_and(|yanked| *yanked != serde_json::Value::Bool(false) && !yanked.is_null())
    };
    let files = page.files.into_iter().filter(|file| !is_yanked(file));
    let links = files.map(|file| Link {
        sha256: file
            .hashes
            .get("sha256")
            .and_then(|text| sound_sha256(text)),
        file_name: file.filename,
        url: file.url,
    });
    Ok(links.collect())
}

/// Reads `<a href="URL#sha256=...">NAME</a>`, which is all there is on such a page.
fn html_links(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("<a") {
        let Some((attributes, after)) = after.split_once('>') else {
            break;
        };
        let Some((name, _)) = after.split_once('<') else {
            break;
        };
        let is_anchor = attributes.starts_with(|letter: char| letter.is_whitespace());
        let href = attribute(attributes, "href").filter(|_| is_anchor);
        if let Some(href) = href
            && attribute(attributes, "data-yanked").is_none()
        {
            let href = unescaped(href);
            let (url, fragment) = href.split_once('#').unwrap_or((&href, ""));
            let sha256 = fragment
                .split('&')
                .find_map(|part| part.strip_prefix("sha256="));
            links.push(Link {
                file_name: unescaped(name.trim()),
                sha256: sha256.and_then(sound_sha256),
                url: url.to_owned(),
            });
        }
        rest = after;
        if links.len() > LINKS_MAX {
            break;
        }
    }
    links
}

/// Returns the quoted value of an attribute.
fn attribute<'t>(attributes: &'t str, name: &str) -> Option<&'t str> {
    let mut rest = attributes;
    loop {
        let (before, after) = rest.split_once(name)?;
        rest = after;
        if !before.ends_with(|letter: char| letter.is_whitespace()) {
            continue;
        }
        let Some(value) = after.trim_start().strip_prefix('=') else {
            // An attribute without a value is there, too.
            return Some("");
        };
        let value = value.trim_start();
        let quote = value
            .chars()
            .next()
            .filter(|quote| ['"', '\''].contains(quote))?;
        return value.strip_prefix(quote)?.split(quote).next();
    }
}

fn unescaped(text: &str) -> String {
    text.replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

fn sound_sha256(text: &str) -> Option<String> {
    let is_sound = text.len() == 64 && text.chars().all(|letter| letter.is_ascii_hexdigit());
    is_sound.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f";

    fn link(file_name: &str, url: &str, sha256: Option<&str>) -> Link {
        Link {
            file_name: file_name.to_owned(),
            url: url.to_owned(),
            sha256: sha256.map(str::to_owned),
        }
    }

    #[test]
    fn both_forms_are_read() {
        let html = format!(
            "<!DOCTYPE html><html><body>\n<abbr>x</abbr><a href=\"../../p/a-1.whl#sha256={HASH}\" \
             data-requires-python=\"&gt;=3.11\">a-1.whl</a><br/>\n\
             <a data-yanked=\"bad\" href='a-2.whl'>a-2.whl</a>\
             <a href='a-3.whl?x=1&amp;y=2#md5=00'> a-3.whl </a></body></html>"
        );
        let expected = [
            link("a-1.whl", "../../p/a-1.whl", Some(HASH)),
            link("a-3.whl", "a-3.whl?x=1&y=2", None),
        ];
        assert_eq!(links(html.as_bytes()).unwrap(), expected);
        let json = format!(
            r#"{{"meta": {{"api-version": "1.1"}}, "name": "a", "files": [
                {{"filename": "a-1.whl", "url": "../../p/a-1.whl", "hashes": {{"sha256": "{}"}}, "yanked": false}},
                {{"filename": "a-2.whl", "url": "a-2.whl", "hashes": {{}}, "yanked": "bad"}},
                {{"filename": "a-3.whl", "url": "a-3.whl?x=1&y=2", "hashes": {{"sha256": "short"}}}}]}}"#,
            HASH.to_ascii_uppercase()
        );
        assert_eq!(links(json.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn pages_cut_anywhere_are_no_end() {
        let html = format!("<a href=\"a-1.whl#sha256={HASH}\">a-1.whl</a><a href='b.whl'>b</a>");
        for end in 0..=html.len() {
            let found = links(&html.as_bytes()[..end]).unwrap();
            assert!(found.len() <= 2);
        }
        assert!(links(b"{\"files\": [").is_err());
        assert!(links(&[0xff, 0xfe]).is_err());
    }
}
