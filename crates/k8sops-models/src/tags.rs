//! What a model thinks, where its server leaves it in the text: between `<think>` and `</think>` at its beginning.

use std::mem;

const BEGIN: &str = "<think>";
const END: &str = "</think>";

/// Takes what stands between the tags at the beginning of a text out of it. The text comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Tags {
    place: Place,
    /// Text of which it is not known yet what it is.
    held: String,
    /// Some thought has been given.
    thought: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Place {
    /// It may still begin with the tag.
    #[default]
    Beginning,
    Inside,
    /// Right behind it, where white space is of no use.
    Behind,
    /// Further behind it, or there was none.
    Over,
}

/// What a piece held, or a part of it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Parted {
    pub(super) thought: String,
    /// Always behind the thought.
    pub(super) text: String,
}

impl Tags {
    /// Takes in a piece, and gives what of it, and of those before, is known by now.
    pub(super) fn push(&mut self, piece: &str) -> Parted {
        let mut parted = Parted::default();
        match self.place {
            Place::Over => piece.clone_into(&mut parted.text),
            Place::Behind => parted.text = self.behind(piece),
            Place::Beginning | Place::Inside => {
                self.held.push_str(piece);
                if self.place == Place::Inside || self.begins(&mut parted) {
                    self.inside(&mut parted);
                }
            }
        }
        parted
    }

    /// At the end of the text: what is left.
    pub(super) fn finish(&mut self) -> Parted {
        let held = mem::take(&mut self.held);
        match mem::replace(&mut self.place, Place::Over) {
            Place::Inside => Parted { thought: held, text: String::new() },
            Place::Beginning | Place::Behind | Place::Over => Parted { thought: String::new(), text: held },
        }
    }

    /// Whether the text begins with the tag, as far as that is known; when it does not, it is text.
    fn begins(&mut self, parted: &mut Parted) -> bool {
        let beginning = self.held.trim_start();
        if let Some(inside) = beginning.strip_prefix(BEGIN) {
            self.place = Place::Inside;
            self.held = inside.to_owned();
            return true;
        }
        if !BEGIN.starts_with(beginning) {
            self.place = Place::Over;
            parted.text = mem::take(&mut self.held);
        }
        false
    }

    fn inside(&mut self, parted: &mut Parted) {
        if !self.thought {
            self.held.drain(..self.held.len() - self.held.trim_start().len());
        }
        if let Some((thought, after)) = self.held.split_once(END) {
            let after = after.to_owned();
            thought.trim_end().clone_into(&mut parted.thought);
            self.held.clear();
            self.place = Place::Behind;
            parted.text = self.behind(&after);
            return;
        }
        // White space and what may be the beginning of the end stay back.
        let may_end = |at: usize| END.starts_with(&self.held[at..]);
        let end = self.held.char_indices().map(|(at, _)| at).rev().take(END.len()).filter(|at| may_end(*at)).last();
        let sure = self.held[..end.unwrap_or(self.held.len())].trim_end().len();
        let rest = self.held.split_off(sure);
        parted.thought = mem::replace(&mut self.held, rest);
        self.thought |= !parted.thought.is_empty();
    }

    fn behind(&mut self, piece: &str) -> String {
        let text = piece.trim_start();
        if !text.is_empty() {
            self.place = Place::Over;
        }
        text.to_owned()
    }
}
