//! Searches by backtracking, in the order of Python's own engine, with a bound on the steps.

use super::Fold;
use super::case::lower;
use super::program::{Characters, Program, Step};
use super::{Place, Taste};
use crate::text::characters::is_word;

/// How many steps the texts of a call may take, beside those for their lengths.
const STEPS_MAX: u64 = 5_000_000;

/// How many steps each byte of a text allows beside those.
const STEPS_PER_BYTE: u64 = 64;

/// How many choices may be open at a time.
const CHOICES_MAX: usize = 1 << 20;

/// Where nothing is.
const NOWHERE: usize = usize::MAX;

/// The steps that are left to the texts of a call.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Steps(u64);

impl Default for Steps {
    fn default() -> Self {
        Self(STEPS_MAX)
    }
}

/// A text took more steps than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct OutOfSteps;

/// Calls `token` with what `re.findall` returns for `text`: the matches, or what the one group matched.
///
/// # Errors
/// [`OutOfSteps`] if the search takes more than the steps that are left and 64 for each byte.
pub(in super::super) fn each_token<'t>(
    program: &Program,
    text: &'t str,
    steps: &mut Steps,
    token: impl FnMut(&'t str),
) -> Result<(), OutOfSteps> {
    let mut search = Search::new(program, text, *steps);
    let found = search.each(token);
    // What a text has for its length is not another's.
    steps.0 = steps.0.min(search.steps_left);
    found
}

/// What a repetition has done.
#[derive(Clone, Copy, Debug)]
struct Counter {
    count: u32,
    /// Where the last repetition that need not be began.
    last: usize,
}

/// What to do when the way that was taken led nowhere.
#[derive(Debug)]
enum Choice {
    /// Go on elsewhere.
    Goto { step: usize, at: usize },
    /// Give back a character of a run, and go on.
    Shorter {
        step: usize,
        low: usize,
        high: usize,
    },
    /// Take another character for a run, and go on.
    Longer { run: usize, at: usize, left: u32 },
    /// Repeat once more.
    Repeat {
        again: usize,
        counter: usize,
        at: usize,
    },
    /// Take a note back.
    Note { slot: usize, at: usize },
    /// Take a count back.
    Count { counter: usize, to: Counter },
}

struct Search<'p, 't> {
    program: &'p Program,
    text: &'t str,
    /// Starts and ends of groups; the first two are not used.
    notes: Vec<usize>,
    counters: Vec<Counter>,
    choices: Vec<Choice>,
    steps_left: u64,
    /// Where the match must not end.
    forbidden_end: usize,
}

type Way = Option<(usize, usize)>;

impl<'p, 't> Search<'p, 't> {
    fn each(&mut self, mut token: impl FnMut(&'t str)) -> Result<(), OutOfSteps> {
        let mut at = 0;
        let mut must_advance = false;
        while let Some((start, end)) = self.next(at, must_advance)? {
            token(match self.program.n_groups {
                0 => &self.text[start..end],
                _ => self.group(1).unwrap_or_default(),
            });
            must_advance = start == end;
            at = end;
        }
        Ok(())
    }

    fn new(program: &'p Program, text: &'t str, Steps(steps): Steps) -> Self {
        let counter = Counter {
            count: 0,
            last: NOWHERE,
        };
        Self {
            program,
            text,
            notes: vec![NOWHERE; 2 * (program.n_groups + 1)],
            counters: vec![counter; program.n_counters],
            choices: Vec::new(),
            steps_left: steps + STEPS_PER_BYTE * text.len() as u64,
            forbidden_end: NOWHERE,
        }
    }

    /// Returns the next match from `from` on; one that begins there must have characters if `must_advance`.
    fn next(&mut self, from: usize, must_advance: bool) -> Result<Way, OutOfSteps> {
        self.forbidden_end = if must_advance { from } else { NOWHERE };
        let mut start = from;
        loop {
            let character = self.after(start);
            let may_begin = match (&self.program.first, character) {
                (None, _) => true,
                (Some(first), Some(character)) => first.has(character),
                (Some(_), None) => false,
            };
            self.spend(1)?;
            if may_begin {
                self.notes.fill(NOWHERE);
                self.choices.clear();
                if let Some(end) = self.run(0, start, true)? {
                    return Ok(Some((start, end)));
                }
            }
            let Some(character) = character else {
                return Ok(None);
            };
            start += character.len_utf8();
            self.forbidden_end = NOWHERE;
        }
    }

    fn group(&self, index: usize) -> Option<&'t str> {
        match self.notes[2 * index..][..2] {
            [start, end] if start != NOWHERE && end != NOWHERE && start <= end => {
                Some(&self.text[start..end])
            }
            _ => None,
        }
    }

    fn after(&self, at: usize) -> Option<char> {
        let byte = *self.text.as_bytes().get(at)?;
        match byte.is_ascii() {
            true => Some(char::from(byte)),
            false => self.text[at..].chars().next(),
        }
    }

