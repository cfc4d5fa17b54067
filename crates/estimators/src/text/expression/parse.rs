//! Reads patterns as Python's `re` does.

use std::collections::HashMap;

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use super::{Fold, Node, Parsed, Place, Taste, case};
use crate::text::characters::{digits, spaces, words};

/// The most characters of a pattern.
const PATTERN_CHARS_MAX: usize = 4096;

/// The deepest nesting of groups.
const DEPTH_MAX: usize = 64;

const IGNORE_CASE: u8 = 1;
const MULTI_LINE: u8 = 2;
const DOT_ALL: u8 = 4;
const VERBOSE: u8 = 8;
const ASCII: u8 = 16;

/// Reads a pattern.
///
/// # Errors
/// What it holds that is no Python, or not supported.
pub(in super::super) fn parse(pattern: &str) -> Result<Parsed, String> {
    let characters: Vec<char> = pattern.chars().collect();
    if characters.len() > PATTERN_CHARS_MAX {
        return Err(format!("more than {PATTERN_CHARS_MAX} characters"));
    }
    let mut flags = 0;
    loop {
        let mut parser = Parser {
            rest: &characters,
            at: 0,
            flags,
            widths: vec![None],
            names: HashMap::new(),
            depth: 0,
        };
        let node = parser.either(flags)?;
        if parser.peek().is_some() {
            return Err("an unbalanced ')'".to_owned());
        }
        // Flags of the whole pattern hold before the place where they stand, too.
        if parser.flags == flags {
            let n_groups = parser.widths.len() - 1;
            return Ok(Parsed { node, n_groups });
        }
        flags = parser.flags;
    }
}

struct Parser<'c> {
    rest: &'c [char],
    at: usize,
    /// Those of the whole pattern.
    flags: u8,
    /// How many characters each group has, where that is one number; the first is not used.
    widths: Vec<Option<u32>>,
    names: HashMap<String, usize>,
    depth: usize,
}

/// What a repetition would repeat.
enum Last {
    /// A place of the text, which nothing repeats.
    Place,
    /// Another repetition, which is none of Python's unless it is a group.
    Repetition,
    Other,
}

