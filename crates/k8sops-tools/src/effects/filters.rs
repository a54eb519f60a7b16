//! What may stand behind a pipe, or between two commands: programs that only pass text on.
//!
//! They read standard input, never a file: a file of the server may be its own token.

use super::{Judged, Sensitive, flags, lexer::Word, secrets};

/// What a filter does with what flows through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// It passes all of it on.
    Whole,
    /// It passes parts on, without what stood around them.
    Parts,
    /// It counts.
    Counts,
    /// It decodes.
    Decodes,
}

impl Filter {
    pub(super) fn leaves(self, held: Sensitive) -> Sensitive {
        match self {
            Self::Whole | Self::Counts => held,
            Self::Parts | Self::Decodes => Sensitive::Values,
        }
    }

    pub(super) fn decodes(self) -> bool {
        self == Self::Decodes
    }
}

/// What the command makes of its input. `None`: it is no filter.
pub(super) fn passes_on(command: &[Word]) -> Option<Filter> {
    Some(match command.first()?.text.as_str() {
        "cat" | "head" => Filter::Whole,
        "wc" => Filter::Counts,
        "base64" if command.iter().any(|word| matches!(word.text.as_str(), "-d" | "-D" | "--decode" | "-di")) => {
            Filter::Decodes
        }
        "jq" | "yq" if command.iter().any(|word| word.text.contains("base64")) => Filter::Decodes,
        name if TABLE.iter().any(|(known, ..)| *known == name) => Filter::Parts,
        _ => return None,
    })
}

/// How many operands are fine, and what they must look like.
#[derive(Clone, Copy)]
enum Operands {
    None,
    /// A pattern, unless `-e` gives it.
    Pattern,
    /// So many, whatever they are.
    Any(usize, usize),
    /// One program, which the check knows to be harmless.
    Program(fn(&str) -> bool),
    /// A number.
    Number,
    /// Nothing, or a format that starts with `+`.
    Format,
}

const NUMBERED: flags::Flags = &["1 2 3 4 5 6 7 8 9 0"];

/// The filters, with the flags that are harmless.
const TABLE: &[(&str, &[&str], Operands)] = &[
    ("grep", GREP, Operands::Pattern),
    ("egrep", GREP, Operands::Pattern),
    ("fgrep", GREP, Operands::Pattern),
    ("head", &["n,lines= c,bytes= q,quiet v,verbose"], Operands::None),
    ("tail", &["n,lines= c,bytes= q,quiet v,verbose"], Operands::None),
    ("wc", &["l,lines w,words c,bytes m,chars L"], Operands::None),
    (
        "sort",
        &["r,reverse n,numeric-sort h,human-numeric-sort u,unique f,ignore-case b d V,version-sort M g \
           s,stable k,key= t,field-separator="],
        Operands::None,
    ),
    (
        "uniq",
        &["c,count d,repeated u,unique i,ignore-case f,skip-fields= s,skip-chars= w,check-chars="],
        Operands::None,
    ),
    (
        "cut",
        &["d,delimiter= f,fields= c,characters= b,bytes= s,only-delimited complement output-delimiter="],
        Operands::None,
    ),
    ("tr", &["d,delete s,squeeze-repeats c,complement C t,truncate-set1"], Operands::Any(1, 2)),
    ("column", &["t,table s,separator= o,output-separator= c,output-width= N,table-columns="], Operands::None),
    ("cat", &["n,number A,show-all b s v e t E T"], Operands::None),
    ("tac", &[], Operands::None),
    ("rev", &[], Operands::None),
    ("nl", &["b="], Operands::None),
    ("base64", &["d,decode D i w,wrap="], Operands::None),
    ("awk", &["F= v="], Operands::Program(is_harmless_awk)),
    ("sed", &["n,quiet E r,regexp-extended"], Operands::Program(is_harmless_sed)),
    (
        "jq",
        &["r,raw-output c,compact-output S,sort-keys s,slurp e,exit-status M,monochrome-output C,color-output \
           a,ascii-output j,join-output n,null-input R,raw-input tab indent="],
        Operands::Program(is_harmless_jq),
    ),
    (
        "yq",
        &["r,unwrapScalar o,output-format= p,input-format= P,prettyPrint M,no-colors C,colors N,no-doc j,tojson y"],
        Operands::Program(is_harmless_jq),
    ),
    ("echo", &["n e E"], Operands::Any(0, usize::MAX)),
    ("printf", &[], Operands::Any(1, usize::MAX)),
    ("true", &[], Operands::None),
    ("false", &[], Operands::None),
    ("sleep", &[], Operands::Number),
    ("date", &["u,utc"], Operands::Format),
];