    fn before(&self, at: usize) -> Option<char> {
        self.text[..at].chars().next_back()
    }

    fn spend(&mut self, n_steps: u64) -> Result<(), OutOfSteps> {
        self.steps_left = self.steps_left.checked_sub(n_steps).ok_or(OutOfSteps)?;
        Ok(())
    }

    /// Follows the program from `step` up to its [`Step::Accept`], and returns where that is.
    ///
    /// Choices that were left open stay, those of a way that led nowhere are gone.
    fn run(&mut self, step: usize, at: usize, is_whole: bool) -> Result<Option<usize>, OutOfSteps> {
        let base = self.choices.len();
        let mut way = Some((step, at));
        loop {
            let Some((step, at)) = way.or_else(|| self.retry(base)) else {
                return Ok(None);
            };
            self.spend(1)?;
            if self.choices.len() > CHOICES_MAX {
                return Err(OutOfSteps);
            }
            way = match self.program.steps[step] {
                Step::Accept if is_whole && at == self.forbidden_end => None,
                Step::Accept => return Ok(Some(at)),
                _ => self.follow(step, at)?,
            };
        }
    }

    fn follow(&mut self, step: usize, at: usize) -> Result<Way, OutOfSteps> {
        let program = self.program;
        let next = step + 1;
        Ok(match program.steps[step] {
            Step::Set(set) => self
                .after(at)
                .filter(|&c| program.sets[set].has(c))
                .map(|c| (next, at + c.len_utf8())),
            Step::Run { .. } => self.take_run(step, at)?,
            Step::Or(other) => {
                self.choices.push(Choice::Goto { step: other, at });
                Some((next, at))
            }
            Step::Jump(to) => Some((to, at)),
            Step::Note(slot) => {
                let before = std::mem::replace(&mut self.notes[slot], at);
                self.choices.push(Choice::Note { slot, at: before });
                Some((next, at))
            }
            Step::Place(place) => self.is_at(place, at).then_some((next, at)),
            Step::Begin(counter) => {
                self.count(counter, 0, NOWHERE);
                Some((next, at))
            }
            Step::Again { .. } => self.again(step, at),
            Step::Atomic { end } => {
                let base = self.choices.len();
                let found = self.run(next, at, false)?;
                self.decide(base)?;
                found.map(|at| (end, at))
            }
            Step::Look {
                negated,
                behind,
                end,
            } => self.look(next, at, behind, negated)?.then_some((end, at)),
            Step::Reference(group, fold) => {
                let text = self.group(group);
                self.spend(text.map_or(0, |text| text.len() as u64))?;
                text.and_then(|wanted| same_text(&self.text[at..], wanted, fold))
                    .map(|length| (next, at + length))
            }
            Step::Condition { group, no } => match self.group(group) {
                Some(_) => Some((next, at)),
                None => Some((no, at)),
            },
            Step::Accept => unreachable!("whoever follows the program looks for its end"),
        })
    }

    /// Goes back to the last choice that was left open since there were `base` of them.
    fn retry(&mut self, base: usize) -> Way {
        while self.choices.len() > base {
            match self.choices.pop()? {
                Choice::Goto { step, at } => return Some((step, at)),
                Choice::Shorter { step, low, high } => {
                    let high = high - self.before(high).map_or(0, char::len_utf8);
                    if high > low {
                        self.choices.push(Choice::Shorter { step, low, high });
                    }
                    return Some((step, high));
                }
                Choice::Longer { run, at, left } => {
                    let Step::Run { set, .. } = self.program.steps[run] else {
                        unreachable!("the choice was made at a run");
                    };
                    let set = &self.program.sets[set];
                    if let Some(c) = self.after(at).filter(|&c| set.has(c)) {
                        let at = at + c.len_utf8();
                        if left > 1 {
                            let left = left - 1;
                            self.choices.push(Choice::Longer { run, at, left });
                        }
                        return Some((run + 1, at));
                    }
                }
                Choice::Repeat { again, counter, at } => {
                    let count = self.counters[counter].count;
                    self.count(counter, count + 1, at);
                    return Some((again + 1, at));
                }
                Choice::Note { slot, at } => self.notes[slot] = at,
                Choice::Count { counter, to } => self.counters[counter] = to,
            }
        }
        None
    }

    /// Forgets the other ways since there were `base` choices, but not what is to be taken back if all of it leads nowhere.
    fn decide(&mut self, base: usize) -> Result<(), OutOfSteps> {
        self.spend((self.choices.len() - base) as u64)?;
        let mut kept = base;
        for index in base..self.choices.len() {
            if matches!(
                self.choices[index],
                Choice::Note { .. } | Choice::Count { .. }
            ) {
                self.choices.swap(kept, index);
                kept += 1;
            }
        }
        self.choices.truncate(kept);
        Ok(())
    }