/// One member of a class.
enum Member {
    Character(char),
    Category(ClassUnicode),
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.at += 1;
        Some(character)
    }

    fn takes(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn until(&mut self, end: char) -> Result<String, String> {
        let mut text = String::new();
        loop {
            match self.next() {
                Some(character) if character == end => return Ok(text),
                Some(character) => text.push(character),
                None => return Err(format!("no '{end}' at its end")),
            }
        }
    }

    fn either(&mut self, flags: u8) -> Result<Node, String> {
        let first = self.sequence(flags)?;
        if self.peek() != Some('|') {
            return Ok(first);
        }
        let mut nodes = vec![first];
        while self.takes('|') {
            nodes.push(self.sequence(flags)?);
        }
        Ok(Node::Either(nodes))
    }

    fn sequence(&mut self, flags: u8) -> Result<Node, String> {
        let mut nodes = Vec::new();
        let mut last = Last::Other;
        while let Some(character) = self.peek().filter(|c| !matches!(c, ')' | '|')) {
            self.at += 1;
            if flags & VERBOSE != 0 && matches!(character, ' ' | '\t'..='\r') {
                continue;
            }
            if flags & VERBOSE != 0 && character == '#' {
                while self.next().is_some_and(|character| character != '\n') {}
                continue;
            }
            if let Some((min, max)) = self.bounds(character)? {
                let node = nodes.pop().ok_or("nothing to repeat")?;
                match last {
                    Last::Place => return Err("nothing to repeat".to_owned()),
                    Last::Repetition => return Err("multiple repeat".to_owned()),
                    Last::Other => {}
                }
                nodes.push(self.repeat(node, min, max));
                last = Last::Repetition;
                continue;
            }
            let node = match character {
                '\\' => Some(self.escape(flags)?),
                '[' => Some(self.class(flags)?),
                '(' => self.group(flags)?,
                '.' => Some(Node::Set(any(flags))),
                '^' if flags & MULTI_LINE != 0 => Some(Node::Place(Place::LineStart)),
                '^' => Some(Node::Place(Place::Start)),
                '$' if flags & MULTI_LINE != 0 => Some(Node::Place(Place::LineEnd)),
                '$' => Some(Node::Place(Place::End)),
                literal => Some(Node::Set(character_set(literal, flags))),
            };
            if let Some(node) = node {
                // A group may be repeated, whatever it holds.
                last = match node {
                    Node::Place(_) if character != '(' => Last::Place,
                    _ => Last::Other,
                };
                nodes.push(node);
            }
        }
        match nodes.len() {
            1 => nodes.pop().ok_or_else(String::new),
            _ => Ok(Node::Sequence(nodes)),
        }
    }

    /// Reads `*`, `+`, `?`, `{m}`, `{m,}`, `{,n}` or `{m,n}`; anything else in braces is literal.
    fn bounds(&mut self, character: char) -> Result<Option<(u32, Option<u32>)>, String> {
        Ok(match character {
            '*' => Some((0, None)),
            '+' => Some((1, None)),
            '?' => Some((0, Some(1))),
            '{' if self.peek() != Some('}') => {
                let before = self.at;
                let low = self.digits();
                let (has_comma, high) = match self.takes(',') {
                    true => (true, self.digits()),
                    false => (false, low.clone()),
                };
                if !self.takes('}') || (low.is_empty() && !has_comma) {
                    self.at = before;
                    return Ok(None);
                }
                let number = |text: &str| {
                    text.parse::<u32>()
                        .ok()
                        .filter(|&number| number < u32::MAX)
                        .ok_or_else(|| format!("so many repetitions ({text})"))
                };
                let min = if low.is_empty() { 0 } else { number(&low)? };
                let max = match high.as_str() {
                    "" => None,
                    high => Some(number(high)?),
                };
                if max.is_some_and(|max| max < min) {
                    return Err("repetitions with fewer at most than at least".to_owned());
                }
                Some((min, max))
            }
            _ => None,
        })
    }

    fn digits(&mut self) -> String {
        let mut digits = String::new();
        while let Some(digit) = self.peek().filter(char::is_ascii_digit) {
            self.at += 1;
            digits.push(digit);
        }
        digits
    }

    fn repeat(&mut self, node: Node, min: u32, max: Option<u32>) -> Node {
        let taste = match self.peek() {
            Some('?') => Taste::Lazy,
            Some('+') => Taste::Possessive,
            _ => Taste::Greedy,
        };
        self.at += usize::from(taste != Taste::Greedy);
        Node::Repeat {
            node: Box::new(node),
            min,
            max,
            taste,
        }
    }

    /// Reads what follows a parenthesis; comments and flags of the whole pattern are nothing.
    fn group(&mut self, flags: u8) -> Result<Option<Node>, String> {
        if !self.takes('?') {
            return self.capture(None, flags).map(Some);
        }
        Ok(Some(match self.next() {
            Some('P') if self.takes('<') => {
                let name = self.until('>')?;
                self.capture(Some(name), flags)?
            }
            Some('P') if self.takes('=') => {
                let name = self.until(')')?;
                Node::Reference(self.named(&name)?, fold(flags))
            }
            Some(':') => self.inner(flags)?,
            Some('>') => Node::Atomic(Box::new(self.inner(flags)?)),
            Some('=') => self.look(false, false, flags)?,
            Some('!') => self.look(true, false, flags)?,
            Some('<') if self.takes('=') => self.look(false, true, flags)?,
            Some('<') if self.takes('!') => self.look(true, true, flags)?,
            Some('#') => {
                self.until(')')?;
                return Ok(None);
            }
            Some('(') => self.condition(flags)?,
            Some(first) if first == '-' || first.is_ascii_alphabetic() => {
                self.at -= 1;
                return self.flagged(flags);
            }
            Some(other) => return Err(format!("the group '(?{other}'")),
            None => return Err("an open group".to_owned()),
        }))
    }

    fn deeper(&mut self) -> Result<(), String> {
        self.depth += 1;
        match self.depth > DEPTH_MAX {
            true => Err(format!("groups nested more than {DEPTH_MAX} deep")),
            false => Ok(()),
        }
    }

    /// Reads a group's content up to its parenthesis.
    fn inner(&mut self, flags: u8) -> Result<Node, String> {
        self.deeper()?;
        let node = self.either(flags)?;
        self.depth -= 1;
        match self.takes(')') {
            true => Ok(node),
            false => Err("an open group".to_owned()),
        }
    }

    fn capture(&mut self, name: Option<String>, flags: u8) -> Result<Node, String> {
        let index = self.widths.len();
        self.widths.push(None);
        if let Some(name) = name {
            self.names.insert(name, index);
        }
        let node = self.inner(flags)?;
        self.widths[index] = node.width(&self.widths);
        Ok(Node::Group(index, Box::new(node)))
    }

    fn look(&mut self, negated: bool, is_behind: bool, flags: u8) -> Result<Node, String> {
        let node = self.inner(flags)?;
        let behind = match is_behind {
            true => Some(
                node.width(&self.widths)
                    .ok_or("a look behind of no one width")?,
            ),
            false => None,
        };
        Ok(Node::Look {
            node: Box::new(node),
            negated,
            behind,
        })
    }

    fn condition(&mut self, flags: u8) -> Result<Node, String> {
        let name = self.until(')')?;
        let group = self.named(&name)?;
        self.deeper()?;
        let yes = Box::new(self.sequence(flags)?);
        let no = match self.takes('|') {
            true => self.sequence(flags)?,
            false => Node::Sequence(Vec::new()),
        };
        self.depth -= 1;
        let no = Box::new(no);
        match self.takes(')') {
            true => Ok(Node::Condition { group, yes, no }),
            false => Err("a condition without an end, or with more than two branches".to_owned()),
        }
    }

    /// Returns the group of this name or number.
    fn named(&self, name: &str) -> Result<usize, String> {
        let index = match name.parse::<usize>() {
            Ok(index) => Some(index).filter(|index| (1..self.widths.len()).contains(index)),
            Err(_) => self.names.get(name).copied(),
        };
        index.ok_or_else(|| format!("a reference to the group '{name}', which is not there"))
    }

    /// Reads flags, and the group they are for.
    fn flagged(&mut self, flags: u8) -> Result<Option<Node>, String> {
        let (mut on, mut off) = (0, 0);
        let mut is_on = true;
        loop {
            let flag = match self.next() {
                Some(')') if is_on => {
                    self.flags |= on;
                    return Ok(None);
                }
                Some(':') => return self.inner((flags | on) & !off).map(Some),
                Some('-') if is_on => {
                    is_on = false;
                    continue;
                }
                Some('i') => IGNORE_CASE,
                Some('m') => MULTI_LINE,
                Some('s') => DOT_ALL,
                Some('x') => VERBOSE,
                Some('a') => ASCII,
                // Texts are matched by Unicode anyway, unless a group around this one says otherwise.
                Some('u') => {
                    off |= ASCII;
                    continue;
                }
                Some(other) => return Err(format!("the flag '{other}'")),
                None => return Err("an open group".to_owned()),
            };
            match is_on {
                true => on |= flag,
                false => off |= flag,
            }
        }
    }

    fn escape(&mut self, flags: u8) -> Result<Node, String> {
        let character = self.next().ok_or("a lone backslash")?;
        let ascii = flags & ASCII != 0;
        Ok(match character {
            'A' => Node::Place(Place::Start),
            'Z' | 'z' => Node::Place(Place::VeryEnd),
            'b' | 'B' => Node::Place(Place::Boundary {
                ascii,
                negated: character == 'B',
            }),
            '1'..='9' => match self.octal_of_three(character) {
                Some(octal) => Node::Set(character_set(octal, flags)),
                None => {
                    let mut name = character.to_string();
                    name.extend(self.peek().filter(char::is_ascii_digit));
                    self.at += name.len() - 1;
                    Node::Reference(self.named(&name)?, fold(flags))
                }
            },
            _ => match self.member(character, flags)? {
                Member::Character(literal) => Node::Set(character_set(literal, flags)),
                Member::Category(set) => Node::Set(set),
            },
        })
    }

    /// Reads the other two digits of an octal number of three, if that is what it is.
    fn octal_of_three(&mut self, first: char) -> Option<char> {
        let second = self.rest.get(self.at)?.to_digit(8)?;
        let third = self.rest.get(self.at + 1)?.to_digit(8)?;
        let value = (first.to_digit(8)? * 8 + second) * 8 + third;
        self.at += 2;
        char::from_u32(value)
    }

    /// Returns what an escaped character stands for, inside or outside a class.
    fn member(&mut self, character: char, flags: u8) -> Result<Member, String> {
        let ascii = flags & ASCII != 0;
        let category = |set: &ClassUnicode, negated: bool| {
            let mut set = set.clone();
            if ascii {
                set.intersect(&range('\0', '\x7f'));
            }
            if negated {
                set.negate();
            }
            Ok(Member::Category(set))
        };
        Ok(Member::Character(match character {
            'w' | 'W' => return category(words(), character == 'W'),
            'd' | 'D' => return category(digits(), character == 'D'),
            's' | 'S' if ascii => {
                let mut set = range('\t', '\r');
                set.union(&range(' ', ' '));
                return category(&set, character == 'S');
            }
            's' | 'S' => return category(spaces(), character == 'S'),
            'a' => '\x07',
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'f' => '\x0c',
            'v' => '\x0b',
            '0' => self.number(2, 8, 0)?,
            'x' => self.number(2, 16, 2)?,
            'u' => self.number(4, 16, 4)?,
            'U' => self.number(8, 16, 8)?,
            _ if character.is_ascii_alphanumeric() => {
                return Err(format!("'\\{character}'"));
            }
            literal => literal,
        }))
    }

    /// Reads a character's number of at most `n_max` digits and at least `n_min`.
    fn number(&mut self, n_max: usize, radix: u32, n_min: usize) -> Result<char, String> {
        let mut value = 0_u32;
        let mut n_digits = 0;
        while let Some(digit) = self
            .peek()
            .and_then(|c| c.to_digit(radix))
            .filter(|_| n_digits < n_max)
        {
            self.at += 1;
            n_digits += 1;
            value = value.wrapping_mul(radix).wrapping_add(digit);
        }
        char::from_u32(value)
            .filter(|_| n_digits >= n_min)
            .ok_or_else(|| "an escape of no character".to_owned())
    }

    fn class(&mut self, flags: u8) -> Result<Node, String> {
        let negated = self.takes('^');
        let mut listed = Vec::new();
        let mut categories = ClassUnicode::empty();
        let mut is_first = true;
        loop {
            let character = self.next().ok_or("an open class")?;
            if character == ']' && !is_first {
                break;
            }
            is_first = false;
            let start = match self.class_member(character, flags)? {
                Member::Category(set) => {
                    categories.union(&set);
                    continue;
                }
                Member::Character(start) => start,
            };
            let is_range = self.peek() == Some('-')
                && self.rest.get(self.at + 1).is_some_and(|&next| next != ']');
            let mut end = start;
            if is_range {
                self.at += 1;
                let last = self.next().ok_or("an open class")?;
                end = match self.class_member(last, flags)? {
                    Member::Character(end) if end >= start => end,
                    _ => return Err("a range without an end".to_owned()),
                };
            }
            listed.push(ClassUnicodeRange::new(start, end));
        }
        let listed = ClassUnicode::new(listed);
        Ok(Node::Set(case::class(
            &listed,
            &categories,
            negated,
            fold(flags),
        )))
    }

    fn class_member(&mut self, character: char, flags: u8) -> Result<Member, String> {
        if character != '\\' {
            return Ok(Member::Character(character));
        }
        match self.next().ok_or("a lone backslash")? {
            'b' => Ok(Member::Character('\x08')),
            '1'..='7' => {
                self.at -= 1;
                self.number(3, 8, 1).map(Member::Character)
            }
            escaped => self.member(escaped, flags),
        }
    }
}

fn fold(flags: u8) -> Fold {
    match (flags & IGNORE_CASE != 0, flags & ASCII != 0) {
        (false, _) => Fold::None,
        (true, true) => Fold::Ascii,
        (true, false) => Fold::Unicode,
    }
}

fn range(start: char, end: char) -> ClassUnicode {
    ClassUnicode::new([ClassUnicodeRange::new(start, end)])
}

fn any(flags: u8) -> ClassUnicode {
    let mut set = range('\0', char::MAX);
    if flags & DOT_ALL == 0 {
        set.difference(&range('\n', '\n'));
    }
    set
}

fn character_set(character: char, flags: u8) -> ClassUnicode {
    case::class(
        &range(character, character),
        &ClassUnicode::empty(),
        false,
        fold(flags),
    )
}