const GREP: &[&str] =
    &["E,extended-regexp F,fixed-strings G,basic-regexp P,perl-regexp i,ignore-case v,invert-match w,word-regexp \
     x,line-regexp n,line-number o,only-matching c,count q,quiet h,no-filename H a,text s,no-messages l \
     e,regexp= m,max-count= A,after-context= B,before-context= C,context= color? colour? line-buffered"];

/// Judges a filter and its arguments. `None`: it is not known.
pub(super) fn judge(name: &str, arguments: &[Word]) -> Option<Judged> {
    let (name, table, operands) = TABLE.iter().find(|(known, ..)| *known == name)?;
    // `-5` is a number of lines.
    let numbered = matches!(*name, "head" | "tail" | "grep" | "egrep");
    let tables = [*table, if numbered { NUMBERED } else { &[] }];
    let parsed = match flags::parse(arguments.iter(), &tables) {
        Ok(parsed) => parsed,
        // What `echo` does not know as a flag, it prints.
        Err(_) if *name == "echo" => return Some(Judged::read("`echo` prints")),
        Err(reason) => return Some(Judged::mutating(format!("`{name}`: {reason}"))),
    };
    let given: Vec<&str> = parsed.operands.iter().map(|word| word.text.as_str()).filter(|text| *text != "-").collect();
    let fine = match *operands {
        Operands::None => given.is_empty(),
        Operands::Pattern => given.len() == usize::from(!parsed.has("regexp")),
        Operands::Any(least, most) => (least..=most).contains(&given.len()),
        Operands::Program(harmless) => matches!(given.as_slice(), [program] if harmless(program)),
        Operands::Number => {
            matches!(given.as_slice(), [number] if number.len() < 5 && number.bytes().all(|byte| byte.is_ascii_digit()))
        }
        Operands::Format => given.iter().all(|format| format.starts_with('+')) && given.len() < 2,
    };
    Some(match fine {
        true => Judged::read(format!("`{name}` only filters")),
        false => Judged::mutating(format!("`{name}` with these arguments is not understood"))
            .with(secrets::in_words(arguments)),
    })
}

/// No other program, no file, no environment: awk reaches them by these words and signs only.
fn is_harmless_awk(program: &str) -> bool {
    let words = ["system", "getline", "ENVIRON", "ARG", "SYMTAB", "PROCINFO", "include", "load", "close", "fflush"];
    !program.contains(['|', '>', '<', '@', '`', '\\']) && !words.iter().any(|word| program.contains(word))
}

/// Lines by number or pattern, printed or left out; or one plain replacement.
fn is_harmless_sed(script: &str) -> bool {
    if script.contains(['\\', '[', '\n', ';', '{', '}']) {
        return false;
    }
    if let Some(replacement) = script.strip_prefix("s/") {
        let mut parts = replacement.split('/');
        let (_, _, options) = (parts.next(), parts.next(), parts.next());
        let plain = |options: &str| options.bytes().all(|byte| matches!(byte, b'g' | b'p' | b'i' | b'I'));
        return options.is_some_and(plain) && parts.next().is_none();
    }
    let Some(address) = script.strip_suffix(['p', 'd', 'q']) else { return false };
    if let Some(pattern) = address.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
        return !pattern.contains('/');
    }
    !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'$' | b','))
}

/// No file, no module, no environment of the server: jq and yq reach them by these names, which as keys of an object
/// stand behind a dot or in quotes.
fn is_harmless_jq(program: &str) -> bool {
    const NAMES: &[&str] = &[
        "env",
        "envsubst",
        "strenv",
        "ENV",
        "import",
        "include",
        "input_filename",
        "load",
        "load_str",
        "load_xml",
        "load_props",
        "load_base64",
        "system",
        "eval",
        "modulemeta",
        "get_search_list",
        "__loc__",
        "filename",
    ];
    let mut before = ' ';
    let mut word = String::new();
    let mut start = ' ';
    for char in program.chars().chain([' ']) {
        if char.is_ascii_alphanumeric() || char == '_' {
            if word.is_empty() {
                start = before;
            }
            word.push(char);
        } else {
            if NAMES.contains(&word.as_str()) && !matches!(start, '.' | '"') {
                return false;
            }
            word.clear();
        }
        before = char;
    }
    true
}