    fn count(&mut self, counter: usize, count: u32, last: usize) {
        let to = std::mem::replace(&mut self.counters[counter], Counter { count, last });
        self.choices.push(Choice::Count { counter, to });
    }

    fn take_run(&mut self, step: usize, at: usize) -> Result<Way, OutOfSteps> {
        let Step::Run {
            set,
            min,
            max,
            taste,
        } = self.program.steps[step]
        else {
            unreachable!("only runs are taken");
        };
        let set = &self.program.sets[set];
        let Some(low) = self.advance(set, at, min)? else {
            return Ok(None);
        };
        if taste == Taste::Lazy {
            let left = max - min;
            if left > 0 {
                let run = step;
                self.choices.push(Choice::Longer { run, at: low, left });
            }
            return Ok(Some((step + 1, low)));
        }
        let mut high = low;
        let mut left = max - min;
        while let Some(c) = self.after(high).filter(|&c| left > 0 && set.has(c)) {
            high += c.len_utf8();
            left -= u32::from(max != u32::MAX);
        }
        self.spend((high - low) as u64)?;
        let step = step + 1;
        if taste == Taste::Greedy && high > low {
            self.choices.push(Choice::Shorter { step, low, high });
        }
        Ok(Some((step, high)))
    }

    /// Returns the place behind `n` characters of the set.
    fn advance(
        &mut self,
        set: &Characters,
        at: usize,
        n: u32,
    ) -> Result<Option<usize>, OutOfSteps> {
        let mut end = at;
        for _ in 0..n {
            let Some(c) = self.after(end).filter(|&c| set.has(c)) else {
                self.spend((end - at) as u64)?;
                return Ok(None);
            };
            end += c.len_utf8();
        }
        self.spend((end - at) as u64)?;
        Ok(Some(end))
    }

    fn again(&mut self, step: usize, at: usize) -> Way {
        let Step::Again {
            counter,
            min,
            max,
            is_lazy,
            exit,
        } = self.program.steps[step]
        else {
            unreachable!("only repetitions are repeated");
        };
        let Counter { count, last } = self.counters[counter];
        if count < min {
            self.count(counter, count + 1, last);
            return Some((step + 1, at));
        }
        // What matched nothing is not repeated at the same place.
        let may_repeat = (count < max || max == u32::MAX) && at != last;
        if is_lazy {
            if may_repeat {
                let again = step;
                self.choices.push(Choice::Repeat { again, counter, at });
            }
            return Some((exit, at));
        }
        if !may_repeat {
            return Some((exit, at));
        }
        self.choices.push(Choice::Goto { step: exit, at });
        self.count(counter, count.saturating_add(1), at);
        Some((step + 1, at))
    }

    fn look(
        &mut self,
        step: usize,
        at: usize,
        behind: u32,
        negated: bool,
    ) -> Result<bool, OutOfSteps> {
        self.spend(u64::from(behind))?;
        let mut start = Some(at);
        for _ in 0..behind {
            start = start.and_then(|at| Some(at - self.before(at)?.len_utf8()));
        }
        let base = self.choices.len();
        let found = match start {
            Some(start) => self.run(step, start, false)?.is_some(),
            None => false,
        };
        if found {
            self.decide(base)?;
        }
        if found && negated {
            // Only what takes notes back is left, so this finds no way.
            self.retry(base);
        }
        Ok(found != negated)
    }

    fn is_at(&self, place: Place, at: usize) -> bool {
        let rest = &self.text.as_bytes()[at..];
        match place {
            Place::Start => at == 0,
            Place::LineStart => at == 0 || self.before(at) == Some('\n'),
            Place::End => rest.is_empty() || rest == b"\n",
            Place::LineEnd => rest.is_empty() || rest[0] == b'\n',
            Place::VeryEnd => rest.is_empty(),
            Place::Boundary { ascii, negated } => {
                let is_word = |c: char| is_word(c) && (!ascii || c.is_ascii());
                let before = self.before(at).is_some_and(is_word);
                let after = self.after(at).is_some_and(is_word);
                // Up to Python 3.13 an empty text has no place within words.
                (before != after) != negated && !self.text.is_empty()
            }
        }
    }
}

/// Returns how many bytes of `text` are the same as `wanted`, if it begins so.
fn same_text(text: &str, wanted: &str, fold: Fold) -> Option<usize> {
    if fold == Fold::None {
        return text.starts_with(wanted).then_some(wanted.len());
    }
    let same = |a: char, b: char| match fold {
        Fold::None => a == b,
        Fold::Ascii => a.eq_ignore_ascii_case(&b),
        Fold::Unicode => lower(a) == lower(b),
    };
    let mut characters = text.chars();
    let mut length = 0;
    for wanted in wanted.chars() {
        let character = characters.next().filter(|&c| same(c, wanted))?;
        length += character.len_utf8();
    }
    Some(length)
}
